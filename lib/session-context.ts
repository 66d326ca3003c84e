/** What the parts of the session service share: its surroundings, its counters, and how a record becomes a view. */
import type { EndedSession, SessionRecord, Storage } from '../storage/storage.js'
import type { Clock } from './clock.js'
import type { SessionEvents } from './session-events.js'
import type { ResolvedSessionOptions } from './session-options.js'
import type { SessionStats, SessionView } from './session-types.js'
import type { RandomBytes } from './token.js'
import type { Touches } from './touches.js'
import { END_REASONS, type EndReason, type RefusalReason } from './vocabulary.js'

export type SessionStorage = Pick<Storage,
  'findSession' | 'getSession' | 'createSession' | 'rotateSession' | 'updateSessionData' | 'touchSessions' | 'endSessions' | 'listSessions' | 'listSessionDevices' | 'changeCounter'>

export interface SessionContext {
  storage: SessionStorage
  clock: Clock
  random: RandomBytes
  options: ResolvedSessionOptions
  /** The form of a canonical address that may be stored: anonymised where the host wants that. */
  storedAddress (address: string): string
  touches: Touches
  events: SessionEvents
  counters: Omit<SessionStats, 'pendingTouches'>
}

/** Every reason is there from the start, so that series of metrics begin at zero. */
export function createCounters (): SessionContext['counters'] {
  const zeros = <R extends string>(reasons: readonly R[]) => Object.fromEntries(reasons.map(reason => [reason, 0])) as Record<R, number>
  return {
    created: 0,
    renewed: 0,
    ended: zeros<EndReason>(END_REASONS),
    refused: zeros<RefusalReason>(['missing', 'malformed', 'unknown', ...END_REASONS])
  }
}

/** When a session ends: by its absolute end, or before that if it is not used again. */
export function endOf (record: SessionRecord, idleTimeout: number): { at: number, reason: 'idle' | 'expired' } {
  const idle = record.lastActiveAt + idleTimeout
  return idle < record.expiresAt ? { at: idle, reason: 'idle' } : { at: record.expiresAt, reason: 'expired' }
}

/** The session with the use of it that waits, timed out or not; null where there is none. */
export function getLatest ({ storage, touches }: SessionContext, id: string): Promise<SessionRecord | null> {
  return touches.during(storage.getSession(id), record => record === null ? null : touches.overlay(record))
}

/** `getLatest`, unless it has timed out. */
export async function getAlive (context: SessionContext, id: string, now: number): Promise<SessionRecord | null> {
  const record = await getLatest(context, id)
  return record === null || endOf(record, context.options.idleTimeout).at <= now ? null : record
}

/** What the host sees of a record. `record` has what waits for it already (see `touches.overlay`). */
export function toView (record: SessionRecord, idleTimeout: number): SessionView {
  return {
    id: record.id,
    userId: record.userId,
    createdAt: record.createdAt,
    lastActiveAt: record.lastActiveAt,
    idleExpiresAt: endOf(record, idleTimeout).at,
    expiresAt: record.expiresAt,
    authenticatedAt: record.authenticatedAt,
    ip: record.ip,
    lastIp: record.lastIp,
    userAgent: record.userAgent,
    device: record.device,
    flagged: record.flagged,
    // Most sessions hold no data: one comparison instead of a parse.
    data: record.data === '{}' ? {} : JSON.parse(record.data) as Record<string, unknown>
  }
}

/** Counts and reports sessions that were ended. */
export function noteEnded ({ counters, events }: SessionContext, ended: readonly EndedSession[], now: number): void {
  for (const { id, userId, reason } of ended) {
    counters.ended[reason]++
    events.emit('session_ended', now, userId, id, { reason })
  }
}
