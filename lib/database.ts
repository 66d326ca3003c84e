/** What `fastify.database` is: the storage, the queue in front of the log, and the host's own statements. */
import { doormanError } from '../errors.js'
import type { CleanupRun, CloseReport, Health, LogRow, SqlResult, SqlRow, SqlStatement, Storage, StorageLogger, StorageStats } from '../storage/storage.js'
import type { Clock } from './clock.js'
import { truncateOld } from './address-tiers.js'
import { watchEventLoop, type DelayHistogram, type EventLoopDelay } from './event-loop.js'
import { asHealth } from './health.js'
import { createRowQueue, type DropReason, type RowQueue, type RowQueueStats } from './row-queue.js'

export interface DatabaseStats {
  storage: StorageStats
  /** By queue: `log` (requests and activity), `touches` (last use of sessions). */
  queues: Record<string, RowQueueStats>
  health: Health
  /** The main thread's. */
  eventLoopDelay: EventLoopDelay
  /** This process's latest cleanup that was not a dry run, null until there is one. Those of other processes are in the cleanup's history. */
  lastCleanup: CleanupRun | null
}

/** What any queue of rows shows here. */
export type AnyQueue = Pick<RowQueue<never>, 'flush' | 'close' | 'stats'>

export interface Database {
  readonly storage: Storage
  /** Queue of the log's rows. */
  readonly log: RowQueue<LogRow>
  readonly clock: Clock
  readonly random: () => number
  /**
   * Runs statements of the host in one transaction, all or none; resolves after COMMIT.
   * @throws (rejects) DOORMAN_SQL_INVALID, DOORMAN_SQL_NOT_ALLOWED, DOORMAN_CONSTRAINT, DOORMAN_STORAGE_…
   */
  batch (statements: readonly SqlStatement[]): Promise<SqlResult[]>
  /** First row, off the event loop. Sees everything acknowledged before. */
  get (sql: string, params?: SqlStatement['params']): Promise<SqlRow | undefined>
  all (sql: string, params?: SqlStatement['params']): Promise<SqlRow[]>
  stats (): Promise<DatabaseStats>
  health (): Health
  /** Makes another plugin's queue part of flush, stats, health and close. A name that is taken gets a number (`touches-2`). */
  registerQueue (name: string, queue: AnyQueue): void
  /** Where a cleanup in this process tells its latest run. */
  registerCleanup (lastRun: () => CleanupRun | null): void
  /** The latest of what the cleanups registered here tell. */
  readonly lastCleanup: CleanupRun | null
  /** Measured from the start to the close. */
  readonly eventLoopDelay: DelayHistogram
  /**
   * Idle timeouts (ms) of all who keep sessions here, in whatever context they were registered: the cleanup removes what is older than
   * the longest of them.
   */
  readonly sessionTimeouts: Set<number>
  /** Ages (ms) at which addresses lose their host, of all cleanups here: rows that are older than the least of them when they are stored lose it before. */
  readonly addressTiers: Set<number>
  /**
   * Resolves when everything queued so far is committed.
   * @param within how long to wait, ms; without it for ever
   * @throws (rejects) DOORMAN_STORAGE_BUSY when it takes longer; what is queued stays queued
   */
  flush (within?: number): Promise<void>
  /** Stores what is queued, then closes. @throws (rejects) DOORMAN_CLOSE_INCOMPLETE when the deadline passed first */
  close (): Promise<void>
}

export interface CreateDatabaseOptions {
  storage: Storage
  log: StorageLogger
  /** Names this process in the log's idempotent batches. */
  source: string
  queueLimit: number
  linger: number
  queueWait: number
  closeTimeout: number
  clock: Clock
  random: () => number
}

/** Rows per batch: enough to make the transaction's cost vanish, few enough to keep it at some milliseconds. */
const BATCH_SIZE = 500
/** Dropped rows are reported at most this often, ms. */
const REPORT_EVERY_MS = 60_000

export function createDatabase ({ storage, log, source, queueLimit, linger, queueWait, closeTimeout, clock, random }: CreateDatabaseOptions): Database {
  const queues = new Map<string, AnyQueue>()
  const addressTiers = new Set<number>()
  // A batch sent again keeps its number and its time.
  let sent = { seq: 0, at: 0 }
  const drops = createDropReport(log, clock)
  const rows = createRowQueue<LogRow>({
    name: 'log',
    limit: queueLimit,
    batchSize: BATCH_SIZE,
    linger,
    wait: queueWait,
    commit (rows, seq) {
      if (sent.seq !== seq) sent = { seq, at: clock() }
      return storage.appendLog({ source, ...sent, rows: addressTiers.size === 0 ? rows : truncateOld(rows, clock() - Math.min(...addressTiers)) })
    },
    clock,
    random,
    onHealth ({ healthy, error }) {
      if (healthy) log.info({ queue: 'log' }, 'log rows are being stored again')
      else log.warn({ queue: 'log', err: error }, 'log rows cannot be stored at the moment: they stay queued')
    },
    onDrop: drops.add
  })
  queues.set('log', rows)
  const cleanups: (() => CleanupRun | null)[] = []
  const eventLoop = watchEventLoop()
  let closing: Promise<void> | undefined

  const health = (): Health => {
    const state = storage.health()
    const reasons = state.status === 'ok' ? [] : [...state.reasons]
    for (const [name, queue] of queues) {
      const { healthy, queued, inFlight, reserved, limit, dropped } = queue.stats()
      if (!healthy) reasons.push(`rows of the queue "${name}" cannot be stored at the moment`)
      if (queued + inFlight + reserved >= limit) reasons.push(`the queue "${name}" is full; rows dropped for that since the start: ${dropped['queue-full'] ?? 0}`)
    }
    return asHealth(reasons)
  }

  /** Contexts that share this database may each have a cleanup. */
  function lastCleanup (): CleanupRun | null {
    let last: CleanupRun | null = null
    for (const lastRun of cleanups) {
      const run = lastRun()
      if (run !== null && (last === null || run.startedAt > last.startedAt)) last = run
    }
    return last
  }

  const statement = (sql: string, params: SqlStatement['params']): SqlStatement => params === undefined ? { sql } : { sql, params }

  async function shutDown (): Promise<void> {
    const end = performance.now() + closeTimeout
    // Where nothing can be stored any more, waiting for it helps nobody.
    const left = () => storage.failure === undefined ? Math.max(0, end - performance.now()) : 0
    const reports: CloseReport[] = await Promise.all([...queues.values()].map(queue => queue.close(left())))
    reports.push(await storage.close(left()))
    eventLoop.stop()
    drops.report()
    const notStored = reports.reduce((sum, report) => sum + report.notStored, 0)
    if (notStored > 0) throw doormanError('DOORMAN_CLOSE_INCOMPLETE', [storage.failure === undefined ? closeTimeout : 0, notStored], storage.failure)
  }

  return {
    storage,
    log: rows,
    clock,
    random,
    batch: statements => storage.batch(statements),
    get: (sql, params) => storage.get(statement(sql, params)),
    all: (sql, params) => storage.all(statement(sql, params)),
    async stats () {
      const stats = Object.fromEntries([...queues].map(([name, queue]) => [name, queue.stats()]))
      return { storage: await storage.stats(), queues: stats, health: health(), eventLoopDelay: eventLoop.stats(), lastCleanup: lastCleanup() }
    },
    health,
    sessionTimeouts: new Set(),
    addressTiers,
    eventLoopDelay: eventLoop.histogram,
    get lastCleanup () { return lastCleanup() },
    registerCleanup (lastRun) { cleanups.push(lastRun) },
    registerQueue (name, queue) {
      // A plugin may be registered in several contexts that share this database, and none of their queues may be forgotten.
      let unique = name
      for (let n = 2; queues.has(unique); n++) unique = `${name}-${n}`
      queues.set(unique, queue)
    },
    async flush (within) {
      const all = Promise.all([...queues.values()].map(queue => queue.flush()))
      if (within === undefined) {
        await all
        return
      }
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(doormanError('DOORMAN_STORAGE_BUSY', [within])), within)
      })
      await Promise.race([all, late]).finally(() => clearTimeout(timer))
    },
    close () {
      closing ??= shutDown()
      return closing
    }
  }
}

/** Says what was dropped, once a minute at most, however much it is. */
function createDropReport (log: StorageLogger, clock: Clock) {
  const dropped = new Map<DropReason, number>()
  let reportedAt = -Infinity
  function report (): void {
    if (dropped.size === 0) return
    log.error({ dropped: Object.fromEntries(dropped) }, 'log rows were dropped')
    dropped.clear()
    reportedAt = clock()
  }
  return {
    report,
    add (reason: DropReason, rows: number): void {
      dropped.set(reason, (dropped.get(reason) ?? 0) + rows)
      // A clock set back must not silence it.
      if (Math.abs(clock() - reportedAt) >= REPORT_EVERY_MS) report()
    }
  }
}
