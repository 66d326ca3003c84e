/** What this engine tells about itself, per file of the contract: sessions and what belongs to them (main), the log (log). */
import { createHistogram } from '../../lib/prometheus.js'
import type { FileStats, LaneName } from '../storage.js'

const CONFLICT_MS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000]
const ROWS_PER_COMMIT = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]

/** Sizes of tables, asked of the server. */
export interface Pages { pageCount: number, pageSize: number }

export class Counters {
  #commits = 0
  #rows = 0
  #transactionMsMax = 0
  #conflictMsMax = 0
  #busy: Record<string, number> = {}
  #conflicts = createHistogram(CONFLICT_MS)
  #rowsPerCommit = createHistogram(ROWS_PER_COMMIT)

  committed (rows: number, ms: number): void {
    this.#commits++
    this.#rows += rows
    this.#rowsPerCommit.observe(rows)
    this.#transactionMsMax = Math.max(this.#transactionMsMax, ms)
  }

  /** An attempt failed because of others, after so many ms. */
  conflicted (code: string, ms: number): void {
    this.#busy[code] = (this.#busy[code] ?? 0) + 1
    this.#conflicts.observe(ms)
    this.#conflictMsMax = Math.max(this.#conflictMsMax, ms)
  }

  stats (waiting: Record<LaneName, number>, { pageCount, pageSize }: Pages, deadLetters: number): FileStats {
    const { buckets, count, sum } = this.#conflicts.sample()
    const lane = (name: LaneName) => ({ operations: waiting[name], bytes: 0 })
    return {
      path: null,
      lanes: { interactive: lane('interactive'), bulk: lane('bulk'), maintenance: lane('maintenance') },
      commits: this.#commits,
      rows: this.#rows,
      rowsPerCommitBuckets: this.#rowsPerCommit.sample().buckets,
      busy: { ...this.#busy },
      lockWaits: count,
      lockWaitMsTotal: sum,
      lockWaitMsMax: this.#conflictMsMax,
      lockWaitMsBuckets: buckets,
      transactionMsMax: this.#transactionMsMax,
      deadLetters,
      walFrames: 0,
      walBacklog: 0,
      oldestReaderMs: 0,
      checkpointMsMax: 0,
      pageCount,
      freePages: 0,
      pageSize
    }
  }
}
