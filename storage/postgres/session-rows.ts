/** Sessions as rows: the one place that knows which column holds what. */
import type { SessionRow } from '../rows.js'
import type { SessionRecord, TokenHash } from '../storage.js'

/** A token's hash as it is stored. */
export const hashBytes = (tokenHash: TokenHash): Buffer => Buffer.from(tokenHash, 'hex')

const COLUMNS = {
  id: 'text',
  user_id: 'text',
  created_at: 'bigint',
  last_active_at: 'bigint',
  authenticated_at: 'bigint',
  rotated_at: 'bigint',
  expires_at: 'bigint',
  ip: 'text',
  last_ip: 'text',
  user_agent: 'text',
  last_user_agent: 'text',
  device: 'text',
  flagged: 'boolean',
  data: 'text'
} as const satisfies Record<keyof SessionRow, string>

export const SESSION_COLUMNS = Object.keys(COLUMNS).join(', ')

/** The columns of an alias, in the same order. */
export const sessionColumnsOf = (alias: string): string => Object.keys(COLUMNS).map(name => `${alias}.${name}`).join(', ')

/** Parameters for `sessionValues`, from the given number on, with their types. */
export const sessionParameters = (first: number): string => Object.values(COLUMNS).map((type, i) => `$${first + i}::${type}`).join(', ')

/** Values in the order of SESSION_COLUMNS. */
export function sessionValues (s: SessionRecord): unknown[] {
  return [s.id, s.userId, s.createdAt, s.lastActiveAt, s.authenticatedAt, s.rotatedAt, s.expiresAt, s.ip, s.lastIp, s.userAgent, s.lastUserAgent, s.device, s.flagged, s.data]
}
