/**
 * 4. The service is killed (SIGKILL) at random points under load, many times on the same files, in both durability modes. The client's
 * ledger says afterwards what must be there. Nobody helps between two rounds: the next service starts on what the kill left.
 */
import { atMost, compareRows, compareSessions, files, holds, integrity, Ledger, none, sized, sleep, startLoad, startService, until, withoutRow, type Context, type Entry, type Scenario, type Service } from '../kit/index.js'

type Durability = 'committed' | 'queued'

/** Mostly what is stored in both files, so that a kill finds some of it under way. */
const MIX = { me: 30, anonymous: 30, login: 25, logout: 15 }
/**
 * Within this time before the kill, ms, an answered request may lose its row in `queued` mode: the linger (5) of its row, one commit
 * under way before it, and its own. A commit takes some milliseconds; the rest is for client and service sharing the cores.
 */
const LAST_LINGER = 100
/** The same, however slow the machine is. */
const LONG_AGO = 1000

/** What one kill left. */
interface Kill {
  /** Requests answered in its round, other than "not now" (503). */
  answered: number
  /** Of these, well before the kill. */
  longAgo: number
  /** Those without a row, by how long before the kill they were answered, ms. */
  lost: number[]
  /** Sessions acknowledged and missing, or ended and alive, of all rounds so far. */
  wrongSessions: number
  /** How long the next service took to start on these files, ms. */
  startMs: number
  /** What else was wrong. */
  faults: string[]
}

export const sigkill: Scenario = {
  number: 4,
  title: 'SIGKILL',
  async run (context) {
    for (const durability of ['committed', 'queued'] as const) await killedOften(context, durability)
  }
}

async function killedOften (context: Context, durability: Durability): Promise<void> {
  const paths = files(context, durability)
  const rounds = sized(context, 20, 2)
  const ledger = new Ledger()
  const kills: Kill[] = []
  const start = () => startService(context, { doorman: { database: { url: paths.url }, ipTracking: { durability } } })

  let service = await start()
  for (let round = 1; round <= rounds; round++) {
    // Now and then, and in the last round, later: or no request would have been answered long before.
    const later = round % 4 === 0 || round === rounds ? LONG_AGO : 0
    const { entries, killedAt } = await killUnderLoad(service, ledger, sized(context, 400, 200), 150 + Math.random() * 450 + later)
    const before = performance.now()
    service = await start()
    // Nobody writes now.
    const kill = await look(service, paths, ledger, entries, killedAt, performance.now() - before)
    kills.push(kill)
    context.note(`${durability}, kill ${round}: ${entries.length} requests, ${kill.answered} answered, ${kill.lost.length} of them without a row; started again in ${kill.startMs.toFixed(0)} ms`)
  }
  await service.close()
  report(context, durability, kills, ledger, paths.log)
}

/** Requests of the round, and when its kill was, ms of performance.now(). */
async function killUnderLoad (service: Service, ledger: Ledger, rate: number, after: number): Promise<{ entries: Entry[], killedAt: number }> {
  const first = ledger.entries.length
  const load = startLoad({ targets: [service.address], ledger, rate, mix: MIX })
  // Load is what is answered: a service just started takes its time for the first request.
  await until(() => ledger.entries.slice(first).some(({ status }) => status > 0), 10_000, 5)
  await sleep(after)
  const killedAt = performance.now()
  service.process.kill('SIGKILL')
  // Not cut off: an answer that was on its way is still read, and counts.
  await load.stop()
  await service.ended
  return { entries: ledger.entries.slice(first), killedAt }
}

async function look (service: Service, paths: { main: string, log: string }, ledger: Ledger, entries: readonly Entry[], killedAt: number, startMs: number): Promise<Kill> {
  const faults: string[] = []
  if (!await until(async () => (await service.health()).status === 'ok', 2000)) faults.push('health is not ok')
  for (const file of [paths.main, paths.log]) {
    const state = integrity(file)
    if (state !== 'ok') faults.push(`${file}: ${state}`)
  }
  const answered = entries.filter(({ status }) => status > 0 && status < 500)
  // What was on its way is read after the kill.
  const age = ({ at, latency }: Entry) => Math.max(0, killedAt - at - latency)
  const sessions = compareSessions(paths.main, ledger)
  return {
    answered: answered.length,
    longAgo: answered.filter(entry => age(entry) > LONG_AGO).length,
    lost: withoutRow(paths.log, answered).map(age),
    wrongSessions: sessions.lost + sessions.undead,
    startMs,
    faults
  }
}

function report (context: Context, durability: Durability, kills: readonly Kill[], ledger: Ledger, logFile: string): void {
  const sum = (of: (kill: Kill) => number) => kills.reduce((total, kill) => total + of(kill), 0)
  const answered = sum(kill => kill.answered)
  const lost = kills.flatMap(kill => kill.lost)
  if (durability === 'committed') {
    none(context, 'committed: answered requests without a row', lost.length, answered)
  } else {
    const old = lost.filter(age => age > LONG_AGO)
    none(context, `queued: rows lost of requests answered more than ${LONG_AGO / 1000} s before the kill`, old.length, sum(kill => kill.longAgo))
    const oldest = Math.max(0, ...lost)
    context.result({
      what: 'queued: rows lost, and how long before the kill the oldest was answered',
      measured: `${lost.length} of ${answered} in ${kills.length} kills, ${Math.max(...kills.map(kill => kill.lost.length))} at most; ${oldest.toFixed(1)} ms`,
      required: `<= ${LAST_LINGER} ms`,
      pass: oldest <= LAST_LINGER,
      timing: true
    })
  }
  const rows = compareRows(logFile, ledger)
  // Requests that were refused have rows, too.
  none(context, `${durability}: rows missing at the end besides`, rows.missing - lost.length, rows.rows)
  none(context, `${durability}: rows doubled`, rows.doubled, rows.rows)
  none(context, `${durability}: acknowledged sessions lost, or ended ones alive`, sum(kill => kill.wrongSessions), ledger.live.length + ledger.ended.length)
  // A session is ended at most once, by a client that was given it: a 401 says that it was lost.
  const refused = ledger.entries.filter(({ kind, status }) => status >= 500 || (kind === 'logout' && status === 401))
  none(context, `${durability}: requests refused between the kills`, refused.length, answered)
  const faults = kills.flatMap(kill => kill.faults)
  holds(context, `${durability}: both files after every kill (integrity_check), and the service started on them`, faults.length === 0, faults.length === 0 ? 'ok' : faults.join('; '), 'ok')
  atMost(context, `${durability}: slowest start on what a kill left`, Math.max(...kills.map(kill => kill.startMs)), 5000, 'ms', 0)
}
