/**
 * 5. The standalone server is asked to stop (SIGTERM) with a full queue, while a foreign program holds both locks: first for some
 * seconds, then for ever. In time, everything is stored and the exit code says so; past the deadline it ends all the same, and says
 * what was not stored. No login is acknowledged and lost either way.
 */
import { randomUUID } from 'node:crypto'
import { atMost, files, holds, look, none, sized, sleep, startOutsider, startStandalone, until, type Context, type Outsider, type Scenario, type Standalone } from '../kit/index.js'

const ITEMS = 500
const LOGINS = 20
/** How long a stop may take beyond its deadline, ms: the process has to end, too. */
const LAST_STEPS = 1000

/** The server with its queue full and logins under way, everything locked. */
interface Loaded {
  server: Standalone
  outsider: Outsider
  paths: ReturnType<typeof files>
  /** Rows of other services that were answered with 202. */
  accepted: number
  /** Requests sent to it. */
  requests: number
  /** Answers to the logins: the id of the session, or null. */
  logins: Promise<(string | null)[]>
}

export const close: Scenario = {
  number: 5,
  title: 'Close',
  async run (context) {
    await lockEnds(context)
    await lockStays(context)
  }
}

async function lockEnds (context: Context): Promise<void> {
  const held = sized(context, 3000, 1000)
  // Left at its default in full: what the documentation promises.
  const { server, outsider, paths, accepted, requests, logins } = await load(context, 'ends', {})
  server.process.kill('SIGTERM')
  await until(() => server.log.some(line => line.msg === 'stopping'))
  // These come too late: refused, or not even connected.
  const late = Promise.all(Array.from({ length: LOGINS }, () => logIn(server)))
  await sleep(held)
  holds(context, `lock for ${held / 1000} s: still there at its end`, server.process.exitCode === null)
  const released = performance.now()
  await outsider.release()
  const { code, signal } = await server.ended
  atMost(context, `lock for ${held / 1000} s: from its end to the end of the process`, performance.now() - released, 3000, 'ms', 0)
  holds(context, `lock for ${held / 1000} s: exit code`, code === 0, `${code ?? signal}`, '0')
  none(context, `lock for ${held / 1000} s: queued rows not stored, or twice`, Math.abs(accepted - reported(paths.log)) + doubled(paths.log), accepted)
  none(context, `lock for ${held / 1000} s: requests of its own without a row`, Math.max(0, requests - own(paths.log)), requests)
  const before = await logins
  holds(context, `lock for ${held / 1000} s: logins under way at the signal, answered with a session`, before.every(id => id !== null), `${acknowledged(before).length} of ${before.length}`, 'all')
  const all = acknowledged([...before, ...await late])
  none(context, `lock for ${held / 1000} s: sessions acknowledged and lost`, lost(paths.main, all), all.length)
}

async function lockStays (context: Context): Promise<void> {
  const timeout = sized(context, 4000, 1000)
  const { server, outsider, paths, accepted, requests, logins } = await load(context, 'stays', { CLOSE_TIMEOUT: `${timeout}ms` })
  const asked = performance.now()
  server.process.kill('SIGTERM')
  const { code, signal } = await server.ended
  atMost(context, `lock for ever: from the signal to the end of the process (CLOSE_TIMEOUT ${timeout / 1000} s)`, performance.now() - asked, timeout + LAST_STEPS, 'ms', 0)
  holds(context, 'lock for ever: exit code', code === 1, `${code ?? signal}`, '1')
  await outsider.release()
  const ids = acknowledged(await logins)
  none(context, 'lock for ever: sessions acknowledged and lost', lost(paths.main, ids), LOGINS)
  none(context, 'lock for ever: sessions stored without an answer', look<{ n: number }>(paths.main, 'SELECT count(*) AS n FROM sessions')[0]!.n - ids.length, LOGINS)

  const given = accepted + requests
  const stored = reported(paths.log) + own(paths.log)
  const said = dropped(server)
  holds(context, 'lock for ever: rows not stored, as its log says', said === given - stored && stored === 0, `${said}`, `${given - stored}`)
  const [, operations] = /^DOORMAN_CLOSE_INCOMPLETE: .* (\d+) operations were not stored$/m.exec(server.stderr) ?? []
  holds(context, 'lock for ever: rows and logins not stored, as its last words say', operations === `${given + LOGINS}`, operations ?? server.stderr.trim(), `${given + LOGINS}`)
}

async function load (context: Context, name: string, env: Record<string, string>): Promise<Loaded> {
  const paths = files(context, name)
  const server = await startStandalone(context, { DATABASE_URL: paths.url, ...env })
  const outsider = startOutsider(context)
  await outsider.lock(paths.main, paths.log)

  const logins = Promise.all(Array.from({ length: LOGINS }, () => logIn(server)))
  const reports = sized(context, 40, 10)
  let accepted = 0
  for (let i = 0; i < reports; i++) {
    const answer = await server.post('/admin/ip-logs', { items: items() })
    if (answer?.status !== 202) throw new Error(`not queued: ${answer?.status} ${JSON.stringify(answer?.body)}`)
    accepted += answer.body['accepted'] as number
  }
  context.note(`lock ${name}: ${accepted} rows queued, ${LOGINS} logins under way`)
  return { server, outsider, paths, accepted, requests: reports + LOGINS, logins }
}

const items = () => Array.from({ length: ITEMS }, (_, i) => ({ requestId: randomUUID(), ip: '192.0.2.1', method: 'GET', path: `/item/${i}`, status: 200 }))

/** The id of the session, or null without one. */
async function logIn (server: Standalone): Promise<string | null> {
  const answer = await server.post('/sessions', { userId: 'somebody' })
  return answer?.status === 201 ? (answer.body['session'] as { id: string }).id : null
}

const acknowledged = (ids: readonly (string | null)[]) => ids.filter(id => id !== null)

const countRows = (logFile: string, where: string) => look<{ n: number }>(logFile, `SELECT count(*) AS n FROM ip_logs WHERE ${where}`)[0]!.n
const reported = (logFile: string) => countRows(logFile, "outcome = 'reported'")
/** A late login may have left one as well. */
const own = (logFile: string) => countRows(logFile, "path IN ('/sessions', '/admin/ip-logs')")
const doubled = (logFile: string) => reported(logFile) - look<{ n: number }>(logFile, "SELECT count(DISTINCT request_id) AS n FROM ip_logs WHERE outcome = 'reported'")[0]!.n

function lost (mainFile: string, ids: readonly string[]): number {
  const stored = new Set(look<{ id: string }>(mainFile, 'SELECT id FROM sessions').map(({ id }) => id))
  return ids.filter(id => !stored.has(id)).length
}

/** Rows that the server's log says were given up. */
function dropped ({ log }: Standalone): number {
  return log.filter(line => line.msg === 'log rows were dropped').reduce((sum, line) => sum + ((line['dropped'] as Record<string, number>)['close-deadline'] ?? 0), 0)
}
