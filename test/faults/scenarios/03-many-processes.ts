/**
 * 3. Several processes serve from the same files, each under as much load as it can take: nothing fails, nothing is lost, none starves, the
 * cleanup runs once per interval among them, and a session that one of them ended is refused by all others from the reply on.
 */
import { Agent } from 'node:http'
import type { Saturation } from '../kit/service.js'
import { compareRows, compareSessions, enter, files, holds, integrity, leave, Ledger, look, none, recorded, sized, sleep, startClosedLoad, startService, type Context, type Scenario, type Service } from '../kit/index.js'

export const manyProcesses: Scenario = {
  number: 3,
  title: 'Many processes',
  async run (context) {
    for (const count of sized(context, [4, 8], [3])) await together(context, count, sized(context, 12, 4))
  }
}

/** Clients per process, besides the sessions that it creates by itself. */
const CLIENTS = 2
/** Between two runs of the cleanup, ms. */
const INTERVAL = 1500
/** The schedule is early or late by this part of it; see lib/sweeper.ts. */
const JITTER = 0.1

async function together (context: Context, count: number, seconds: number): Promise<void> {
  const name = `${count} processes`
  const paths = files(context, `together-${count}`)
  const ledger = new Ledger()
  context.note(`${name} start at once, on files that do not exist yet`)
  const begin = Date.now()
  const services = await Promise.all(Array.from({ length: count }, () => startService(context, { doorman: { database: { url: paths.url }, cleanup: { enabled: true, runOnStart: true, interval: INTERVAL } } })))

  context.note(`${name} under load`)
  const loads = services.map(({ address }, i) => startClosedLoad({ target: address, ledger, clients: CLIENTS, prefix: `p${i}-` }))
  await sleep(1000) // both sides warm up
  const first = await commits(services)
  const ready = Date.now()
  const crowd = Promise.all(services.map(service => service.ask('saturate', seconds * 1000) as Promise<Saturation>))
  const revocations = await revoke(services, ledger, seconds)
  const end = Date.now()
  const crowds = await crowd
  const last = await commits(services)
  await Promise.all(loads.map(load => load.stop()))

  const created = crowds.flatMap(({ ids }) => ids)
  const refused = crowds.flatMap(({ failed }) => failed)
  ledger.live.push(...created.map(id => ({ id, token: '' })))
  none(context, `${name}: sessions that could not be created`, refused.length, created.length + refused.length)
  // Refusals of ended sessions are not failures.
  const failed = ledger.entries.filter(({ status }) => status !== 200 && status !== 201 && status !== 204 && status !== 401)
  none(context, `${name}: failed requests`, failed.length, ledger.entries.length)
  none(context, `${name}: errors and warnings in their logs`, services.reduce((sum, { log }) => sum + log.filter(({ level }) => level >= 40).length, 0))

  const done = last.map(({ main }, i) => main.commits - first[i]!.main.commits)
  const waits = last.reduce((sum, { main }, i) => sum + main.lockWaits - first[i]!.main.lockWaits, 0)
  holds(context, `${name}: transactions that had to wait for another process`, waits > 0, `${waits} of ${done.reduce((sum, n) => sum + n, 0)}`, '> 0')
  const share = Math.min(...done) / Math.max(...done)
  // On a machine that has other things to do, this is the fairness of its scheduler.
  context.result({ what: `${name}: commits of the slowest / the fastest`, measured: `${share.toFixed(2)} (${Math.min(...done)} and ${Math.max(...done)})`, required: '>= 0.5', pass: share >= 0.5, timing: true })

  none(context, `${name}: ended sessions that another process accepted after the reply (bound: ${BOUND_MS} ms)`, revocations.late, revocations.checks)
  none(context, `${name}: new sessions that another process refused after the reply`, revocations.refused, revocations.checks)

  await Promise.all(services.map(service => service.flush()))
  cleanups(context, name, paths.main, { begin, ready, end })
  await Promise.all(services.map(service => service.close()))
  const rows = compareRows(paths.log, ledger)
  none(context, `${name}: IP rows missing`, rows.missing, ledger.answered.length)
  none(context, `${name}: IP rows doubled`, rows.doubled, rows.rows)
  const sessions = compareSessions(paths.main, ledger)
  none(context, `${name}: acknowledged sessions lost, or ended ones alive`, sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)
  const sound = [integrity(paths.main), integrity(paths.log)]
  holds(context, `${name}: integrity_check of both files`, sound.every(result => result === 'ok'), sound.join(', '), 'ok')
}

/** From the commit of a session's end to the moment from which every process refuses it; see docs/architecture.md. */
const BOUND_MS = 1

/**
 * Logs in at one process and out at another, in turn, while all of them are under load. Every process is asked after each of both replies,
 * all at once: right after that of the login, and the stated bound after that of the logout.
 */
async function revoke (services: Service[], ledger: Ledger, seconds: number): Promise<{ checks: number, late: number, refused: number }> {
  const agent = new Agent({ keepAlive: true })
  const seen = { checks: 0, late: 0, refused: 0 }
  const statuses = (id: string, token: string) => Promise.all(services.map(async ({ address }, i) => (await recorded(agent, address, ledger, 'me', `${id}-${i}`, token)).entry.status))
  const until = performance.now() + seconds * 1000
  for (let round = 0; performance.now() < until; round++) {
    const at = (offset: number) => services[(round + offset) % services.length]!.address
    const session = await enter(agent, at(0), ledger, `r${round}`)
    if (session === null) continue
    const before = await statuses(`r${round}-before`, session.token)
    await leave(agent, at(1), ledger, `r${round}`, session)
    await sleep(BOUND_MS)
    const after = await statuses(`r${round}-after`, session.token)
    seen.checks += services.length
    seen.refused += before.filter(status => status !== 200).length
    seen.late += after.filter(status => status !== 401).length
  }
  agent.destroy()
  return seen
}

/** The scheduled runs in the history that all processes share. */
function cleanups (context: Context, name: string, file: string, { begin, ready, end }: Record<'begin' | 'ready' | 'end', number>): void {
  const runs = look<{ started_at: number, duration_ms: number, complete: number }>(file, `SELECT started_at, duration_ms, complete FROM cleanup_runs WHERE trigger = 'schedule' AND started_at < ${end} ORDER BY started_at`)
  // The next one begins an interval after the last one has ended, early or late by the jitter; who comes too early comes again an interval later.
  const longest = Math.max(...runs.map(run => run.duration_ms))
  const fewest = Math.max(1, Math.floor((end - ready) / (2 * (1 + JITTER) * INTERVAL + longest)))
  const most = Math.floor((end - begin) / (1 - JITTER) / INTERVAL) + 1
  holds(context, `${name}: scheduled cleanups in ${((end - begin) / INTERVAL).toFixed(1)} intervals`, runs.length >= fewest && runs.length <= most && runs.every(run => run.complete === 1), `${runs.length}, the longest took ${(longest / 1000).toFixed(1)} s`, `${fewest} to ${most}, all complete`)
  const shortest = Math.min(...runs.slice(1).map((run, i) => run.started_at - runs[i]!.started_at)) / INTERVAL
  holds(context, `${name}: shortest time from one cleanup to the next`, shortest >= 1 - JITTER, runs.length === 1 ? 'only one' : `${shortest.toFixed(2)} intervals`, `>= ${1 - JITTER} intervals`)
}

const commits = (services: Service[]) => Promise.all(services.map(async service => (await service.stats()).storage.files))
