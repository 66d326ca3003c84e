/**
 * 11. A log full of rows that are too old is cleaned up while the service is in use, in several runs with a shorter retention each: nobody
 * notices, no transaction is long, the WAL stays small, and what goes is exactly what is too old.
 */
import type { CleanupRun } from '../../../storage/storage.js'
import { fillLog } from '../kit/fill.js'
import { atMost, compareRows, compareSessions, files, holds, integrity, Ledger, logIn, look, none, percentile, sized, sleep, startLoad, startService, type Context, type Scenario } from '../kit/index.js'
import { watchLog, type Watched } from '../kit/watch.js'

const DAY = 86_400_000
/** Each run removes one part: its rows are from `oldest` to `youngest` days old, and are kept for `days` days. */
const PARTS: readonly { oldest: number, youngest: number, days: number }[] = [
  { oldest: 100, youngest: 90, days: 80 },
  { oldest: 70, youngest: 60, days: 50 },
  { oldest: 45, youngest: 35, days: 30 }
]
const KEPT = { oldest: 25, youngest: 1 }

const WAL_LIMIT = 16 * 2 ** 20
/** Five steps of the vacuum. Without a bound it gives back all at once. */
const PAGES_LIMIT = 1000
/** Each part spans as many days, and its rows are spread evenly over them. */
const SPAN = 10 * DAY
const PART_LIMIT = 25
/** Free pages that are not worth a step. */
const FREE_LIMIT = 64
/** A run ends by its time budget, and the next one goes on. */
const MOST_RUNS = 20

interface Part {
  without: number[]
  during: number[]
  pause: number
  transactionMs: number
  watched: Watched
  freePages: number
  runs: CleanupRun[]
}

export const retention: Scenario = {
  number: 11,
  title: 'Retention under load',
  async run (context) {
    const parts = sized(context, PARTS, PARTS.slice(-1))
    const rows = sized(context, 2_000_000, 60_000)
    const kept = sized(context, 50_000, 3000)
    const now = Date.now()
    const paths = files(context)
    context.note(`${rows} old rows`)
    for (const [i, { oldest, youngest }] of parts.entries()) {
      await fillLog(paths.log, { name: `old-${i}`, count: share(rows, parts.length, i), from: now - oldest * DAY, to: now - youngest * DAY })
    }
    await fillLog(paths.log, { name: 'kept', count: kept, from: now - KEPT.oldest * DAY, to: now - KEPT.youngest * DAY })

    const ledger = new Ledger()
    const done: Part[] = []
    for (const { days, youngest } of parts) done.push(await cleanUp(context, ledger, days, now - youngest * DAY))
    report(context, done, rows)

    none(context, 'failed requests', ledger.entries.filter(entry => entry.status === 0 || entry.status >= 500).length, ledger.entries.length)
    const count = (sql: string) => look<{ n: number }>(paths.log, `SELECT count(*) AS n FROM ${sql}`)[0]!.n
    none(context, 'expired rows left', count(`ip_logs WHERE at < ${now - parts.at(-1)!.days * DAY}`))
    none(context, 'texts of expired rows left', count("texts WHERE text LIKE '%old-%'"))
    none(context, 'rows to keep that are gone or incomplete', kept - count("ip_logs WHERE path LIKE '/kept/%' AND route IS NOT NULL AND user_agent IS NOT NULL AND (session_id IS NULL) = (user_id IS NULL)"), kept)
    const log = compareRows(paths.log, ledger)
    none(context, 'rows of requests during it missing', log.missing, ledger.answered.length)
    none(context, 'rows of requests during it doubled', log.doubled, log.rows)
    const sessions = compareSessions(paths.main, ledger)
    none(context, 'live sessions lost, or ended ones alive', sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)
    const sound = integrity(paths.log)
    holds(context, 'integrity of the log', sound === 'ok', sound, 'ok')
  }
}

/** One service, from its start to its end, with a cleanup in the middle. */
async function cleanUp (context: Context, ledger: Ledger, days: number, newest: number): Promise<Part> {
  const paths = files(context)
  const service = await startService(context, { doorman: { database: { url: paths.url }, cleanup: { enabled: false, ipLogRetention: `${days}d` } } })
  await logIn(service.address, ledger, 50, `first-${days}-`)
  const load = startLoad({ targets: [service.address], ledger, rate: sized(context, 500, 150), prefix: `${days}-` })
  await sleep(1000) // both sides warm up
  const calm = sized(context, 6000, 700)
  const begin = performance.now()
  await sleep(calm)
  await service.delay()

  const watch = watchLog(paths.log, newest)
  context.defer(() => { watch.stop() })
  const runs: CleanupRun[] = []
  const start = performance.now()
  do runs.push(await service.cleanup()); while (!runs.at(-1)!.complete && runs.length < MOST_RUNS)
  const end = performance.now()
  const watched = watch.stop()
  const pause = await service.delay()
  const { transactionMsMax, freePages } = (await service.stats()).storage.files.log

  await sleep(calm)
  const over = performance.now()
  await load.stop()
  await service.flush()
  await service.close()
  const latencies = (from: number, to: number) => ledger.between(from, to, 'me').map(entry => entry.latency)
  const part: Part = { without: [...latencies(begin, start), ...latencies(end, over)], during: latencies(start, end), pause, transactionMs: transactionMsMax, watched, freePages, runs }
  context.note(`kept for ${days} days: ${removed(part)} rows gone in ${((end - start) / 1000).toFixed(1)} s, ${runs.length} run(s); p99 ${percentile(part.during, 0.99).toFixed(1)} ms, without ${percentile(part.without, 0.99).toFixed(1)} ms; longest transaction ${transactionMsMax.toFixed(1)} ms`)
  return part
}

function report (context: Context, parts: readonly Part[], rows: number): void {
  holds(context, 'cleanups complete, without an error', parts.every(({ runs }) => runs.at(-1)!.complete && runs.every(({ error }) => error === null)),
    `${parts.filter(({ runs }) => runs.at(-1)!.complete).length} of ${parts.length}, in ${parts.reduce((sum, { runs }) => sum + runs.length, 0)} runs`, 'all')
  const gone = parts.reduce((sum, part) => sum + removed(part), 0)
  holds(context, 'expired rows removed, as counted by the cleanup', gone === rows, `${gone}`, `${rows}`)
  const p99 = (which: 'during' | 'without') => percentile(parts.flatMap(part => part[which]), 0.99)
  atMost(context, 'p99 of authenticated GET, during / without', p99('during') / p99('without'), 1.25, 'x')
  atMost(context, 'longest pause of the event loop', Math.max(...parts.map(({ pause }) => pause)), 50, 'ms')
  atMost(context, parts.length === 1 ? 'longest write transaction' : `longest write transaction, median of ${parts.length} runs`, percentile(parts.map(({ transactionMs }) => transactionMs), 0.5), 20, 'ms')
  const wal = Math.max(...parts.map(({ watched }) => watched.walBytes))
  holds(context, 'largest size of the WAL', wal <= WAL_LIMIT, `${(wal / 2 ** 20).toFixed(1)} MB`, `<= ${WAL_LIMIT / 2 ** 20} MB`)
  const part = Math.max(...parts.map(({ watched }) => watched.mostTimeAtOnce)) / SPAN * 100
  holds(context, 'largest part of the expired rows that went at once', part <= PART_LIMIT, `${part.toFixed(1)} %`, `<= ${PART_LIMIT} %`)
  const pages = Math.max(...parts.map(({ watched }) => watched.mostPagesAtOnce))
  context.result({ what: 'most pages given back within 5 ms', measured: `${pages} of ${parts.reduce((sum, { runs }) => sum + runs.reduce((sum, { freedPages }) => sum + freedPages, 0), 0)}`, required: `1 to ${PAGES_LIMIT}`, pass: pages > 0 && pages <= PAGES_LIMIT, timing: true })
  const free = Math.max(...parts.map(({ freePages }) => freePages))
  holds(context, 'free pages left', free <= FREE_LIMIT, `${free}`, `<= ${FREE_LIMIT}`)
}

const removed = ({ runs }: Part) => runs.reduce((sum, run) => sum + run.removed.ipLogs, 0)

/** The i-th of `parts` whole numbers that add up to `total`. */
const share = (total: number, parts: number, i: number) => Math.floor(total * (i + 1) / parts) - Math.floor(total * i / parts)
