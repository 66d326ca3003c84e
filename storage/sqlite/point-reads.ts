/**
 * The lookups the main thread does itself: single rows by primary key. They run on the main thread's read-only connection, and on
 * the reader thread's when the former met a lock (WAL recovery, at a start-up beside us).
 */
import type { EndReason } from '../../lib/vocabulary.js'
import { NO_TOKEN, type MaybePromise, type SessionLookup, type TokenHash } from '../storage.js'
import type { Connection } from './connection.js'
import { isLock, toDoormanError } from './errors.js'
import { toSession, type SessionRow } from '../rows.js'
import { SESSION_COLUMNS } from './session-rows.js'

interface TombstoneRow { session_id: string, user_id: string, reason: EndReason, ended_at: number, grace_until: number }

/** A token's hash as the file has it. */
export const hashBytes = (tokenHash: TokenHash): Buffer => Buffer.from(tokenHash, 'hex')

export function findSession (connection: Connection, tokenHash: TokenHash, now: number): SessionLookup | null {
  const hash = hashBytes(tokenHash)
  const live = connection.get<SessionRow<number>>(`SELECT ${SESSION_COLUMNS} FROM sessions WHERE token_hash = ?`, hash)
  if (live !== undefined) return { state: 'live', session: toSession(live) }
  const ended = connection.get<TombstoneRow>('SELECT session_id, user_id, reason, ended_at, grace_until FROM session_tombstones WHERE token_hash = ?', hash)
  if (ended === undefined) return null
  if (ended.grace_until > now) {
    const successor = connection.get<SessionRow<number>>(`SELECT ${SESSION_COLUMNS} FROM sessions WHERE id = ?`, ended.session_id)
    if (successor !== undefined) return { state: 'grace', session: toSession(successor) }
  }
  return { state: 'ended', sessionId: ended.session_id, userId: ended.user_id, reason: ended.reason, endedAt: ended.ended_at }
}

/** Reads what a check does: on the way from a token to its row, and a row. */
export function probeSessions (connection: Connection): void {
  findSession(connection, NO_TOKEN, 0)
  connection.get(`SELECT ${SESSION_COLUMNS} FROM sessions ORDER BY rowid DESC LIMIT 1`)
}

export function changeCounter (connection: Connection, name: string): number {
  return connection.get<{ value: number }>('SELECT value FROM doorman_counters WHERE name = ?', name)!.value
}

/** A lock on reading exists only while another process recovers the WAL: the reader thread waits for that, the event loop does not. */
export function readHereOrThere<T> (here: () => T, there: () => Promise<T>): MaybePromise<T> {
  try {
    return here()
  } catch (error) {
    if (isLock(error)) return there()
    throw toDoormanError(error)
  }
}
