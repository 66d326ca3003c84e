/**
 * When the cleanup runs, and that only one does: by schedule with jitter or on demand, one at a time in this process, and
 * under a lease among the processes that share the database. What a run does is in `sweep-run.ts`.
 */
import { doormanError, isDoormanError } from '../errors.js'
import type { CleanupRun, Storage, StorageLogger } from '../storage/storage.js'
import type { Clock } from './clock.js'
import { watchClock } from './clock-watch.js'
import { createLease } from './lease.js'
import { cutoffs, nothingRemoved, sweepAll, type Retention, type SweepOutcome, type SweepPlace } from './sweep-run.js'

export interface SweeperOptions {
  storage: Pick<Storage, 'sweep' | 'countSweepable' | 'maintain' | 'acquireLease' | 'releaseLease' | 'addCleanupRun'>
  /** Read at the start of each run. */
  retention (): Retention
  /** Resolves when what waits in this process's queues is stored, so that a session used just now is not taken for idle. */
  flush (): Promise<unknown>
  /** How long a run waits for `flush`, ms, before it fails with DOORMAN_STORAGE_BUSY. */
  flushWait: number
  /** Time between two scheduled runs, ms, below 2^31 / 1.1; each is moved by up to 10 %. */
  interval: number
  /** Most rows per batch; fewer where so many take long. */
  batchSize: number
  /** Longest run, ms; what is left then waits for the next one, which starts with the kinds of rows this one did not come to. */
  timeBudget: number
  /** How long the lease of a process that died keeps the others away, ms. Longer than any one batch. */
  leaseTtl: number
  /** How long a manual run waits while another process is at it, ms. */
  leaseWait: number
  /** How long a stop waits for the step under way, ms. Closing the storage settles it then. */
  stopWait: number
  /** Whether the first scheduled run comes at once, instead of within a tenth of the interval. */
  runOnStart: boolean
  /** Unique among all processes on the database. */
  holder: string
  /** Makes the id of a run. */
  newId (): string
  clock: Clock
  /** Milliseconds since any moment, never set: for durations, and to notice that `clock` was set. */
  monotonic: () => number
  random: () => number
  log: Pick<StorageLogger, 'info' | 'warn'>
}

export interface RunOptions {
  /** Counts what would be removed, and removes nothing. */
  dryRun?: boolean
  trigger?: CleanupRun['trigger']
}

export interface Sweeper {
  /**
   * Runs now, or shares the run of the same kind that is under way. Resolves to the record of the run, also when it failed
   * (`error` holds the code) or was cut short (`complete` is false). A scheduled run resolves to null when another process
   * has done or is doing this interval's, and when the clock jumped since the last one: more rows than meant would look old,
   * so that one run is skipped with a warning; the next one goes by the clock. A dry run needs no lease; its `removed` is what would have gone.
   * Rejects with DOORMAN_CLEANUP_RUNNING when another process holds the lease for longer than `leaseWait`, and with
   * DOORMAN_STORAGE_CLOSED after `stop`.
   */
  run (options?: { dryRun?: boolean, trigger?: 'manual' }): Promise<CleanupRun>
  run (options: RunOptions): Promise<CleanupRun | null>
  /** Starts the schedule. Its timers never keep the process alive. */
  start (): void
  /**
   * Ends the schedule, and the run under way after its present batch; resolves when that is over, after `stopWait` at the latest,
   * and does not wait for a dry run. No step is begun any more; closing the storage settles what is left. Idempotent.
   */
  stop (): Promise<void>
  /** This process's latest run that was not a dry one, or null. */
  readonly lastRun: CleanupRun | null
}

type Trigger = CleanupRun['trigger']
interface Progress extends SweepOutcome { startedAt: number, since: number, failure: unknown }

/** Part of the interval by which a scheduled run may be early or late, so that processes do not keep in step. */
const JITTER = 0.1
/** How far the clock may go astray between two scheduled runs, ms, besides one interval ahead. */
const CLOCK_TOLERANCE = 3_600_000

export function createSweeper (options: SweeperOptions): Sweeper {
  const { storage, interval, clock, monotonic, random, log } = options
  const lease = createLease({ storage, name: 'cleanup', holder: options.holder, ttl: options.leaseTtl, clock })
  const clockJump = watchClock(clock, monotonic, interval + CLOCK_TOLERANCE, CLOCK_TOLERANCE)
  const place: SweepPlace = { stoppedAt: null }
  let current: { dryRun: boolean, promise: Promise<CleanupRun | null> } | null = null
  let timer: NodeJS.Timeout | undefined
  let lastRun: CleanupRun | null = null
  let stopped = false
  let endFlush: (() => void) | null = null

  function run (options?: { dryRun?: boolean, trigger?: 'manual' }): Promise<CleanupRun>
  function run (options: RunOptions): Promise<CleanupRun | null>
  async function run ({ dryRun = false, trigger = 'manual' }: RunOptions = {}): Promise<CleanupRun | null> {
    for (let other = current; other !== null; other = current) {
      if (other.dryRun !== dryRun) {
        await other.promise.catch(() => {}) // its own caller hears of it
        continue
      }
      const shared = await other.promise
      // That a scheduled run was not needed is no answer for somebody who asks for one.
      if (shared !== null || trigger === 'schedule') return shared
    }
    if (stopped) throw doormanError('DOORMAN_STORAGE_CLOSED')
    current = { dryRun, promise: (dryRun ? count(trigger) : sweep(trigger)).finally(() => { current = null }) }
    return current.promise
  }

  async function count (trigger: Trigger): Promise<CleanupRun> {
    const progress = begin()
    try {
      await flush()
      if (!stopped) {
        progress.removed = await storage.countSweepable(cutoffs(options.retention(), progress.startedAt), progress.startedAt)
        progress.complete = true
      }
    } catch (error) {
      progress.failure = error
    }
    return record(progress, trigger, true, true)
  }

  async function sweep (trigger: Trigger): Promise<CleanupRun | null> {
    const jump = trigger === 'schedule' ? clockJump() : null
    if (jump !== null) {
      log.warn({ clockMs: jump.clock, monotonicMs: Math.round(jump.monotonic) }, 'The clock jumped, or the machine slept: this scheduled cleanup is skipped, the next one goes by the clock')
      return null
    }
    let progress = begin()
    let leased: boolean | null = null // until the storage answers; where it fails to, that is a failed run
    try {
      leased = await (trigger === 'schedule' ? lease.acquire(interval * (1 - JITTER)) : lease.waitFor(options.leaseWait, () => !stopped))
      progress = begin()
      if (leased) await work(progress)
    } catch (error) {
      progress.failure = error
    }
    if (leased === false) {
      if (trigger === 'schedule') return null
      throw doormanError(stopped ? 'DOORMAN_STORAGE_CLOSED' : 'DOORMAN_CLEANUP_RUNNING')
    }
    // Where the lease could not be asked for in time, there is none to give back, and the history would keep the caller as long again.
    const locked = leased === null && hasCode(progress.failure, 'DOORMAN_STORAGE_BUSY')
    // After a run that did not get to the end nobody has to wait for the next interval.
    if (!locked) await attempt('The cleanup lease was not given back; it ends by itself', lease.release(progress.complete))
    lastRun = await record(progress, trigger, false, !locked)
    return lastRun
  }

  async function work (progress: Progress) {
    const { startedAt } = progress
    const limits = cutoffs(options.retention(), startedAt)
    await flush()
    await sweepAll({
      storage,
      cutoffs: limits,
      now: startedAt,
      batchSize: options.batchSize,
      random,
      monotonic,
      async goOn () {
        if (stopped || monotonic() - progress.since >= options.timeBudget) return false
        await lease.keep()
        return !stopped
      },
      place
    }, progress)
  }

  function begin (): Progress {
    return { startedAt: clock(), since: monotonic(), removed: nothingRemoved(), freedPages: 0, complete: false, failure: null }
  }

  /** Bounded, for the queues do not empty while the store is locked; and a stop does not wait for it. */
  async function flush () {
    if (stopped) return
    let timer
    const end = new Promise<void>((resolve, reject) => {
      endFlush = resolve
      timer = setTimeout(() => reject(doormanError('DOORMAN_STORAGE_BUSY', [options.flushWait])), options.flushWait).unref()
    })
    try {
      await Promise.race([options.flush(), end])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Into the history and, where something happened, into the log. */
  async function record ({ startedAt, since, removed, freedPages, complete, failure }: Progress, trigger: Trigger, dryRun: boolean, wait: boolean): Promise<CleanupRun> {
    const error = failure === null ? null : isDoormanError(failure) ? failure.code : 'DOORMAN_INTERNAL'
    const run: CleanupRun = { id: options.newId(), startedAt, durationMs: Math.round(monotonic() - since), dryRun, trigger, complete, removed, freedPages, error }
    await attempt('The cleanup run is missing in the history', storage.addCleanupRun(run), wait)
    const gone = Object.fromEntries(Object.entries(removed).filter(([, rows]) => rows > 0))
    const fields = { trigger, dryRun, removed: gone, freedPages, complete, durationMs: run.durationMs }
    if (failure !== null && !endedByStop(failure)) log.warn({ ...fields, err: failure }, 'The cleanup failed; the next run does what is left')
    else if (!dryRun && Object.keys(gone).length > 0) log.info(fields, 'The cleanup removed old rows or truncated addresses')
    return run
  }

  /** For what must not undo a run that is over, nor hold a stop: closing the storage still carries it out if it can. */
  async function attempt (complaint: string, promise: Promise<unknown>, wait = true) {
    const done = promise.catch(err => {
      if (!endedByStop(err)) log.warn({ err }, complaint)
    })
    if (wait && !stopped) await done
  }

  /** Nothing to complain of: who stops the sweeper closes the storage next. */
  function endedByStop (error: unknown) {
    return stopped && hasCode(error, 'DOORMAN_STORAGE_CLOSED')
  }

  function arm (ms: number) {
    timer = setTimeout(tick, Math.ceil(ms)).unref()
  }

  async function tick () {
    // It rejects only where it joined a manual run that found another process at work: then this interval's run is done there.
    await run({ trigger: 'schedule' }).catch(() => {})
    // Armed again after the run, not by an interval: runs never pile up.
    if (!stopped) arm(interval * (1 - JITTER + 2 * JITTER * random()))
  }

  return {
    run,
    start () { arm(options.runOnStart ? 0 : interval * JITTER * random()) },
    async stop () {
      stopped = true
      clearTimeout(timer)
      endFlush?.()
      if (current === null || current.dryRun) return
      let end: NodeJS.Timeout | undefined
      const waited = new Promise<void>(resolve => { end = setTimeout(resolve, options.stopWait) })
      await Promise.race([current.promise.catch(() => {}), waited])
      clearTimeout(end)
    },
    get lastRun () { return lastRun }
  }
}

function hasCode (error: unknown, code: string) {
  return isDoormanError(error) && error.code === code
}
