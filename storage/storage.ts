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
import type { IpLogOutcome, IpSource, EndReason } from '../lib/vocabulary.js'
import type { StorageStats } from './stats.js'

export type { FileStats, HistogramBuckets, LaneName, LaneStats, StorageStats } from './stats.js'

/** A value at hand, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>

// ---------------------------------------------------------------- sessions

/**
 * SHA-256 of a token: 64 hexadecimal digits, in lower case. As text, because that is what hashing gives fastest, what a Map takes for
 * a key, and what crosses to another thread without the pool that a Buffer is a part of.
 */
export type TokenHash = string

/** A live session as stored. Expiry is judged by the caller (`lib/sessions.ts`), not by the engine. */
export interface SessionRecord {
  /** Public id: for lists and revocation. Says nothing about the token. */
  id: string
  userId: string
  createdAt: number
  /** Last use that was written; lags behind the real last use by at most the touch interval. */
  lastActiveAt: number
  /** When the user last proved who they are: creation, or a re-authenticating rotation. */
  authenticatedAt: number
  /** When the present token was issued. */
  rotatedAt: number
  /** Absolute end; activity never moves it. */
  expiresAt: number
  ip: string | null
  lastIp: string | null
  userAgent: string | null
  lastUserAgent: string | null
  /** Family and system, such as "Firefox on Windows". */
  device: string | null
  /** True once the client changed in a way the policy reports. */
  flagged: boolean
  /** The host's data, JSON text (an object). */
  data: string
}

/** What a token leads to. `grace`: the token was rotated away, but its grace window is still open. */
export type SessionLookup =
  | { state: 'live' | 'grace', session: SessionRecord }
  | { state: 'ended', sessionId: string, userId: string, reason: EndReason, endedAt: number }

/** Limit of live sessions per user, applied in the same transaction as the insert. */
export interface SessionLimit { max: number, policy: 'evict-oldest' | 'evict-idle' | 'reject' }

/** Which live sessions still count: those used after `idleBefore` whose absolute end is after `now`. */
export interface Liveness { now: number, idleBefore: number }

export interface SessionCreateParams extends Liveness {
  tokenHash: TokenHash
  session: SessionRecord
  limit: SessionLimit | null
  /** Id of a session that gives way to this one in the same transaction, without a tombstone; it may have had the same token. */
  replaces?: string
}

export type SessionCreateResult =
  | { created: true, evicted: EndedSession[] }
  | { created: false, live: number }

export interface EndedSession { id: string, userId: string, reason: EndReason }

export interface SessionRotateParams {
  sessionId: string
  /** The token that must still be the current one; when it is not, nothing happens. */
  fromHash: TokenHash
  toHash: TokenHash
  now: number
  /** Until when the old token is still accepted. Equal to `now`: dead at once, and the grace of earlier tokens ends too. */
  graceUntil: number
  /** Given when the user authenticated again: sets authenticatedAt to `now` and the absolute end anew. */
  reauthenticated: { expiresAt: number } | null
  /** Longest wait for a lock, ms, where it should be shorter than usual. Past it DOORMAN_STORAGE_BUSY, and nothing has happened or will. */
  wait?: number
}

/** Which sessions to end: one (optionally only if it is that user's), a user's (optionally all but one), or all. */
export type SessionSelection =
  | { id: string, userId?: string }
  | { userId: string, exceptId?: string }
  | { all: true }

/** Last use of a session. Applied as a maximum, so replays and late arrivals do no harm. */
export interface SessionTouch {
  sessionId: string
  at: number
  ip: string | null
  userAgent: string | null
  /** True sets the flag; false leaves it as it is. */
  flagged: boolean
}

export interface SessionListParams extends Liveness, PageParams { userId?: string, ip?: string }

// ---------------------------------------------------------------- the log

/** One request. `null` where not known. Strings are already bounded and cleaned (`lib/request-row.ts`). */
export interface IpLogRow {
  kind: 'ip'
  at: number
  /** Canonical address, its anonymised form, or null when the client gave none that is valid. */
  ip: string | null
  ipSource: IpSource
  /** The socket's address where it differs from `ip`, else null. */
  peerIp: string | null
  peerPort: number | null
  method: string
  /** Without the query. */
  path: string
  /** Route pattern, null where no route matched. */
  route: string | null
  /** 0 when no status was sent. */
  status: number
  durationUs: number
  userAgent: string | null
  /** Origin of the Referer header. */
  referer: string | null
  sessionId: string | null
  userId: string | null
  requestId: string | null
  outcome: IpLogOutcome
  /** Rows with the same key are stored once (rows reported by other services). */
  idempotencyKey?: string
}

/** One thing a user did. */
export interface ActivityRow {
  kind: 'activity'
  at: number
  userId: string
  sessionId: string | null
  action: string
  ip: string | null
  /** JSON text (an object), or null. */
  detail: string | null
}

export type LogRow = IpLogRow | ActivityRow

/** A batch of rows. The pair (source, seq) makes a repeated batch harmless: it is stored at most once. */
export interface LogBatch {
  /** Unique per process start. */
  source: string
  /** Rising by one per batch of that source; batches are sent in order. */
  seq: number
  /** When it was sent first. */
  at: number
  rows: LogRow[]
}

export interface LogAppendResult {
  /** Rows that a constraint refused; each is in `dead_letters` with the reason. */
  deadLetters: number
  /** Rows left out because their idempotency key is stored already. */
  duplicates: number
}

export interface StoredIpLog extends Omit<IpLogRow, 'kind' | 'idempotencyKey'> { id: number }
export interface StoredActivity extends Omit<ActivityRow, 'kind'> { id: number }

/** Filters are combined with AND; `from` is inclusive, `to` exclusive. */
export interface IpLogFilter { ip?: string, userId?: string, sessionId?: string, status?: number, from?: number, to?: number }
export type TopBy = 'ip' | 'path' | 'userAgent'
export interface TopEntry { value: string | null, count: number, errors: number, lastAt: number }
export interface SeriesPoint { at: number, count: number, errors: number }

// ---------------------------------------------------------------- pages

/** Newest first. `after` is the `next` of the page before. */
export interface PageParams { limit: number, after?: PageKey }
/** Position in a list: values of the sort columns of the last row. */
export type PageKey = readonly (string | number)[]
export interface Page<T> { items: T[], next: PageKey | null }

// ---------------------------------------------------------------- blocks, retention, users

export interface BlockRecord {
  id: string
  /** Canonical CIDR, such as 192.0.2.0/24 or 2001:db8::1/128. */
  cidr: string
  /** null: until removed. */
  until: number | null
  reason: string | null
  createdAt: number
}

/** What the sweep removes, in this order; a run cut short by its time budget is continued by the next one. */
export const SWEEP_TARGETS = ['sessionsIdle', 'sessionsExpired', 'sessionTombstones', 'ipLogs', 'activity', 'deadLetters', 'blocks', 'cleanupRuns', 'logInternals'] as const
export type SweepTarget = typeof SWEEP_TARGETS[number]

export interface SweepParams {
  target: SweepTarget
  /** Rows strictly older than this go. For `blocks`, `sessionsExpired`: rows that ended at or before it. */
  before: number
  /** At most this many rows in this step. */
  limit: number
  now: number
}

export interface MaintainParams {
  /** Free pages to return to the file system in this step (per file). */
  pages: number
  /** Also refresh the query planner's statistics. */
  optimize: boolean
}
export interface MaintainResult { freedPages: number, remainingPages: number }

export interface CleanupRun {
  id: string
  startedAt: number
  durationMs: number
  dryRun: boolean
  /** What asked for it: the schedule, or somebody. */
  trigger: 'schedule' | 'manual'
  /** False when the time budget ended the run early. */
  complete: boolean
  removed: Record<SweepTarget, number>
  freedPages: number
  /** Code of the error that ended the run, or null. */
  error: string | null
}

export interface LeaseParams {
  name: string
  holder: string
  now: number
  /** When it ends by itself, should the holder die. */
  until: number
  /** Refused when the last completed run is later than this. */
  lastRunBefore: number
}

/** Everything held about a user. Lists are complete up to `limit` rows each, newest first. */
export interface UserExport {
  sessions: SessionRecord[]
  endedSessions: { id: string, reason: EndReason, endedAt: number }[]
  activity: StoredActivity[]
  ipLogs: StoredIpLog[]
  truncated: boolean
}
export interface UserErased { sessions: number, endedSessions: number, activity: number, ipLogs: number, deadLetters: number }

// ---------------------------------------------------------------- the host's own tables

export type SqlValue = string | number | bigint | null | Uint8Array
export interface SqlStatement { sql: string, params?: readonly SqlValue[] | Record<string, SqlValue> }
export interface SqlResult { changes: number, lastInsertRowid: number | bigint }
export type SqlRow = Record<string, SqlValue>

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

  appendLog (batch: LogBatch): Promise<LogAppendResult>
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>>
  topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]>
  /** Counts per `bucketMs`, oldest first; empty buckets are left out. */
  seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]>
  listActivity (filter: { userId?: string, sessionId?: string, action?: string, from?: number, to?: number }, page: PageParams): Promise<Page<StoredActivity>>

  listBlocks (now: number): Promise<BlockRecord[]>
  addBlock (block: BlockRecord): Promise<void>
  removeBlock (id: string): Promise<boolean>
  /** A number that rises whenever blocks (or the revocation of sessions) changed, in any process. */
  changeCounter (name: 'blocks' | 'sessions'): MaybePromise<number>

  /** Removes up to `limit` rows; returns how many. Fewer than `limit` means none are left. */
  sweep (params: SweepParams): Promise<number>
  /** How many rows a run with these cutoffs would remove, exactly, without removing any. */
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
