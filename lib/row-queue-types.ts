/** What a queue of rows is given, what it offers, and what it counts. */
import type { Clock } from './clock.js'

export interface RowQueueOptions<Row> {
  /** For errors and statistics. */
  name: string
  /** Most rows held at once, reservations and rows in flight included. At least 1. */
  limit: number
  /** Most rows per batch. At least 1. */
  batchSize: number
  /** How long a row may wait for company, ms. 0: sent in the same turn of the event loop. */
  linger: number
  /** How long `waitForRoom` waits, ms. 0: not at all. */
  wait: number
  /**
   * Stores a batch; resolves after COMMIT. Rejects with an error: the batch is kept and sent again after a backoff, with
   * the same `seq`. `seq` starts at 1 and rises by one per batch. The array belongs to the queue: it must not be changed.
   */
  commit (rows: Row[], seq: number): Promise<unknown>
  clock: Clock
  /** Milliseconds that are never set. Default: since the process began. */
  monotonic? (): number
  /** From 0 (included) to 1 (excluded). */
  random: () => number
  /** Called once when commits start failing and once when they work again. Must not throw. */
  onHealth? (state: { healthy: boolean, error?: Error }): void
  /** Called for rows that were given up, by reason. Must not throw. */
  onDrop? (reason: DropReason, rows: number): void
}

/** `queue-full`: no place in time. `close-deadline`: the queue closed before the row could be stored. */
export type DropReason = 'queue-full' | 'close-deadline'

/** Gauges (queued, inFlight, reserved, healthy, failingSince) and totals since creation. */
export interface RowQueueStats {
  /** Rows waiting to be sent. */
  queued: number
  /** Rows of the batch that was sent and is not committed yet, or waits to be sent again. */
  inFlight: number
  /** Places taken for rows to come. */
  reserved: number
  /** Estimate of what the rows queued and in flight hold, made when asked; see `byte-estimate.ts`. */
  bytes: number
  limit: number
  pushed: number
  committed: number
  /** Batches committed. */
  batches: number
  /** Attempts after the first one of each batch. */
  retries: number
  dropped: Partial<Record<DropReason, number>>
  healthy: boolean
  /** Since when commits fail (ms since the epoch), null while they work. */
  failingSince: number | null
}

export interface RowQueue<Row> {
  /** Takes a place for a row to come. False: full, or closing. */
  reserve (): boolean
  /** Waits for a place, at most `wait` ms; the promise resolves to whether one was taken and never rejects. FIFO. */
  waitForRoom (): Promise<boolean>
  /** Gives an unused place back. Exactly one `release` or `push…` must follow each place taken. */
  release (): void
  /** Adds a row on a place that was reserved. After the close it is counted as dropped. */
  push (row: Row): void
  /**
   * The same; resolves after the row's COMMIT. Flushes without linger. Rejects with DOORMAN_ROW_DELAYED when the store could not
   * commit it in its time (the row stays queued), with DOORMAN_ROW_NOT_STORED when the queue closes without having stored it.
   * Rows of one batch share one promise.
   */
  pushCommitted (row: Row): Promise<void>
  /** A place and a row in one step; false (and counted as dropped) when full or closing. For callers that cannot wait. */
  offer (row: Row): boolean
  /** Counts rows that were never pushed, because no place was to be had. */
  countDropped (reason: DropReason, rows?: number): void
  /**
   * Resolves when everything pushed before the call is committed, however long the store takes. Rejects only when the
   * queue closes first: DOORMAN_ROW_NOT_STORED.
   */
  flush (): Promise<void>
  /**
   * Refuses new places, stores what is queued, until the deadline (ms from now); then gives up and says how many rows
   * were left. Places already taken count as rows to come: it waits for their `push…` or `release`, too, as long as the
   * deadline allows. Never rejects; a second call returns the first one's promise.
   */
  close (deadlineMs: number): Promise<{ notStored: number }>
  stats (): RowQueueStats
}
