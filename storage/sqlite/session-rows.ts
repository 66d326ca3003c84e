/** Sessions as rows: the one place that knows which column holds what. */
import type { SessionRecord } from '../storage.js'

export const SESSION_COLUMNS = 'id, user_id, created_at, last_active_at, authenticated_at, rotated_at, expires_at, ip, last_ip, user_agent, last_user_agent, device, flagged, data'

/** Values in the order of SESSION_COLUMNS. */
export function sessionValues (s: SessionRecord): (string | number | null)[] {
  return [s.id, s.userId, s.createdAt, s.lastActiveAt, s.authenticatedAt, s.rotatedAt, s.expiresAt, s.ip, s.lastIp, s.userAgent, s.lastUserAgent, s.device, s.flagged ? 1 : 0, s.data]
}
