/** Everything held about a user or with an address: what an export hands out, and what an erasure tells. */
import type { EndReason } from '../lib/vocabulary.js'
import type { SessionDevice, SessionRecord, StoredActivity, StoredIpLog } from './records.js'

/** Everything held about a user. Lists are complete up to `limit` rows each, newest first. */
export interface UserExport {
  sessions: SessionRecord[]
  endedSessions: { id: string, reason: EndReason, endedAt: number }[]
  devices: SessionDevice[]
  activity: StoredActivity[]
  ipLogs: StoredIpLog[]
  /** Refused rows of theirs. */
  deadLetters: DeadLetter[]
  truncated: boolean
}
export interface UserErased { sessions: number, endedSessions: number, devices: number, activity: number, ipLogs: number, deadLetters: number }

/** Everything held with an address. Lists are complete up to `limit` rows each. */
export interface AddressExport {
  /** Live sessions that began, or were last used, at it. */
  sessions: SessionRecord[]
  activity: StoredActivity[]
  /** Requests from it, newest first. */
  ipLogs: StoredIpLog[]
  /** Refused rows that mention it. */
  deadLetters: DeadLetter[]
  /** Requests of others that came through it (a proxy): they are theirs, so they are only counted. */
  relayed: number
  truncated: boolean
}
/** A row that a constraint refused, with the reason. `content`: the row as JSON text. */
export interface DeadLetter { id: number, at: number, kind: string, userId: string | null, reason: string, content: string }
/** Rows changed: requests and refused rows were removed, everything else stays without the address. */
export interface AddressErased { ipLogs: number, relayed: number, activity: number, sessions: number, deadLetters: number }
