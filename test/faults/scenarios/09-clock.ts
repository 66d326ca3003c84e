/**
 * 9. The clock of the running service jumps a day forward, is set right, and then goes an hour back. Sessions end and live as
 * docs/architecture.md says, the cleanup removes nothing by a wrong clock, and nothing that is measured is ever negative.
 */
import { once } from 'node:events'
import { Agent } from 'node:http'
import net from 'node:net'
import Database from 'better-sqlite3'
import type { Page, StoredIpLog } from '../../../storage/storage.js'
import { compareRows, files, holds, Ledger, logIn, look, none, send, sized, sleep, startLoad, startService, until, type Context, type HeldSession, type Scenario, type Service } from '../kit/index.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

export const clock: Scenario = {
  number: 9,
  title: 'Clock jumps a day forward and an hour back',
  async run (context) {
    const paths = files(context)
    const seeds = await seed(context, paths.url)
    const interval = sized(context, 5000, 1000)
    const service = await startService(context, { doorman: { database: { url: paths.url }, cleanup: { interval } } })
    const count = (file: string, table: string) => look<{ n: number }>(file, `SELECT count(*) AS n FROM ${table}`)[0]!.n
    const runs = () => look<{ startedAt: number }>(paths.main, 'SELECT started_at AS startedAt FROM cleanup_runs WHERE trigger = \'schedule\' ORDER BY rowid')
    const warnings = () => service.log.filter(line => line.msg.startsWith('The clock jumped')).length
    const old = () => count(paths.log, 'ip_logs WHERE path LIKE \'/anonymous/old-%\'')
    const young = () => count(paths.log, 'ip_logs WHERE path LIKE \'/anonymous/kept-%\'')
    const sessions = () => count(paths.main, 'sessions WHERE user_id NOT LIKE \'user-slow%\'')
    const { fresh, idle } = seeds
    let live = fresh.length + idle.length

    await until(() => runs().length > 0)
    holds(context, 'right clock: the scheduled cleanup removed what was too old, and only that',
      old() === 0 && sessions() === live && young() === seeds.rows, `${seeds.gone - (sessions() - live)} sessions, ${seeds.rows - old()} rows`, `${seeds.gone} sessions, ${seeds.rows} rows`)

    const ledger = new Ledger()
    const load = startLoad({ targets: [service.address], ledger, rate: 100, mix: { anonymous: 1 } })
    const slow = await startRequests(service, 'slow')

    context.note('a day forward')
    await service.shiftClock(DAY)
    const before = runs().length
    await slow.finish()
    none(context, 'a day forward: sessions idle for more than a day by that clock that still open', await opened(service, [...fresh, ...idle], '401 DOORMAN_SESSION_EXPIRED'), live)
    await logIn(service.address, ledger, 5, 'forward-')
    const forward = ledger.live.slice()
    live += forward.length
    none(context, 'a day forward: new sessions refused', await opened(service, forward, '200'), forward.length)
    holds(context, 'a day forward: the scheduled cleanup is skipped, with a warning', await until(() => warnings() === 1, interval * 2), `${warnings()}`, '1 warning')
    await service.shiftClock(0)
    none(context, 'a day forward: sessions and rows that the cleanup removed', live - sessions() + seeds.rows - young() + runs().length - before, live + seeds.rows)
    // The idle ones are left alone until the last: using them would make them younger.
    none(context, 'set right: sessions wrongly refused', await opened(service, [...fresh, ...forward], '200'), fresh.length + forward.length)

    context.note('an hour back')
    const slowAgain = await startRequests(service, 'slow-again')
    await service.shiftClock(-HOUR)
    const at = Date.now()
    await slowAgain.finish()
    none(context, 'an hour back: sessions wrongly refused', await opened(service, [...fresh, ...forward], '200'), fresh.length + forward.length)
    const earlier = runs().length
    leaseOfTheDead(paths.main, at)
    holds(context, 'an hour back: the lease and the last run lie in the future, and the schedule goes on',
      await until(() => runs().length > earlier, interval * 4) && runs().at(-1)!.startedAt < at - HOUR / 2, `${runs().length - earlier} runs`, '>= 1')
    none(context, 'an hour back: sessions and rows that the cleanup removed', live - sessions() + seeds.rows - young(), live + seeds.rows)

    context.note('what the timeouts are worth')
    const refused = '401 DOORMAN_SESSION_EXPIRED'
    const limits = [
      ['a session used a day ahead, 24 h 10 min after that', forward, DAY + 24 * HOUR + 10 * MINUTE, refused],
      ['a session used a day ahead, 23 h 50 min after that', forward, DAY + 23 * HOUR + 50 * MINUTE, '200'],
      ['a session idle for 24 h 30 min by the clock', idle, 90 * MINUTE, refused],
      ['a session idle for 23 h 30 min by the clock', idle, 30 * MINUTE, '200']
    ] as const
    for (const [what, group, offset, expected] of limits) {
      await service.shiftClock(offset)
      none(context, `${what}: answers other than ${expected}`, await opened(service, group, expected), group.length)
    }

    context.note('the same second twice')
    const second = sized(context, 1000, 500)
    await service.shiftClock(0)
    await sleep(second)
    await service.shiftClock(-second)
    await sleep(second)
    await load.stop()

    context.note('the cleanup on demand, a day forward')
    await service.shiftClock(DAY)
    // Last used before now, as the machine's clock has it, is idle for a day by the other.
    const stale = count(paths.main, `sessions WHERE last_active_at < ${Date.now()}`)
    const { removed, durationMs } = await service.cleanup()
    holds(context, 'a day forward, run on demand: the cleanup goes by the clock', removed.sessionsIdle === stale && stale >= fresh.length && removed.ipLogs === seeds.rows,
      `${removed.sessionsIdle} sessions, ${removed.ipLogs} rows`, `${stale} sessions, ${seeds.rows} rows`)
    await service.shiftClock(0)
    await rowsInOrder(context, service)
    const { n: negative } = look<{ n: number }>(paths.log, 'SELECT count(*) AS n FROM ip_logs WHERE duration_us < 0 OR duration_us > 60e6')[0]!
    none(context, 'durations of requests that are negative, or hold a jump', negative, count(paths.log, 'ip_logs'))
    const odd = look(paths.main, `SELECT 1 FROM cleanup_runs WHERE duration_ms < 0 OR duration_ms > ${MINUTE}`).length + (durationMs < 0 ? 1 : 0)
    none(context, 'durations of cleanups that are negative, or hold a jump', odd, count(paths.main, 'cleanup_runs'))
    const figures = numbersIn(await service.stats())
    none(context, 'figures of stats() below zero', figures.filter(([, value]) => value < 0).length, figures.length)
    await service.close()
    const rows = compareRows(paths.log, ledger)
    none(context, 'IP rows missing or doubled', rows.missing + rows.doubled, ledger.answered.length)
  }
}

/** A past: rows and sessions just younger and just older than what is kept. */
async function seed (context: Context, url: string) {
  const service = await startService(context, { doorman: { database: { url } } })
  const agent = new Agent({ keepAlive: true })
  const at = async (ago: number, act: () => Promise<unknown>) => {
    await service.shiftClock(-ago)
    await act()
  }
  const ledgers = { fresh: new Ledger(), idle: new Ledger(), gone: new Ledger() }
  const rows = sized(context, 500, 50)
  const visit = async (name: string) => { for (let i = 0; i < rows; i++) await send(agent, service.address, 'GET', `/anonymous/${name}-${i}`) }
  await at(31 * DAY, () => visit('old'))
  await at(30 * DAY - 12 * HOUR, () => visit('kept'))
  await at(25 * HOUR, () => logIn(service.address, ledgers.gone, 10, 'gone-'))
  await at(23 * HOUR, () => logIn(service.address, ledgers.idle, 20, 'idle-'))
  await at(0, () => logIn(service.address, ledgers.fresh, 20, 'fresh-'))
  await service.close()
  agent.destroy()
  return { fresh: ledgers.fresh.live, idle: ledgers.idle.live, gone: ledgers.gone.live.length, rows }
}

/** How many sessions are answered otherwise than expected: status, and code where there is one. */
async function opened (service: Service, sessions: readonly HeldSession[], expected: string): Promise<number> {
  const agent = new Agent({ keepAlive: true })
  let wrong = 0
  for (const { token } of sessions) {
    const answer = await send(agent, service.address, 'GET', '/me/probe', token)
    if (`${answer?.status} ${answer?.body['code'] ?? ''}`.trim() !== expected) wrong++
  }
  agent.destroy()
  return wrong
}

/** Requests whose bodies come only when asked for: they begin by one clock and end by another. */
async function startRequests (service: Service, name: string) {
  const { port } = new URL(service.address)
  const sockets = await Promise.all(Array.from({ length: 5 }, async (_, i) => {
    const socket = net.connect(Number(port), '127.0.0.1')
    socket.write(`POST /login/${name}-${i} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n`)
    await once(socket, 'connect')
    return socket
  }))
  // Answered after them, so they have begun by then.
  const agent = new Agent()
  await send(agent, service.address, 'GET', '/anonymous/after')
  return {
    async finish () {
      const ends = sockets.map(socket => once(socket.resume(), 'close'))
      for (const socket of sockets) socket.write('{}')
      await Promise.all(ends)
    }
  }
}

/** As a process leaves it that was killed in the middle of a run, before the clock went back. */
function leaseOfTheDead (file: string, now: number): void {
  const db = new Database(file, { timeout: 10_000 })
  db.prepare('UPDATE leases SET holder = \'dead\', until = ? WHERE name = \'cleanup\'').run(now + 2 * MINUTE)
  db.close()
}

/** Reads the whole log in pages: every row once, newest first, whatever order they were written in. */
async function rowsInOrder (context: Context, service: Service): Promise<void> {
  await service.flush()
  const rows: StoredIpLog[] = []
  let after: Page<StoredIpLog>['next'] = null
  do {
    const page = await service.ask('ipLogs', { limit: 100, ...after === null ? {} : { after } }) as Page<StoredIpLog>
    rows.push(...page.items)
    after = page.next
  } while (after !== null)
  const ids = new Set(rows.map(({ id }) => id))
  const backwards = rows.filter(({ at }, i) => i > 0 && at > rows[i - 1]!.at).length
  none(context, 'rows of the list that are out of order, or come twice', backwards + rows.length - ids.size, rows.length)
  // Ids are made of times: those of the second that came twice had to be made anew.
  const shared = rows.filter(({ at }, i) => at === rows[i - 1]?.at).length
  holds(context, 'rows that share their millisecond with another', shared > 0, `${shared}`, '>= 1')
}

function numbersIn (value: unknown, path = ''): [string, number][] {
  if (typeof value === 'number') return [[path, value]]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, part]) => numbersIn(part, `${path}.${key}`))
}
