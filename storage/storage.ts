/**
 * The seam between the suite and an engine: a list of the suite's own operations, plain rows in and out, no SQL.
 * `storage/sqlite` and `storage/postgres` implement it; `test/storage/contract.ts` runs one suite against every engine.
 *
 * Rules every engine keeps:
 * - Every promise settles. Failures are errors of `errors.ts` (`DOORMAN_STORAGE_…`), never a driver's own.
 * - Times are integer milliseconds since the epoch and always come from the caller, never from the engine.
 * - An acknowledged write is committed. A rejected one left nothing behind, except DOORMAN_WRITER_DIED (unknown).
 * - `findSession` and `changeCounter` are point reads that never wait for a lock. On an embedded engine they answer
 *   synchronously (`T`), on a network engine with a promise; callers handle both and never assume one.
 */
import type { DoormanError } from '../errors.js'
import type { EndReason } from '../lib/vocabulary.js'
import type { AddressErased, AddressExport, UserErased, UserExport } from './held-records.js'
import type {
  ActivityFilter, BlockRecord, CleanupRun, EndedSession, IpLogFilter, LeaseParams, LogAppendResult, LogBatch, MaintainParams,
  MaintainResult, Page, PageParams, SeriesPoint, SessionCreateParams, SessionCreateResult, SessionListParams, SessionLookup,
  SessionDevice, SessionRecord, SessionRotateParams, SessionSelection, SessionTouch, SqlResult, SqlRow, SqlStatement, StoredActivity, StoredIpLog,
  SweepParams, SweepTarget, TokenHash, TopBy, TopEntry
} from './records.js'
import type { StorageStats } from './stats.js'

export * from './held-records.js'
export * from './records.js'
export type { FileStats, HistogramBuckets, LaneName, LaneStats, StorageStats } from './stats.js'

/** A value at hand, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>

// ---------------------------------------------------------------- condition

export type Health =
  | { status: 'ok' }
  | { status: 'degraded', reasons: string[] }

/** Settings read back from one open connection. */
export interface ConnectionReport {
  role: 'main-reader' | 'writer' | 'reader'
  file: 'main' | 'log'
  readonly: boolean
  /** The lock wait of this connection in ms: 0 on the main thread; in the writer it is the suite's own fair wait. */
  busyWaitMs: number
  pragmas: Record<string, string | number>
}

/** Facts that differ between engines; code asks them, never the engine's name. */
export interface StorageFacts {
  engine: 'sqlite' | 'postgres'
  /** True where other processes may share the database. */
  shared: boolean
  /** Whether `findSession` answers synchronously. */
  synchronousReads: boolean
  /** Whether the log is partitioned by day, so that whole days of it go at once: `sweep` may then remove more than `limit` rows. */
  partitions: boolean
  /** Whether `maintain` gives freed pages back to the file system. */
  freePages: boolean
  /** How statements of the host name their parameters: `?` and `:name`, or `$1`. */
  placeholders: 'sqlite' | 'numbered'
}

export interface CloseReport {
  /** Operations that were waiting and could not be stored before the deadline; not `appendLog` and `touchSessions`, whose rows their queue counts. */
  notStored: number
}

export interface Storage {
  readonly facts: StorageFacts

  /**
   * What a token leads to. An engine may answer from memory what was true at most a millisecond ago (an embedded one), except that the last
   * use in it may be a second old. A session that was last used at or before `idleBefore` is always read (so every one, unless it is given),
   * and so is whatever is not live.
   */
  findSession (tokenHash: TokenHash, now: number, idleBefore?: number): MaybePromise<SessionLookup | null>
  /** Reads what a check of a session reads: nothing where sessions can be checked, else what `findSession` throws. */
  probeSessions (): MaybePromise<void>
  /** A live session by its public id. */
  getSession (id: string): Promise<SessionRecord | null>
  /** Rejects with DOORMAN_CONSTRAINT when there is such a token or id already, or the token has ended. */
  createSession (params: SessionCreateParams): Promise<SessionCreateResult>
  /** False when `fromHash` is no longer the current token of a live session. */
  rotateSession (params: SessionRotateParams): Promise<boolean>
  /** False when there is no such live session. */
  updateSessionData (id: string, data: string): Promise<boolean>
  touchSessions (touches: SessionTouch[]): Promise<void>
  /** Ends live sessions; each leaves a tombstone with the reason. */
  endSessions (selection: SessionSelection, reason: EndReason, now: number): Promise<EndedSession[]>
  listSessions (params: SessionListParams): Promise<Page<SessionRecord>>
  /** What a user has logged in with, last seen first. */
  listSessionDevices (userId: string, limit: number): Promise<SessionDevice[]>

  appendLog (batch: LogBatch): Promise<LogAppendResult>
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>>
  topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]>
  /** Counts per `bucketMs`, oldest first; empty buckets are left out. */
  seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]>
  listActivity (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>>

  listBlocks (now: number): Promise<BlockRecord[]>
  addBlock (block: BlockRecord): Promise<void>
  removeBlock (id: string): Promise<boolean>
  /** A number that rises whenever blocks (or the revocation of sessions) changed, in any process. */
  changeCounter (name: 'blocks' | 'sessions'): MaybePromise<number>

  /** Removes up to `limit` rows, or truncates their addresses; returns how many. Fewer than `limit` means none are left. */
  sweep (params: SweepParams): Promise<number>
  /** How many rows a run with these cutoffs would remove or change, exactly, without doing so. */
  countSweepable (cutoffs: Record<SweepTarget, number>, now: number): Promise<Record<SweepTarget, number>>
  maintain (params: MaintainParams): Promise<MaintainResult>
  acquireLease (params: LeaseParams): Promise<boolean>
  /** Gives the lease back; `completedAt` marks a completed run (null: the next one may start at once). */
  releaseLease (name: string, holder: string, completedAt: number | null): Promise<void>
  addCleanupRun (run: CleanupRun): Promise<void>
  listCleanupRuns (page: PageParams): Promise<Page<CleanupRun>>

  exportUser (userId: string, limit: number): Promise<UserExport>
  /** Ends and removes everything held about a user, in small steps. Overwrites the freed bytes where the engine can. */
  eraseUser (userId: string): Promise<UserErased>
  /** By the form in which the address is stored. Blocks are not looked at. */
  exportAddress (ip: string, limit: number): Promise<AddressExport>
  /** Removes the requests from an address, and the address from everything else; blocks stay. In small steps; overwrites the freed bytes where the engine can. */
  eraseAddress (ip: string): Promise<AddressErased>

  batch (statements: readonly SqlStatement[]): Promise<SqlResult[]>
  get (statement: SqlStatement): Promise<SqlRow | undefined>
  all (statement: SqlStatement): Promise<SqlRow[]>

  /** Writes a consistent copy of both files beside each other while the service runs. Returns the paths written. */
  backup (file: string): Promise<string[]>
  /** Integrity check of both files: a list of findings, empty when sound. */
  check (): Promise<string[]>
  connections (): Promise<ConnectionReport[]>
  stats (): Promise<StorageStats>
  health (): Health
  /** What `onFatal` was called with: nothing can be written any more. */
  readonly failure: DoormanError | undefined
  /** Refuses new work, stores what waits, closes. Never rejects. Idempotent. */
  close (deadlineMs: number): Promise<CloseReport>
}

/** What an engine needs from the outside. */
export interface StorageOptions {
  /** Lock wait per operation before DOORMAN_STORAGE_BUSY, ms. */
  busyTimeout: number
  /** Most operations that may wait for the writer at once (log batches not counted). */
  maxPending: number
  /** SQLite: frames of a WAL that wait to be copied back before it is reported; default 20000 (80 MB). */
  walBacklogLimit?: number
  log: StorageLogger
  /**
   * Called once, when nothing can be written any more for as long as this process lives: the writer thread died too often
   * (DOORMAN_WRITER_DIED), or a file was removed or replaced while in use (DOORMAN_STORAGE_REPLACED).
   */
  onFatal? (error: DoormanError): void
}
export interface StorageLogger {
  info (fields: object, message: string): void
  warn (fields: object, message: string): void
  error (fields: object, message: string): void
  fatal (fields: object, message: string): void
}
