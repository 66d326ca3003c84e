/**
 * 8. One bad row in a batch of 500 reported to the standalone server: another program has put a rule of its own on the log's table, and that
 * row breaks it. The other 499 are stored, that one is set aside with the reason, and what comes after it is stored as ever: also where the
 * rule ends the whole transaction.
 */
import Database from 'better-sqlite3'
import { atMost, files, holds, look, none, sized, startStandalone, until, type Context, type Scenario, type Standalone } from '../kit/index.js'

const ITEMS = 500
/** Position of the bad row in its batch. */
const BAD = 250
/** No request of anybody else has it. */
const BAD_STATUS = 418

/** How SQLite ends what breaks a rule, and what the reason in the dead letter must say. */
const RULES: Record<string, { sql: string, reason: RegExp }> = {
  'a unique index': { sql: `CREATE UNIQUE INDEX house_rule ON ip_log_rows (status) WHERE status = ${BAD_STATUS}`, reason: /^SQLITE_CONSTRAINT_UNIQUE: .*status/ },
  'a trigger, RAISE(ABORT)': { sql: trigger('ABORT'), reason: /^SQLITE_CONSTRAINT_TRIGGER: no teapots$/ },
  'a trigger, RAISE(FAIL)': { sql: trigger('FAIL'), reason: /^SQLITE_CONSTRAINT_TRIGGER: no teapots$/ },
  'a trigger, RAISE(ROLLBACK)': { sql: trigger('ROLLBACK'), reason: /^SQLITE_CONSTRAINT_TRIGGER: no teapots$/ }
}

export const poison: Scenario = {
  number: 8,
  title: 'Poison',
  async run (context) {
    for (const durability of sized(context, ['committed', 'queued'], ['committed'])) await poisoned(context, durability)
  }
}

async function poisoned (context: Context, durability: string): Promise<void> {
  const paths = files(context, durability)
  const server = await startStandalone(context, { DATABASE_URL: paths.url, IP_LOG_DURABILITY: durability })
  // For the unique index this one is the first of its kind, which is fine.
  await report(server, 'first', [BAD_STATUS])
  await until(() => count(paths.log, 'first') === 1, 5000)
  const expected = durability === 'committed' ? 201 : 202
  for (const [name, { sql, reason }] of Object.entries(RULES)) {
    const rule = name.replaceAll(/\W/g, '-')
    asSomebodyElse(paths.log, sql)
    const status = await report(server, rule, Array.from({ length: ITEMS }, (_, i) => i === BAD ? BAD_STATUS : 200))
    const after = await report(server, `${rule}-after`, Array<number>(ITEMS).fill(200))
    await until(() => count(paths.log, `${rule}-after`) === ITEMS && letters(paths.log, rule).length > 0, 5000)
    const found = letters(paths.log, rule)
    const stored = count(paths.log, rule)
    holds(context, `${durability}, ${name}: the batch`, status === expected && stored === ITEMS - 1, `${status}, ${stored} of ${ITEMS} stored`, `${expected}, ${ITEMS - 1} stored`)
    holds(context, `${durability}, ${name}: dead letters`, found.length === 1 && reason.test(found[0]!.reason) && found[0]!.path === pathOf(rule, BAD), found.map(letter => letter.reason).join('; ') || 'none', '1, that row, with the reason')
    holds(context, `${durability}, ${name}: the next batch`, after === expected && count(paths.log, `${rule}-after`) === ITEMS, `${after}, ${count(paths.log, `${rule}-after`)} of ${ITEMS} stored`, `${expected}, all stored`)
    if (stored !== ITEMS - 1) return // the queue may be stuck with it
    if (rule.includes('ROLLBACK')) await allPoisoned(context, durability, server, paths.log)
    asSomebodyElse(paths.log, sql.startsWith('CREATE TRIGGER') ? 'DROP TRIGGER house_rule' : 'DROP INDEX house_rule')
  }
  none(context, `${durability}: IP rows doubled`, look(paths.log, 'SELECT path FROM ip_logs WHERE path LIKE \'/poison/%\' GROUP BY path HAVING count(*) > 1').length)
}

/** The worst of it: every row ends the transaction it is in. */
async function allPoisoned (context: Context, durability: string, server: Standalone, log: string): Promise<void> {
  const items = sized(context, ITEMS, 50)
  const start = performance.now()
  await report(server, 'all', Array<number>(items).fill(BAD_STATUS))
  const settled = await until(() => letters(log, 'all').length >= items, 15_000)
  holds(context, `${durability}, every row ends its transaction: dead letters`, settled && letters(log, 'all').length === items, `${letters(log, 'all').length}`, `${items}`)
  atMost(context, `${durability}, every row ends its transaction: time until all ${items} are set aside`, performance.now() - start, 10_000, 'ms', 0)
}

function trigger (how: string): string {
  return `CREATE TRIGGER house_rule BEFORE INSERT ON ip_log_rows WHEN NEW.status = ${BAD_STATUS} BEGIN SELECT RAISE(${how}, 'no teapots'); END`
}

const pathOf = (name: string, index: number) => `/poison/${name}/${index}`

/** @returns the status of the answer */
async function report (server: Standalone, name: string, statuses: readonly number[]): Promise<number | undefined> {
  const items = statuses.map((status, i) => ({ requestId: `${name}-${i}`, method: 'GET', path: pathOf(name, i), status }))
  return (await server.post('/admin/ip-logs', { items }))?.status
}

function asSomebodyElse (file: string, sql: string): void {
  const db = new Database(file, { timeout: 10_000, fileMustExist: true })
  db.exec(sql)
  db.close()
}

function count (log: string, name: string): number {
  return look<{ n: number }>(log, `SELECT count(*) AS n FROM ip_logs WHERE path LIKE '${pathOf(name, 0).slice(0, -1)}%'`)[0]!.n
}

function letters (log: string, name: string): { reason: string, path: string }[] {
  return look<{ reason: string, path: string }>(log, 'SELECT reason, content ->> \'path\' AS path FROM dead_letters').filter(({ path }) => path.startsWith(pathOf(name, 0).slice(0, -1)))
}
