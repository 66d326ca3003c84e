/**
 * What goes into an engine and comes out of it: records, parameters and results of the operations in storage.ts. Times are integer milliseconds
 * since the epoch.
 */
import type { EndReason, IpLogOutcome, IpSource } from '../lib/vocabulary.js'

// ---------------------------------------------------------------- sessions

/**
 * SHA-256 of a token: 64 hexadecimal digits, in lower case. As text, because that is what hashing gives fastest, what a Map takes for
 * a key, and what crosses to another thread without the pool that a Buffer is a part of.
 */
export type TokenHash = string
/** The hash of no token, to see whether tokens can be looked up. */
export const NO_TOKEN: TokenHash = '0'.repeat(64)

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

/** What a login came from, as far as it is known. */
export interface LoginDevice {
  /** Family and system, such as "Firefox on Windows". */
  device: string | null
  /** /24 or /64, such as 192.0.2.0/24. */
  network: string | null
}

/** Whether a user had been seen before a login: at all, with its device, in its network, with that device in that network. */
export interface KnownBefore { any: boolean, device: boolean, network: boolean, pair: boolean }

/** A device in a network that a user has logged in with. */
export interface SessionDevice extends LoginDevice {
  firstSeenAt: number
  lastSeenAt: number
  /** Logins. */
  sessions: number
}

/** Most devices kept per user. A new one that exceeds it takes the place of the one seen least recently. */
export const MAX_DEVICES = 100

export interface SessionCreateParams extends Liveness {
  tokenHash: TokenHash
  session: SessionRecord
  limit: SessionLimit | null
  /** Recorded in the same transaction, as seen when the session began. Null or left out: nothing is. */
  device?: LoginDevice | null
  /** Id of a session that gives way to this one in the same transaction, without a tombstone; it may have had the same token. */
  replaces?: string
}

export type SessionCreateResult =
  | {
    created: true
    evicted: EndedSession[]
    /** Null where no device was recorded. */
    known: KnownBefore | null
  }
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

/** Most trusted proxies that are told apart. */
export const MAX_TRUSTED_HOPS = 255

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
  /** Trusted proxies between the client and us, 0 to MAX_TRUSTED_HOPS; 0 also where that is not known. */
  trustedHops: number
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
export interface ActivityFilter { userId?: string, sessionId?: string, action?: string, from?: number, to?: number }
export type TopBy = 'ip' | 'path' | 'userAgent'
export interface TopEntry { value: string | null, count: number, errors: number, lastAt: number }
export interface SeriesPoint { at: number, count: number, errors: number }

// ---------------------------------------------------------------- pages

/** Newest first. `after` is the `next` of the page before. */
export interface PageParams { limit: number, after?: PageKey }
/** Position in a list: values of the sort columns of the last row. */
export type PageKey = readonly (string | number)[]
export interface Page<T> { items: T[], next: PageKey | null }

// ---------------------------------------------------------------- blocks, retention

export interface BlockRecord {
  id: string
  /** Canonical CIDR, such as 192.0.2.0/24 or 2001:db8::1/128. */
  cidr: string
  /** null: until removed. */
  until: number | null
  reason: string | null
  createdAt: number
}

/** Kinds of rows whose addresses are truncated at an age; the rows stay. */
export const ADDRESS_TARGETS = ['ipLogAddresses', 'activityAddresses', 'sessionAddresses'] as const
export type AddressTarget = typeof ADDRESS_TARGETS[number]
/** What the sweep removes, in this order, and what it truncates of the rest; a run cut short by its time budget is continued by the next one. */
export const SWEEP_TARGETS = ['sessionsIdle', 'sessionsExpired', 'sessionTombstones', 'sessionDevices', 'ipLogs', 'activity', 'deadLetters', 'blocks', 'cleanupRuns', 'logInternals', ...ADDRESS_TARGETS] as const
export type SweepTarget = typeof SWEEP_TARGETS[number]
export const isAddressTarget = (target: SweepTarget): target is AddressTarget => (ADDRESS_TARGETS as readonly SweepTarget[]).includes(target)

export interface SweepParams {
  target: SweepTarget
  /** Rows strictly older than this go, or lose the host part of their addresses. For `blocks`, `sessionsExpired`: rows that ended at or before it. */
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

// ---------------------------------------------------------------- the host's own tables

export type SqlValue = string | number | bigint | null | Uint8Array
export interface SqlStatement { sql: string, params?: readonly SqlValue[] | Record<string, SqlValue> }
export interface SqlResult { changes: number, lastInsertRowid: number | bigint }
export type SqlRow = Record<string, SqlValue>
