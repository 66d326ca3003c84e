/** The numbers an engine tells about itself: counters since its start (totals) and gauges (now). */

export interface StorageStats {
  engine: string
  version: string
  /** Per file: `main` holds sessions, `log` the rows. */
  files: Record<'main' | 'log', FileStats>
  writer: { restarts: number, pendingOperations: number }
  reader: { pendingOperations: number, restarts: number }
}

/** Cumulative: how many values were at or below each bound, ascending, without the last bucket (+Inf), which is the number of all values. */
export type HistogramBuckets = readonly (readonly [bound: number, count: number])[]

/** Counters begin at 0 again when the writer thread had to be started again. */
export interface FileStats {
  /** null where the engine has no such thing. */
  path: string | null
  /** What waits in the writer, by lane. Zeros where the engine has no lanes. */
  lanes: Record<LaneName, LaneStats>
  commits: number
  rows: number
  /** Rows of each commit; the number of values is `commits`, their sum `rows`. */
  rowsPerCommitBuckets: HistogramBuckets
  /** Transactions tried again after a lock, by code. */
  busy: Record<string, number>
  /** Waits for a lock: one for each transaction that did not have it at once, and one for each operation that the deadline ended. */
  lockWaits: number
  lockWaitMsTotal: number
  lockWaitMsMax: number
  /** The same waits by their length, ms. */
  lockWaitMsBuckets: HistogramBuckets
  /** Longest write transaction, ms. */
  transactionMsMax: number
  deadLetters: number
  walFrames: number
  /** WAL frames not yet copied back into the file: stays high while a reader is pinned. */
  walBacklog: number
  /**
   * For how long at least, ms, a reader (in any process) has been on an old snapshot; 0 when none is known. A lower bound: a reader counts from
   * the moment it was seen to keep a WAL of 2000 frames from being copied back, which is looked at once a second and with every commit.
   */
  oldestReaderMs: number
  /** Longest time the writer took to copy the WAL back, ms: what comes next waits for that, answers do not. */
  checkpointMsMax: number
  pageCount: number
  freePages: number
  pageSize: number
}

/** interactive: somebody waits for the answer; bulk: batches of rows; maintenance: steps of the cleanup. */
export type LaneName = 'interactive' | 'bulk' | 'maintenance'

export interface LaneStats {
  operations: number
  /** Estimate of what they carry, made when asked; see `lib/byte-estimate.ts`. */
  bytes: number
}
