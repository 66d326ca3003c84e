/** `doorman migrate`: from SQLite files to a real PostgreSQL, also while a service writes, and after it was killed. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { MigrationReport } from '../lib/migration.js'
import { openStorage } from '../storage/open.js'
import type { ActivityRow, IpLogRow, SessionRecord, Storage } from '../storage/storage.js'
import { runChild, startChild } from './child.js'
import { recordingLogger, tempDir, until } from './helper.js'
import { freshDatabase } from './postgres/database.js'
import { query } from './postgres/server.js'
import { KEY } from './routes/helper.js'

const DAY = 86_400_000
const quiet = recordingLogger()
const open = (url: string) => openStorage({ url, logUrl: null, busyTimeout: 10_000, maxPending: 1000, log: quiet })

const session = (n: number, now: number): SessionRecord => ({
  id: `s${n}`, userId: `u${n % 7}`, createdAt: now - n, lastActiveAt: now, authenticatedAt: now, rotatedAt: now, expiresAt: now + DAY, ip: '192.0.2.1', lastIp: null, userAgent: 'curl "8"', lastUserAgent: null, device: '\\', flagged: n % 2 === 0, data: '{"ü":{}}'
})
const ipLog = (at: number, n: number): IpLogRow => ({
  kind: 'ip', at, ip: n % 3 === 0 ? null : `198.51.100.${n % 200}`, ipSource: 'socket', peerIp: n % 5 === 0 ? '2001:db8::1' : null, peerPort: n % 2 === 0 ? 1024 + n % 60_000 : null, trustedHops: n % 4, method: 'GET', path: `/p/${n % 50}`, route: null, status: 200, durationUs: n, userAgent: n % 4 === 0 ? null : `agent, {${n % 9}}`, referer: null, sessionId: `s${n % 11}`, userId: n % 6 === 0 ? null : `u${n % 7}`, requestId: `r${n}`, outcome: 'replied'
})
const activity = (at: number, n: number): ActivityRow => ({ kind: 'activity', at, userId: `u${n % 7}`, sessionId: null, action: 'login', ip: null, detail: n % 2 === 0 ? null : '{"n":1}' })

let seq = 0
/** Fills a database with something of everything. */
async function fill (storage: Storage, rows: number, now = Date.now()): Promise<void> {
  const hash = (n: number) => Buffer.alloc(32, n).toString('hex')
  for (let n = 0; n < 20; n++) await storage.createSession({ tokenHash: hash(n * 13), session: session(n, now), limit: null, now, idleBefore: 0, device: n % 5 === 0 ? null : { device: n % 2 === 0 ? null : `a "${n % 3}" 😀`, network: n % 3 === 0 ? null : `192.0.${n}.0/24` } })
  await storage.endSessions({ id: 's3' }, 'revoked', now)
  await storage.rotateSession({ sessionId: 's4', fromHash: hash(4 * 13), toHash: hash(250), now, graceUntil: now + 5000, reauthenticated: null })
  await storage.addBlock({ id: 'b1', cidr: '192.0.2.0/24', until: null, reason: 'scanner', createdAt: now })
  await storage.addCleanupRun({ id: 'c1', startedAt: now, durationMs: 1, dryRun: false, trigger: 'manual', complete: true, removed: {} as never, freedPages: 0, error: null })
  for (let from = 0; from < rows; from += 500) {
    // Across three days; many of them in one and the same millisecond, more than it has ids for.
    const batch = Array.from({ length: 500 }, (_, i) => ipLog(i % 3 === 0 ? now - DAY : now - (from + i) * 2 * DAY / rows, from + i)).map(row => ({ ...row, at: Math.floor(row.at) }))
    await storage.appendLog({ source: 'fill', seq: ++seq, at: now, rows: [...batch, activity(now - from, from), { ...ipLog(now, from), idempotencyKey: `k${from}` }] })
  }
  await storage.appendLog({ source: 'fill', seq: ++seq, at: now, rows: [{ ...ipLog(now, 0), status: 1e9 }] })
}

async function withFiles (t: Test, rows = 5000): Promise<{ dir: string, from: string, to: string }> {
  const dir = tempDir()
  const from = `file:${join(dir, 'data', 'doorman.db')}`
  const storage = await open(from)
  await fill(storage, rows)
  await storage.close(5000)
  return { dir, from, to: await freshDatabase() }
}

const migrate = (t: Test, dir: string, to: string, ...args: string[]) => runChild(t, 'cli.js', ['migrate', '--to', to, ...args], { BUSY_TIMEOUT: '20s' }, dir)
async function report (t: Test, dir: string, to: string, ...args: string[]): Promise<MigrationReport & { code: number | null }> {
  const { code, stdout, stderr } = await migrate(t, dir, to, '--json', ...args)
  if (!stdout.startsWith('{')) throw new Error(stderr)
  return { ...JSON.parse(stdout) as MigrationReport, code }
}

/** All that a storage shows, but for ids that mean nothing outside. */
async function everything (storage: Storage) {
  const now = Date.now()
  const logs = (await storage.listIpLogs({}, { limit: 100_000 })).items
  const users = await Promise.all(Array.from({ length: 7 }, (_, n) => storage.exportUser(`u${n}`, 100_000)))
  return {
    sessions: (await storage.listSessions({ now: 0, idleBefore: 0, limit: 1000 })).items,
    ended: users.map(user => user.endedSessions.map(ended => JSON.stringify(ended)).sort()),
    devices: users.map(user => user.devices),
    logs: logs.map(({ id, ...row }) => JSON.stringify(row)).sort(),
    activity: (await storage.listActivity({}, { limit: 1000 })).items.map(({ id, ...row }) => JSON.stringify(row)).sort(),
    blocks: await storage.listBlocks(now),
    runs: (await storage.listCleanupRuns({ limit: 10 })).items
  }
}

t.test('everything arrives, tokens work, and a repeated run finds nothing to do', async t => {
  const { dir, from, to } = await withFiles(t)
  const first = await report(t, dir, to)
  t.match(first, { code: 0, mode: 'copy', passes: 2, lastPass: 0, same: true, finished: false })
  t.match(Object.fromEntries(first.tables.map(({ table, targetRows }) => [table, targetRows])), { ip_logs: 5010, user_activity: 10, dead_letters: 1, ingested: 10, ip_blocks: 1, cleanup_runs: 1, session_devices: 16, session_tombstones: 2, sessions: 19 })
  for (const { checksum, targetChecksum } of first.tables) t.equal(targetChecksum, checksum)
  await t.rejects(open(to), { code: 'DOORMAN_MIGRATION_UNFINISHED' }, 'what a service stored now would be removed again')

  const last = await migrate(t, dir, to, '--final')
  t.match(last, { code: 0 })
  t.match(last.stdout, /ip_logs +5010 +[0-9a-f]{12} +5010 +[0-9a-f]{12} +same\n[^]*\n0 rows written, 0 replaced or removed, in 1 pass\.\n0 rows read back and compared\.\nEverything is there\./)
  t.match(await report(t, dir, to, '--verify'), { code: 0, verified: 5070, same: true })
  t.match(await migrate(t, dir, to), { code: 1, stderr: /^doorman: This migration was finished on 20/ })

  const [before, after] = [await open(from), await open(to)]
  t.teardown(() => Promise.all([before.close(1000), after.close(1000)]))
  t.strictSame(await everything(after), await everything(before))
  t.match(await after.findSession(Buffer.alloc(32, 13).toString('hex'), Date.now()), { state: 'live', session: { id: 's1' } })
  t.match(await after.findSession(Buffer.alloc(32, 39).toString('hex'), Date.now()), { state: 'ended', reason: 'revoked' })
  // New rows do not meet the old ones.
  await after.appendLog({ source: 'new', seq: 1, at: Date.now(), rows: [activity(Date.now(), 1), { ...ipLog(Date.now(), 0), status: 1e9 }, { ...ipLog(Date.now(), 0), idempotencyKey: 'k500' }] })
  t.match(await query(to, 'SELECT count(*)::int AS n FROM dead_letters'), [{ n: 2 }])
  t.equal((await after.listIpLogs({}, { limit: 100_000 })).items.length, 5010)
})

t.test('killed at any moment, a run goes on where it was', async t => {
  const { dir, to } = await withFiles(t, 20_000)
  let kills = 0
  for (let rows = 1; kills < 3; rows += 6000) {
    const child = startChild(t, 'cli.js', ['migrate', '--to', to, '--json'], { BUSY_TIMEOUT: '20s' }, dir)
    const stored = async () => {
      const [found] = await query<{ n: number }>(to, 'SELECT sum(row_count)::int AS n FROM doorman_import_ranges').catch(() => [{ n: 0 }])
      return (found?.n ?? 0) >= rows
    }
    let over = false
    child.ended.then(() => { over = true }, () => {})
    await until(async () => over || await stored())
    if (over) break
    child.process.kill('SIGKILL')
    await child.ended
    kills++
  }
  t.ok(kills > 0, `${kills} kills`)
  const result = await report(t, dir, to, '--final')
  t.match(result, { code: 0, same: true, finished: true })
  t.ok(result.added < 20_000, `${result.added} rows were left to be written`)
})

t.test('a row that somebody has changed in the target is noticed', async t => {
  const { dir, to } = await withFiles(t, 1000)
  t.match(await report(t, dir, to), { code: 0 })
  await query(to, 'UPDATE ip_logs SET status = 500 WHERE request_id = \'r77\'')
  const tampered = await report(t, dir, to, '--verify')
  t.match(tampered, { code: 1, same: false })
  t.strictSame(tampered.tables.filter(({ same }) => !same).map(({ table, rows, targetRows }) => [table, rows, targetRows]), [['ip_logs', 1002, 1002]])
  t.match(await migrate(t, dir, to), { code: 0, stdout: /\n1 rows written, 1 replaced or removed/ }, 'and repaired')

  await query(to, 'DELETE FROM sessions WHERE id = \'s1\'')
  const { code, stdout } = await migrate(t, dir, to, '--verify')
  t.equal(code, 1)
  t.match(stdout, /sessions +19 +[0-9a-f]{12} +18 +[0-9a-f]{12} +DIFFERENT\n[^]*The target is not what was read\./)
})

t.test('while a service writes, logs people in and out, and erases; then the change-over', async t => {
  const { dir, from, to } = await withFiles(t, 5000)
  const server = startChild(t, 'server.js', [], { API_KEYS: KEY, LOG_LEVEL: 'warn' }, dir)
  const [, url] = await server.output(/listens on (\S+)/)
  const call = (method: string, path: string, body?: object) => fetch(`${url}${path}`, { method, headers: { authorization: `Bearer ${KEY}`, ...body === undefined ? {} : { 'content-type': 'application/json' } }, ...body === undefined ? {} : { body: JSON.stringify(body) } })
  const tokens: string[] = []
  const writing = { on: true }
  const load = (async () => {
    for (let n = 0; writing.on; n++) {
      const { token, session } = await (await call('POST', '/sessions', { userId: `live${n % 5}` })).json() as { token: string, session: { id: string } }
      if (n % 3 === 0) await call('DELETE', `/admin/sessions/${session.id}`)
      else tokens.push(token)
      if (n === 20) await call('DELETE', '/admin/users/u2')
      // Reported late: its place is in the past.
      await call('POST', '/admin/ip-logs', { items: [{ ip: '203.0.113.9', path: '/late', requestId: `late-${n}`, at: new Date(Date.now() - 3_600_000 * (n % 30)).toISOString() }] })
    }
  })()
  for (let run = 0; run < 2; run++) t.match(await report(t, dir, to), { code: 0, same: true, finished: false })
  t.match(await migrate(t, dir, to, '--final'), { code: 1, stderr: /^doorman: The file \S+doorman\.db is open in another process/ })
  await until(() => tokens.length > 30)
  writing.on = false
  await load
  server.process.kill('SIGTERM')
  t.equal((await server.ended).code, 0)

  t.match(await report(t, dir, to, '--final'), { code: 0, passes: 1, same: true, finished: true })
  const [before, after] = [await open(from), await open(to)]
  const [old, now] = [await everything(before), await everything(after)]
  await Promise.all([before.close(1000), after.close(1000)])
  t.strictSame(now, old)
  t.ok(now.logs.length > 5000 && !now.logs.some(row => row.includes('"u2"')))

  const successor = startChild(t, 'server.js', [], { API_KEYS: KEY, LOG_LEVEL: 'warn', DATABASE_URL: to }, dir)
  const [, newUrl] = await successor.output(/listens on (\S+)/)
  for (const token of tokens) t.equal((await fetch(`${newUrl}/session`, { headers: { authorization: `Bearer ${token}` } })).status, 200)
  successor.process.kill('SIGTERM')
  t.equal((await successor.ended).code, 0)
})

t.test('what is refused, and why', async t => {
  const { dir, to } = await withFiles(t, 500)
  for (const [args, code, message] of [
    [[], 2, /expected --to URL; usage: doorman migrate --to URL/],
    [['--to', to, '--final', '--verify'], 2, /--final and --verify exclude each other/],
    [['--to', 'file:./other.db'], 1, /^doorman: The database URL must be that of a PostgreSQL to migrate to/],
    [['--to', 'mysql://root:hunter2@h/d'], 1, /got "mysql:\/\/\*\*\*@h\/d"/],
    [['--to', to, '--verify'], 1, /cannot be migrated to: nothing has been migrated to it/]
  ] as const) {
    const result = await runChild(t, 'cli.js', ['migrate', ...args], {}, dir)
    t.match(result, { code, stdout: '', stderr: message }, args.join(' '))
  }

  const nowhere = await migrate(t, tempDir(), to)
  t.match(nowhere, { code: 1, stderr: /doorman\.db cannot be opened: there is no such file/ })
  t.notOk(existsSync(join(dir, 'data', 'other.db')))

  t.match(await report(t, dir, to), { code: 0 })
  const other = await withFiles(t, 500)
  t.match(await migrate(t, other.dir, to), { code: 1, stderr: /it has the data of another database/ })
  const used = await open(other.to)
  await used.addBlock({ id: 'b', cidr: '192.0.2.0/24', until: null, reason: null, createdAt: 1 })
  await used.close(1000)
  t.match(await migrate(t, dir, other.to), { code: 1, stderr: /its table ip_blocks has rows that no migration brought/ })

  const gone = new URL(to)
  gone.pathname = '/missing'
  const unreachable = await migrate(t, dir, gone.href)
  t.match(unreachable, { code: 1, stderr: /^doorman: The database "missing" on 127\.0\.0\.1:\d+ cannot be used/ })
  t.notMatch(unreachable.stderr, gone.password)
})

t.test('two runs at once: the later one goes on, the earlier one stops', async t => {
  const { dir, to } = await withFiles(t, 20_000)
  const earlier = startChild(t, 'cli.js', ['migrate', '--to', to], {}, dir)
  await until(async () => (await query<{ n: number }>(to, 'SELECT count(*)::int AS n FROM doorman_import_ranges').catch(() => []))[0]?.n !== undefined)
  // It stands still while the later one runs, so that it cannot be done before; not within a transaction, whose locks would stay.
  await until(async () => {
    earlier.process.kill('SIGSTOP')
    const [open] = await query<{ n: number }>(to, 'SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL')
    if (open!.n > 0) earlier.process.kill('SIGCONT')
    return open!.n === 0
  })
  const later = await report(t, dir, to)
  t.match(later, { code: 0, same: true })
  earlier.process.kill('SIGCONT')
  t.match(await earlier.ended, { code: 1, stderr: /Another run of this migration has begun/ })
})
