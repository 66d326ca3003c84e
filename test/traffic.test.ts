/**
 * The main job on real input: access logs replayed over real sockets against the running server, then the database compared with the
 * log. The logs stand beside the repository (../shared/traffic); without them these tests are skipped, visibly.
 */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { normaliseAddress } from '../lib/address.js'
import { cleanHeader } from '../lib/text.js'
import { tempDir } from './helper.js'

const traffic = resolve('../shared/traffic')
const skip = existsSync(traffic) ? false : 'the access logs (../shared/traffic) are not on this machine'
const script = new URL('../server.js', import.meta.url).pathname
const KEY = 'k'.repeat(40)

interface Expected {
  summary: { sent: number, answered: number, app: number, rejectedBeforeApp: number, errors: Record<string, number>, rawProbes: { sent: number, replies: Record<string, number> } }
  perIp: Record<string, { app: number }>
  perUserAgent: Record<string, number>
}
interface ReplayOptions { logs: string[], base: string, out: string, concurrency?: number, ipList?: string, limit?: number, malformed?: string }

/** Replays a log against a fresh server; returns what was sent, and the rows that are in the database after its orderly stop. */
async function replayed (t: Test, log: string, options: Partial<ReplayOptions> = {}) {
  const dir = tempDir()
  const server = spawn(process.execPath, [...process.execArgv, script], {
    cwd: dir,
    env: { ...process.env, PORT: '0', LOG_LEVEL: 'warn', DATABASE_URL: `file:${join(dir, 'doorman.db')}`, TRUST_PROXY: 'loopback', API_KEYS: KEY },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const exited = once(server, 'exit')
  t.teardown(async () => {
    server.kill('SIGKILL')
    await exited
  })
  let output = ''
  server.stdout.setEncoding('utf8').on('data', text => { output += text })
  while (!/listens on (\S+)/.test(output)) await once(server.stdout, 'data')
  const base = /listens on (\S+)/.exec(output)![1]!
  const { replay } = await import(pathToFileURL(join(traffic, 'replay.mjs')).href) as { replay (options: ReplayOptions): Promise<unknown> }
  const out = join(dir, 'expected.json')
  await replay({ logs: [join(traffic, log)], base, out, concurrency: 16, ...options })
  const expected = JSON.parse(readFileSync(out, 'utf8')) as Expected
  server.kill('SIGTERM')
  const [code] = await once(server, 'exit')
  t.equal(code, 0, 'the server stopped in order')
  const db = new Database(join(dir, 'doorman-log.db'), { readonly: true })
  t.teardown(() => db.close())
  return { expected, db }
}

/** Adds up counts under the names the database must have them. */
function tally (counts: Iterable<readonly [string, number]>, name: (raw: string) => string | null): Record<string, number> {
  const sums = new Map<string, number>()
  for (const [raw, n] of counts) if (n > 0) sums.set(String(name(raw)), (sums.get(String(name(raw))) ?? 0) + n)
  return Object.fromEntries([...sums].sort())
}

function stored (db: Database.Database, column: string, where: string): Record<string, number> {
  const rows = db.prepare(`SELECT ${column} AS value, count(*) AS n FROM ip_logs WHERE ${where} GROUP BY ${column}`).all() as { value: string | null, n: number }[]
  return Object.fromEntries(rows.map(row => [String(row.value), row.n] as const).sort())
}

/** What the parser refused never became a request of Fastify's, so it has no id. */
const ANSWERED_BY_APP = 'request_id IS NOT NULL'

const count = (db: Database.Database, where = 'true') => db.prepare(`SELECT count(*) FROM ip_logs WHERE ${where}`).pluck().get() as number

for (const log of ['ployt0-nginx-2022.log', 'elastic-apache-2015.log', 'hostile-mix.log']) {
  t.test(`${log}: the database agrees with the log`, { skip }, async t => {
    const { expected: { summary, perIp, perUserAgent }, db } = await replayed(t, log)
    t.same(summary.errors, {}, 'every request was answered')
    t.same(stored(db, 'ip', ANSWERED_BY_APP), tally(Object.entries(perIp).map(([ip, { app }]) => [ip, app]), normaliseAddress), 'count per address')
    t.same(stored(db, 'coalesce(user_agent, \'\')', ANSWERED_BY_APP), tally(Object.entries(perUserAgent), ua => cleanHeader(ua, 500)), 'count per user agent')
    t.equal(count(db, `NOT (${ANSWERED_BY_APP})`), summary.rejectedBeforeApp, 'requests the parser refused')
    t.equal(count(db), summary.sent, 'all that was sent, each exactly once')
    t.equal(db.prepare('SELECT count(*) FROM dead_letters').pluck().get(), 0)
    t.comment(`${summary.sent} sent, ${summary.app} answered by the app, ${summary.rejectedBeforeApp} refused by the parser, ${count(db, 'outcome = \'refused\'')} rows "refused"`)
  })
}

t.test('bytes that are no HTTP: every one that got an answer has its row', { skip }, async t => {
  const { expected: { summary }, db } = await replayed(t, 'hostile-mix.log', { malformed: 'raw' })
  const answered = Object.entries(summary.rawProbes.replies).filter(([reply]) => reply.startsWith('HTTP/1.1 ')).reduce((sum, [, n]) => sum + n, 0)
  t.ok(answered > 100)
  // One of them is an empty line and no more: those are passed over (RFC 9112, 2.2), so there is no request, no reply and no row.
  t.same([summary.rawProbes.sent - answered, summary.rawProbes.replies['closed']], [1, 1])
  t.equal(count(db), summary.sent + answered)
  t.comment(JSON.stringify(summary.rawProbes))
})

t.test('every spelling of an address lands in canonical form', { skip }, async t => {
  const { expected: { perIp, summary }, db } = await replayed(t, 'ployt0-nginx-2022.log', { ipList: join(traffic, 'corpora/ip/valid.txt') })
  t.same(stored(db, 'ip', ANSWERED_BY_APP), tally(Object.entries(perIp).map(([ip, { app }]) => [ip, app]), normaliseAddress))
  t.equal(db.prepare('SELECT count(*) FROM ip_logs WHERE ip IS NULL').pluck().get(), 0)
  const addresses = db.prepare(`SELECT DISTINCT ip FROM ip_logs WHERE ${ANSWERED_BY_APP}`).pluck().all() as string[]
  for (const ip of addresses) t.ok(isIP(ip) !== 0 && (isIP(ip) === 4 || new URL(`http://[${ip}]`).hostname === `[${ip}]`), ip)
  t.equal(db.prepare('SELECT count(*) FROM ip_logs').pluck().get(), summary.answered)
})

t.test('nothing invalid is stored as an address', { skip }, async t => {
  const list = join(traffic, 'corpora/ip/invalid.txt')
  const { expected: { summary }, db } = await replayed(t, 'ployt0-nginx-2022.log', { ipList: list })
  // The list is of what is no IPv6 address as written; plain IPv4 is an address all the same, and HTTP drops the blanks around a header's value.
  const good = readFileSync(list, 'latin1').split('\n').map(line => line.trim()).filter(line => isIP(line) !== 0).map(line => normaliseAddress(line))
  t.same(db.prepare(`SELECT DISTINCT ip FROM ip_logs WHERE ip IS NOT NULL AND ${ANSWERED_BY_APP} ORDER BY 1`).pluck().all(), [...new Set(good)].sort())
  t.equal(db.prepare('SELECT count(*) FROM ip_logs').pluck().get(), summary.answered)
})
