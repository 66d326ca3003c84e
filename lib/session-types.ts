/** What the session service takes and gives: the types its callers see. */
import type { EndReason, RefusalReason } from './vocabulary.js'

/** A live session as the host sees it. Times are milliseconds since the epoch. Holds neither the token nor its hash. */
export interface SessionView {
  /** Public id: for lists and revocation. */
  id: string
  userId: string
  createdAt: number
  /** Last use; may lag behind by the touch interval. */
  lastActiveAt: number
  /** When it ends if it is not used again. */
  idleExpiresAt: number
  /** When it ends in any case. */
  expiresAt: number
  /** When the user last proved who they are. */
  authenticatedAt: number
  /** Address at creation, where known. */
  ip: string | null
  /** Address of the last use that was recorded. */
  lastIp: string | null
  /** User agent at creation. */
  userAgent: string | null
  /** Family and system at creation, such as "Firefox on Windows". */
  device: string | null
  /** Whether it was used from a changed client since it began. */
  flagged: boolean
  data: Record<string, unknown>
}

/** Who uses a session, as far as it is known. */
export interface ClientInfo {
  /** Null: not known. */
  ip: string | null
  /** Null: not known. Empty: none was sent. */
  userAgent: string | null
}

/** What a token is worth. The reason of a refusal is for the host; clients are not told. */
export type Validation =
  | {
    valid: true
    session: SessionView
    /** `grace`: the token was replaced by a renewal moments ago. */
    state: 'live' | 'grace'
    /** The token is older than `renewAfter`: time for `renew`. */
    renewalDue: boolean
  }
  | Refusal

export interface Refusal {
  valid: false
  reason: RefusalReason
  /** Since when. This and the next two are there where a session is known, else none of them. */
  at?: number
  sessionId?: string
  userId?: string
}

export interface CreateSession {
  /** 1 to 255 code points without control characters. */
  userId: string
  /** A plain JSON object of at most `dataLimit` bytes. Default {}. */
  data?: Record<string, unknown>
  /** Undefined and null: not known. */
  ip?: string | null | undefined
  userAgent?: string | null | undefined
}

/** A token and what it opens. The token is shown here once and is nowhere else to be found. */
export interface IssuedSession {
  token: string
  session: SessionView
}

export interface RotateSession {
  /** The user has just authenticated again: both timeouts and the freshness start anew, and no older token stays valid. */
  reauthenticated?: boolean
  /** How long the old token still works, ms. Default 0: it is dead at once. Not together with `reauthenticated`. */
  grace?: number
}

export interface ListSessions {
  /** Only this user's. */
  userId?: string
  /** Sessions begun at or last used from this address. */
  ip?: string
  /** 1 to 500. Default 50. */
  limit?: number
  /** `next` of the page before. */
  after?: readonly (string | number)[]
}

/** Counters since start, of this process. */
export interface SessionStats {
  created: number
  renewed: number
  ended: Record<EndReason, number>
  refused: Record<RefusalReason, number>
  /** Uses that wait to be written. */
  pendingTouches: number
}
