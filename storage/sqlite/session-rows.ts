/** Sessions as rows: the one place that knows which column holds what. */
import type { SessionRecord } from '../storage.js'

export interface SessionRow {
  id: string
  user_id: string
  created_at: number
  last_active_at: number
  authenticated_at: number
  rotated_at: number
  expires_at: number
  ip: string | null
  last_ip: string | null
  user_agent: string | null
  last_user_agent: string | null
  device: string | null
  flagged: number
  data: string
}

export const SESSION_COLUMNS = 'id, user_id, created_at, last_active_at, authenticated_at, rotated_at, expires_at, ip, last_ip, user_agent, last_user_agent, device, flagged, data'

export function toSession (row: SessionRow): SessionRecord {
  return {
    id: row.id,
    userId: row.user_id,
    createdAt: row.created_at,
    lastActiveAt: row.last_active_at,
    authenticatedAt: row.authenticated_at,
    rotatedAt: row.rotated_at,
    expiresAt: row.expires_at,
    ip: row.ip,
    lastIp: row.last_ip,
    userAgent: row.user_agent,
    lastUserAgent: row.last_user_agent,
    device: row.device,
    flagged: row.flagged === 1,
    data: row.data
  }
}

/** Values in the order of SESSION_COLUMNS. */
export function sessionValues (s: SessionRecord): (string | number | null)[] {
  return [s.id, s.userId, s.createdAt, s.lastActiveAt, s.authenticatedAt, s.rotatedAt, s.expiresAt, s.ip, s.lastIp, s.userAgent, s.lastUserAgent, s.device, s.flagged ? 1 : 0, s.data]
}
