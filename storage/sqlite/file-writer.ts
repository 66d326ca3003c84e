/**
 * All writing of one file: operations wait in three lanes, and whatever waits when the write lock is had goes into one transaction.
 *
 *   interactive  somebody waits for the answer: goes first, committed at once
 *   bulk         batches of rows; about 2000 rows per transaction, so that an interactive operation behind them waits some milliseconds only
 *   maintenance  one operation at a time, alone in its transaction, only when the other lanes are empty
 *
 * The lock wait polls about once a millisecond, with jitter, from a timer: the thread's other file goes on meanwhile. SQLite's lock is no
 * queue; constant polling gives every process the same chance, while backing off gives it to whoever came last (16 processes:
 * p99.9 0.3 s against 5.3 s, and starved processes). An operation that waited `busyTimeout` fails with DOORMAN_STORAGE_BUSY; the others go on waiting.
 */
import { doormanError, type DoormanError } from '../../errors.js'
import { estimateBytes } from '../../lib/byte-estimate.js'
import { createHistogram } from '../../lib/prometheus.js'
import type { Connection } from './connection.js'
import { encodeError, isFatalToTransaction, isLock, sqliteCode, toDoormanError } from './errors.js'
import { LANES, putBack, rowsOf, take, type Lanes, type Waiting, type WriteOperation } from './lanes.js'
import type { LockWatch } from './lock-watch.js'
import type { WireReply, WriterFileStats } from './protocol.js'
import type { WalFigures } from './wal-watch.js'

export interface FileWriterOptions {
  connection: Connection
  busyTimeout: number
  reply (replies: WireReply[]): void
  /** Called after a rollback: what operations remember may not have been stored. */
  rolledBack (): void
  committed (): void
  /** Called after each COMMIT. What it throws is what everything in that transaction fails with: nobody would find it in the file. */
  assertSame (): void
  /** Rows set aside so far, for the statistics. */
  deadLetters (): number
  /** Told of each time the lock was asked for. */
  lock: Pick<LockWatch, 'refused' | 'had' | 'reported'>
  /** State of the WAL, for the statistics. */
  wal (): WalFigures
  /** Milliseconds, monotonic. */
  now (): number
  random (): number
}

/** How often a lock that nobody waits for any more is asked for, to tell that it is free again, ms. */
const PROBE_MS = 1000

const LOCK_WAIT_MS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000]
const ROWS_PER_COMMIT = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]

export class FileWriter {
  readonly connection: Connection
  #options: FileWriterOptions
  #lanes: Lanes = { interactive: [], bulk: [], maintenance: [] }
  #running = false
  /** The next transaction gives each operation a savepoint. */
  #careful = false
  #lockWaitSince: number | undefined
  #probe: NodeJS.Timeout | undefined
  #stats = { commits: 0, rows: 0, busy: {} as Record<string, number>, lockWaitMsMax: 0, transactionMsMax: 0 }
  #lockWaits = createHistogram(LOCK_WAIT_MS)
  #rowsPerCommit = createHistogram(ROWS_PER_COMMIT)

  constructor (options: FileWriterOptions) {
    this.#options = options
    this.connection = options.connection
  }

  get waiting (): number {
    return LANES.reduce((sum, lane) => sum + this.#lanes[lane].length, 0)
  }

  submit (id: number, operation: WriteOperation, params: never): void {
    const wait = operation.wait?.(params) ?? this.#options.busyTimeout
    this.#lanes[operation.lane].push({ id, operation, params, wait, deadline: this.#options.now() + wait })
    if (this.#running) return
    this.#running = true
    clearTimeout(this.#probe)
    // After the messages of this turn, so that they share the transaction.
    setImmediate(this.#turn)
  }

  /** Fails everything that waits; used when closing gives up. */
  abandon (error: DoormanError): void {
    this.#lockWaitSince = undefined
    clearTimeout(this.#probe)
    this.#reject(LANES.flatMap(lane => this.#lanes[lane].splice(0)), error)
  }

  stats (): WriterFileStats {
    const { interactive, bulk, maintenance } = this.#lanes
    const lane = (waiting: Waiting[]) => ({ operations: waiting.length, bytes: estimateBytes(waiting.map(({ params }) => params)) })
    const { buckets, count, sum } = this.#lockWaits.sample()
    return {
      ...this.#stats,
      busy: { ...this.#stats.busy },
      lanes: { interactive: lane(interactive), bulk: lane(bulk), maintenance: lane(maintenance) },
      rowsPerCommitBuckets: this.#rowsPerCommit.sample().buckets,
      lockWaits: count,
      lockWaitMsTotal: sum,
      lockWaitMsBuckets: buckets,
      deadLetters: this.#options.deadLetters(),
      ...this.#options.wal(),
      pageCount: this.connection.number('page_count'),
      freePages: this.connection.number('freelist_count'),
      pageSize: this.connection.number('page_size')
    }
  }

  #turn = (): void => {
    if (this.waiting === 0) {
      this.#running = false
      if (this.#options.lock.reported) this.#probe = setTimeout(this.#askForLock, PROBE_MS).unref()
      return
    }
    const [next] = this.#lanes.maintenance
    if (next?.operation.bare === true && this.#lanes.interactive.length + this.#lanes.bulk.length === 0) {
      this.#lanes.maintenance.shift()
      this.#runBare(next)
    } else if (this.#begin()) {
      this.#endLockWait()
      this.#transact(take(this.#lanes))
    } else {
      // setTimeout is exact to about a millisecond: 1 or 2, so that processes do not poll in step.
      setTimeout(this.#turn, this.#options.random() < 0.5 ? 1 : 2)
      return
    }
    setImmediate(this.#turn)
  }

  /** Nobody waits for it any more, but somebody was told that it is held. */
  #askForLock = (): void => {
    if (this.#begin()) this.connection.run('ROLLBACK')
    this.#turn()
  }

  /** False when somebody else holds the lock, or nothing could be begun; operations whose time is up are failed then. */
  #begin (): boolean {
    try {
      this.connection.run('BEGIN IMMEDIATE')
      this.#options.lock.had()
      return true
    } catch (error) {
      const now = this.#options.now()
      if (isLock(error)) {
        const code = sqliteCode(error)!
        this.#options.lock.refused()
        this.#stats.busy[code] = (this.#stats.busy[code] ?? 0) + 1
        this.#lockWaitSince ??= now
        this.#expire(now, this.#lockWaitSince)
      } else {
        this.abandon(toDoormanError(error))
      }
      return false
    }
  }

  #endLockWait (): void {
    if (this.#lockWaitSince === undefined) return
    this.#countLockWait(this.#options.now() - this.#lockWaitSince)
    this.#lockWaitSince = undefined
  }

  #countLockWait (waited: number): void {
    this.#lockWaits.observe(waited)
    this.#stats.lockWaitMsMax = Math.max(this.#stats.lockWaitMsMax, waited)
  }

  #expire (now: number, since: number): void {
    for (const lane of LANES) {
      const waiting = this.#lanes[lane]
      if (!waiting.some(operation => operation.deadline <= now)) continue
      for (const operation of waiting.splice(0)) {
        if (operation.deadline > now) {
          waiting.push(operation)
          continue
        }
        // It may have come when others were waiting already.
        this.#countLockWait(now - Math.max(since, operation.deadline - operation.wait))
        this.#reject([operation], doormanError('DOORMAN_STORAGE_BUSY', [operation.wait]))
      }
    }
    // Whoever comes next begins a wait of its own.
    if (this.waiting === 0) this.#lockWaitSince = undefined
  }

  /**
   * Without savepoints, which cost a copy of every page an operation touches. Where one operation fails, all are undone and run again, with
   * a savepoint each: its fault is its own.
   */
  #transact (taken: Waiting[]): void {
    const started = this.#options.now()
    const replies: WireReply[] = []
    const careful = this.#careful
    this.#careful = false
    let rows = 0
    try {
      for (const waiting of taken) {
        replies.push(careful ? this.#runOne(waiting) : this.#run(waiting))
        rows += rowsOf(waiting)
      }
      this.connection.run('COMMIT')
      this.#options.assertSame()
    } catch (error) {
      const { inTransaction } = this.connection.db
      const culprit = isFatalToTransaction(error) ? undefined : taken[replies.length]
      if (inTransaction) this.connection.run('ROLLBACK')
      this.#options.rolledBack()
      // What SQLite says about the transaction as a whole (no space, input/output, damage) fails everything in it, as does a failed COMMIT.
      if (culprit === undefined || (taken.length === 1 && inTransaction)) this.#reject(taken, toDoormanError(error))
      else if (inTransaction) this.#runCarefully(taken)
      else this.#runOthers(taken, culprit, error)
      return
    }
    this.#stats.commits++
    this.#stats.rows += rows
    this.#rowsPerCommit.observe(rows)
    this.#stats.transactionMsMax = Math.max(this.#stats.transactionMsMax, this.#options.now() - started)
    this.#options.reply(replies)
    this.#options.committed()
  }

  #run ({ id, operation, params }: Waiting): WireReply {
    return { id, ok: true, value: operation.run(this.connection, params) }
  }

  /** One operation in a savepoint: its fault is its own, the others of the transaction stay. */
  #runOne (waiting: Waiting): WireReply {
    this.connection.run('SAVEPOINT operation')
    try {
      const reply = this.#run(waiting)
      this.connection.run('RELEASE operation')
      return reply
    } catch (error) {
      // A ROLLBACK conflict clause or trigger ends the whole transaction.
      if (isFatalToTransaction(error) || !this.connection.db.inTransaction) throw error
      this.connection.run('ROLLBACK TO operation')
      this.connection.run('RELEASE operation')
      this.#options.rolledBack()
      return { id: waiting.id, ok: false, error: encodeError(toDoormanError(error)) }
    }
  }

  #runCarefully (taken: Waiting[]): void {
    putBack(this.#lanes, taken)
    this.#careful = true
  }

  /** One operation ended the transaction, and its fault is its own: the others wait for the next one, in their order. */
  #runOthers (taken: Waiting[], culprit: Waiting, error: unknown): void {
    const again = culprit.operation.again?.() === true
    putBack(this.#lanes, taken.filter(waiting => again || waiting !== culprit))
    if (!again) this.#reject([culprit], toDoormanError(error))
  }

  #runBare ({ id, operation, params }: Waiting): void {
    try {
      this.#options.reply([{ id, ok: true, value: operation.run(this.connection, params) }])
    } catch (error) {
      this.#options.reply([{ id, ok: false, error: encodeError(toDoormanError(error)) }])
    }
  }

  #reject (operations: Waiting[], error: DoormanError): void {
    const wire = encodeError(error)
    this.#options.reply(operations.map(({ id }) => ({ id, ok: false, error: wire })))
  }
}
