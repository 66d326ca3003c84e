/** Changes to sessions. Each function runs inside the writer's transaction, in a savepoint of its own. */
import { doormanError } from '../../errors.js'
import type { EndReason } from '../../lib/vocabulary.js'
import type { EndedSession, SessionCreateParams, SessionCreateResult, SessionRotateParams, SessionSelection, SessionTouch } from '../storage.js'
import type { Binding, Connection } from './connection.js'
import { hashBytes } from './point-reads.js'
import { recordDevice } from './session-devices.js'
import { SESSION_COLUMNS, sessionValues } from './session-rows.js'

/** The limit is exact under parallel logins, because counting, evicting and inserting share one write transaction. */
export function createSession (connection: Connection, { tokenHash, session, limit, now, idleBefore, replaces, device = null }: SessionCreateParams): SessionCreateResult {
  const hash = hashBytes(tokenHash)
  if (replaces !== undefined) connection.run('DELETE FROM sessions WHERE id = ?', replaces)
  let evicted: EndedSession[] = []
  if (limit !== null) {
    const live = connection.get<{ n: number }>('SELECT count(*) AS n FROM sessions WHERE user_id = ? AND last_active_at > ? AND expires_at > ?', session.userId, idleBefore, now)!.n
    const surplus = live - limit.max + 1
    if (surplus > 0) {
      if (limit.policy === 'reject') return { created: false, live }
      const order = limit.policy === 'evict-oldest' ? 'created_at' : 'last_active_at'
      const victims = connection.all<{ id: string }>(`SELECT id FROM sessions WHERE user_id = ? AND last_active_at > ? AND expires_at > ? ORDER BY ${order}, id LIMIT ?`, session.userId, idleBefore, now, surplus)
      evicted = victims.flatMap(({ id }) => end(connection, 'id = ?', [id], 'limit', now))
    }
  }
  // Nothing brings an ended token back: a caller that brings tokens of its own may not know yet that this one has ended.
  const { changes } = connection.run(`INSERT INTO sessions (token_hash, ${SESSION_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    WHERE NOT EXISTS (SELECT 1 FROM session_tombstones WHERE token_hash = ?)`, hash, ...sessionValues(session), hash)
  if (changes === 0) throw doormanError('DOORMAN_CONSTRAINT', ['the token has ended'])
  return { created: true, evicted, known: device === null ? null : recordDevice(connection, session.userId, device, session.createdAt) }
}

/** Conditional on the present token, so of many parallel rotations exactly one wins. */
export function rotateSession (connection: Connection, { sessionId, now, graceUntil, reauthenticated, ...tokens }: SessionRotateParams): boolean {
  const fromHash = hashBytes(tokens.fromHash)
  const toHash = hashBytes(tokens.toHash)
  const row = connection.get<{ user_id: string }>('SELECT user_id FROM sessions WHERE token_hash = ? AND id = ?', fromHash, sessionId)
  if (row === undefined) return false
  connection.run('UPDATE sessions SET token_hash = ?, rotated_at = ?, last_active_at = max(last_active_at, ?) WHERE token_hash = ?', toHash, now, now, fromHash)
  if (reauthenticated !== null) connection.run('UPDATE sessions SET authenticated_at = ?, expires_at = ? WHERE token_hash = ?', now, reauthenticated.expiresAt, toHash)
  // A rotation without grace (a new login) ends that of earlier ones: no token from before may outlive it.
  if (graceUntil <= now) connection.run('UPDATE session_tombstones SET grace_until = ? WHERE user_id = ? AND session_id = ? AND grace_until > ?', now, row.user_id, sessionId, now)
  connection.run('INSERT INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at, grace_until) VALUES (?, ?, ?, \'rotated\', ?, ?)', fromHash, sessionId, row.user_id, now, graceUntil)
  return true
}

export function updateSessionData (connection: Connection, { id, data }: { id: string, data: string }): boolean {
  return connection.run('UPDATE sessions SET data = ? WHERE id = ?', data, id).changes === 1
}

export function touchSessions (connection: Connection, touches: SessionTouch[]): null {
  const sql = `UPDATE sessions SET
    last_ip = CASE WHEN @at >= last_active_at THEN coalesce(@ip, last_ip) ELSE last_ip END,
    last_user_agent = CASE WHEN @at >= last_active_at THEN coalesce(@userAgent, last_user_agent) ELSE last_user_agent END,
    last_active_at = max(last_active_at, @at),
    flagged = flagged | @flagged
    WHERE id = @sessionId`
  for (const touch of touches) connection.runNamed(sql, { ...touch, flagged: touch.flagged ? 1 : 0 })
  return null
}

export function endSessions (connection: Connection, { selection, reason, now }: { selection: SessionSelection, reason: EndReason, now: number }): EndedSession[] {
  if ('all' in selection) return end(connection, 'true', [], reason, now)
  if ('id' in selection) {
    return selection.userId === undefined
      ? end(connection, 'id = ?', [selection.id], reason, now)
      : end(connection, 'id = ? AND user_id = ?', [selection.id, selection.userId], reason, now)
  }
  return end(connection, 'user_id = ? AND id IS NOT ?', [selection.userId, selection.exceptId ?? null], reason, now)
}

function end (connection: Connection, where: string, values: Binding[], reason: EndReason, now: number): EndedSession[] {
  connection.run(`INSERT OR REPLACE INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at)
    SELECT token_hash, id, user_id, ?, ? FROM sessions WHERE ${where}`, reason, now, ...values)
  const ended = connection.all<{ id: string, user_id: string }>(`DELETE FROM sessions WHERE ${where} RETURNING id, user_id`, ...values)
  return ended.map(row => ({ id: row.id, userId: row.user_id, reason }))
}
