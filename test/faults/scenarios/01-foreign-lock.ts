/**
 * 1. A foreign program holds the write lock of the sessions, of the log, of both: for some seconds several times, then past the deadline.
 * Reads never wait, writes wait and succeed, nothing is lost; past the deadline writes are refused with nothing half-done.
 */
import { atMost, compareRows, compareSessions, files, holds, Ledger, logIn, none, percentile, sized, sleep, startLoad, startOutsider, startService, until, type Context, type Entry, type Scenario } from '../kit/index.js'

export const foreignLock: Scenario = {
  number: 1,
  title: 'Foreign lock',
  async run (context) {
    const locks = { sessions: ['main'], log: ['log'], both: ['main', 'log'] } as const
    for (const [name, which] of Object.entries(locks)) {
      if (context.full || name === 'both') await lockedFile(context, name, which)
    }
  }
}

async function lockedFile (context: Context, name: string, which: readonly ('main' | 'log')[]): Promise<void> {
  const busyTimeout = sized(context, 30_000, 1500)
  const paths = files(context, name)
  const locked = which.map(file => paths[file])
  const service = await startService(context, { doorman: { database: { url: paths.url, busyTimeout } } })
  const outsider = startOutsider(context)
  const ledger = new Ledger()
  await logIn(service.address, ledger, 50)
  const load = startLoad({ targets: [service.address], ledger, rate: sized(context, 500, 150) })

  context.note(`${name}: without a lock`)
  await sleep(1000) // both sides warm up
  await service.delay()
  const before = performance.now()
  await sleep(sized(context, 5000, 1000))
  const after = performance.now()

  // Apart by a second, in which what has waited is done; only requests sent while it is held count as "during".
  const during: Entry[] = []
  for (let i = 0; i < sized(context, 3, 1); i++) {
    context.note(`${name}: locked, ${i + 1}`)
    during.push(...await whileLocked(sized(context, 5000, 1000)))
    await sleep(1000)
  }
  const pause = await service.delay()
  const failed = ledger.entries.filter(entry => entry.status >= 500)
  none(context, `${name} locked: failed requests up to the deadline`, failed.length, ledger.entries.length)
  const ratio = percentile(latencies(during, 'me'), 0.99) / percentile(latencies(ledger.between(before, after), 'me'), 0.99)
  atMost(context, `${name} locked: p99 of authenticated GET, during / before`, ratio, 1.5, 'x')
  atMost(context, `${name} locked: longest pause of the event loop`, pause, 50, 'ms')
  const writes = during.filter(entry => entry.kind === 'login' || entry.kind === 'logout')
  if (which.includes('main')) {
    holds(context, `${name} locked: logins and logouts waited and succeeded`, writes.length > 0 && writes.some(entry => entry.latency > 500) && writes.every(entry => entry.status < 300),
      `${writes.filter(entry => entry.status < 300).length} of ${writes.length}, slowest ${(Math.max(...writes.map(entry => entry.latency)) / 1000).toFixed(1)} s`, 'all')
  }

  context.note(`${name}: locked past the deadline`)
  let degraded = false
  const past = await whileLocked(sized(context, 40_000, 4000), async () => { degraded ||= (await service.health()).status === 'degraded' })
  holds(context, `${name} locked past the deadline: health says degraded`, degraded)
  const reads = past.filter(entry => entry.kind === 'me' || entry.kind === 'anonymous')
  none(context, `${name} locked past the deadline: GETs that failed`, reads.filter(entry => entry.status !== 200).length, reads.length)
  if (which.includes('main')) {
    const refused = past.filter(entry => entry.status !== 200 && entry.status !== 201 && entry.status !== 204)
    holds(context, `${name} locked past the deadline: writes refused with 503, a code and Retry-After`,
      refused.length > 0 && refused.every(entry => entry.status === 503 && entry.code === 'DOORMAN_STORAGE_BUSY' && entry.retryAfter !== undefined), `${refused.length}`, 'all, at least 1')
    const earliest = Math.min(...refused.map(entry => entry.latency))
    holds(context, `${name} locked past the deadline: none refused before it`, earliest >= busyTimeout - 50, `${(earliest / 1000).toFixed(1)} s`, `>= ${busyTimeout / 1000} s`)
  }

  await load.stop()
  await service.flush()
  holds(context, `${name}: health is ok again`, await until(async () => (await service.health()).status === 'ok'))
  await service.close()
  const rows = compareRows(paths.log, ledger)
  none(context, `${name}: IP rows missing afterwards`, rows.missing, ledger.answered.length)
  none(context, `${name}: IP rows doubled`, rows.doubled, rows.rows)
  const sessions = compareSessions(paths.main, ledger)
  none(context, `${name}: acknowledged sessions lost, or ended ones alive (something half-done)`, sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)

  /** Requests sent while the lock was held. */
  async function whileLocked (ms: number, look: () => unknown = () => {}): Promise<Entry[]> {
    await outsider.lock(...locked)
    const from = performance.now()
    for (const end = from + ms; performance.now() < end;) {
      await sleep(100)
      await look()
    }
    const to = performance.now()
    await outsider.release()
    // Answered by now, or when what waits has been done.
    await until(() => ledger.between(from, to).every(entry => !Number.isNaN(entry.latency)))
    return ledger.between(from, to)
  }
}

const latencies = (entries: readonly Entry[], kind: Entry['kind']) => entries.filter(entry => entry.kind === kind).map(entry => entry.latency)
