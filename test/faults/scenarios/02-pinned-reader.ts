/**
 * 2. A foreign program begins to read and does not end, for two minutes, while the service writes. Nobody waits for it; the WAL grows, which
 * the service says in its figures, once in its log and in its health; once the reader has left, the WAL is cut, under load and without.
 */
import { statSync } from 'node:fs'
import { atMost, compareRows, compareSessions, files, holds, Ledger, logIn, none, percentile, sized, sleep, startLoad, startOutsider, startService, until, type Context, type Entry, type Scenario, type Service } from '../kit/index.js'

const FILES = ['main', 'log'] as const
const MB = 2 ** 20
/** More logins than usual, for the sessions' file to be written as much as the log. */
const BUSY = { me: 50, anonymous: 20, login: 18, logout: 12 }
/** Each page in the WAL has a header, and the file has one (bytes). */
const FRAME_HEADER = 24
const WAL_HEADER = 32

export const pinnedReader: Scenario = {
  number: 2,
  title: 'Pinned reader',
  async run (context) {
    if (context.full) await pinned(context, { name: 'two minutes, leaves under load', seconds: 120, rate: 200 })
    // A lower limit, so that some seconds are enough to reach it.
    await pinned(context, { name: 'leaves when nothing is written', seconds: sized(context, 20, 2.5), rate: sized(context, 300, 250), walBacklogLimit: 1000 })
  }
}

interface Round { name: string, seconds: number, rate: number, walBacklogLimit?: number }

async function pinned (context: Context, { name, seconds, rate, walBacklogLimit }: Round): Promise<void> {
  const underLoad = walBacklogLimit === undefined
  const paths = files(context, underLoad ? 'loaded' : 'idle')
  const service = await startService(context, { doorman: { database: { url: paths.url, ...(walBacklogLimit !== undefined && { walBacklogLimit }) } } })
  const outsider = startOutsider(context)
  const ledger = new Ledger()
  await logIn(service.address, ledger, 50)
  const load = startLoad({ targets: [service.address], ledger, rate, mix: BUSY })
  await sleep(1000) // both sides warm up

  context.note(`${name}: without a reader`)
  await service.delay()
  const before = performance.now()
  await sleep(sized(context, 5000, 1000))
  const after = performance.now()

  context.note(`${name}: pinned`)
  await outsider.pin(paths.main, paths.log)
  const from = performance.now()
  const stalled = await watch(service, seconds)
  const said = await until(() => warnings(service).length >= FILES.length, 5000)
  const to = performance.now()
  const pause = await service.delay()
  const degraded = await service.health()
  if (!underLoad) {
    await load.stop()
    await service.flush()
  }

  const during = ledger.between(from, to)
  await until(() => during.every(entry => !Number.isNaN(entry.latency)))
  context.result({ what: `${name}: seconds in which a file had no commit`, measured: `${stalled} of ${Math.floor(seconds)}`, required: '0', pass: stalled === 0, timing: true })
  const ratio = percentile(logins(ledger, from, to), 0.99) / percentile(logins(ledger, before, after), 0.99)
  atMost(context, `${name}: p99 of logins, during / before`, ratio, 2, 'x')
  atMost(context, `${name}: longest pause of the event loop`, pause, 50, 'ms')
  none(context, `${name}: failed requests`, during.filter(failed).length, during.length)

  const grown = await figures(service)
  const sizes = { main: walSize(paths.main), log: walSize(paths.log) }
  for (const file of FILES) {
    const { walFrames, walBacklog, oldestReaderMs, pageSize } = grown[file]
    const told = walFrames * (pageSize + FRAME_HEADER) + WAL_HEADER
    holds(context, `${name}: stats() tell the size of the ${file} WAL`, Math.abs(told / sizes[file] - 1) < 0.05, `${mb(told)}, and it has ${mb(sizes[file])}`, 'the same within 5 %')
    holds(context, `${name}: stats() tell the backlog of the ${file} WAL`, walBacklog >= (walBacklogLimit ?? 20_000) && walBacklog <= walFrames, `${walBacklog} of ${walFrames} frames`, `>= ${walBacklogLimit ?? 20_000}`)
    const ms = performance.now() - from
    holds(context, `${name}: stats() tell how long the reader of the ${file} file has stayed`, oldestReaderMs > ms * sized(context, 0.8, 0) && oldestReaderMs <= ms, `${(oldestReaderMs / 1000).toFixed(1)} of ${(ms / 1000).toFixed(1)} s`, sized(context, '80 % of it at least', '> 0'))
  }
  holds(context, `${name}: one warning per file, which names the cause`, said && FILES.every(file => warnings(service).filter(line => line['file'] === file).length === 1), `${warnings(service).length}`, `${FILES.length}`)
  holds(context, `${name}: health says degraded, and why`, degraded.status === 'degraded' && FILES.every(file => degraded.reasons.some(reason => reason.includes(`pinned reader makes the WAL of the ${file} file grow`))), degraded.status, 'degraded')

  context.note(`${name}: the reader leaves`)
  await outsider.release()
  const left = performance.now()
  // Where it is written to it has its usual size again; where it is not, nothing is left of it.
  const limit = underLoad ? 17 * MB : 0
  const cut = await until(() => FILES.every(file => walSize(paths[file]) <= limit), 15_000)
  const took = performance.now() - left
  for (const file of FILES) {
    holds(context, `${name}: the ${file} WAL shrinks afterwards`, walSize(paths[file]) <= limit, `${mb(sizes[file])} to ${mb(walSize(paths[file]))}${cut ? ` in ${(took / 1000).toFixed(1)} s` : ''}`, `<= ${mb(limit)} in 15 s`)
  }
  holds(context, `${name}: health is ok again`, await until(async () => (await service.health()).status === 'ok', 5000))
  if (underLoad) {
    // Two minutes of pages are copied back at once, by a thread that has other things to do.
    await until(() => ledger.between(left, left + took).every(entry => !Number.isNaN(entry.latency)))
    atMost(context, `${name}: slowest login while the WAL is copied back`, Math.max(...logins(ledger, left, left + took)), 1000, 'ms')
    await load.stop()
  }
  await service.flush()
  const calm = await figures(service)
  none(context, `${name}: readers that stats() still tell of`, FILES.filter(file => calm[file].oldestReaderMs > 0).length, FILES.length)
  holds(context, `${name}: said no more than once`, warnings(service).length === FILES.length, `${warnings(service).length} warnings`, `${FILES.length}`)
  await service.close()
  const rows = compareRows(paths.log, ledger)
  const sessions = compareSessions(paths.main, ledger)
  none(context, `${name}: IP rows missing or doubled, sessions lost or undead`, rows.missing + rows.doubled + sessions.lost + sessions.undead, ledger.answered.length)
}

/** Looks once a second; in how many of them one of the files had no commit, or could not even be asked. */
async function watch (service: Service, seconds: number): Promise<number> {
  let stalled = 0
  let last = await figures(service)
  const start = performance.now()
  for (let second = 1; second <= seconds; second++) {
    await sleep(Math.max(0, start + second * 1000 - performance.now()))
    const asked = performance.now()
    const now = await figures(service)
    if (FILES.some(file => now[file].commits === last[file].commits) || performance.now() - asked > 1000) stalled++
    last = now
  }
  await sleep(Math.max(0, start + seconds * 1000 - performance.now()))
  return stalled
}

const figures = async (service: Service) => (await service.stats()).storage.files
const warnings = (service: Service) => service.log.filter(({ level, msg }) => level === 40 && /the WAL grows because a reader stays on an old snapshot: look for /.test(msg))
const logins = (ledger: Ledger, from: number, to: number) => ledger.between(from, to, 'login').map(entry => entry.latency)
const walSize = (file: string) => statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0
/** A request that was under way when its session was ended elsewhere is refused, which is no failure. */
const failed = ({ status }: Entry) => status === 0 || status >= 500
const mb = (bytes: number) => `${(bytes / MB).toFixed(1)} MB`
