/** Rows under the contract's column names, which are the same in every engine, and the records they become. */
import type { IpLogOutcome, IpSource } from '../lib/vocabulary.js'
import type { DeadLetter } from './held-records.js'
import { SWEEP_TARGETS, type CleanupRun, type KnownBefore, type LoginDevice, type SessionDevice, type SessionRecord, type StoredActivity, type StoredIpLog } from './records.js'

/** A live session. `Flag`: how the engine has a truth value. */
export interface SessionRow<Flag = boolean> {
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
  flagged: Flag
  data: string
}

export function toSession (row: SessionRow<boolean | number>): SessionRecord {
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
    flagged: Boolean(row.flagged),
    data: row.data
  }
}

/** What a user has logged in with. A key holds no null: what is not known is empty. */
export interface DeviceRow { device: string, network: string, first_seen_at: number, last_seen_at: number, sessions: number }

export const DEVICE_COLUMNS = 'device, network, first_seen_at, last_seen_at, sessions'

export const toDevice = (r: DeviceRow): SessionDevice => ({
  device: r.device || null,
  network: r.network || null,
  firstSeenAt: r.first_seen_at,
  lastSeenAt: r.last_seen_at,
  sessions: r.sessions
})

/** The key of a device. */
export const deviceKey = ({ device, network }: LoginDevice): [device: string, network: string] => [device ?? '', network ?? '']

/** Where the pair is known, so is all of it. */
export const PAIR_KNOWN: Readonly<KnownBefore> = Object.freeze({ any: true, device: true, network: true, pair: true })

/** What a run removed. One of an earlier version knew fewer kinds. */
export function toRemoved (json: string): CleanupRun['removed'] {
  const removed = JSON.parse(json) as Partial<CleanupRun['removed']>
  return Object.fromEntries(SWEEP_TARGETS.map(target => [target, removed[target] ?? 0])) as CleanupRun['removed']
}

export interface IpLogRecord {
  id: number
  at: number
  ip: string | null
  ip_source: IpSource
  peer_ip: string | null
  peer_port: number | null
  method: string
  path: string
  route: string | null
  status: number
  duration_us: number
  user_agent: string | null
  referer: string | null
  session_id: string | null
  user_id: string | null
  request_id: string | null
  outcome: IpLogOutcome
  trusted_hops: number
}

export const toIpLog = (r: IpLogRecord): StoredIpLog => ({
  id: r.id,
  at: r.at,
  ip: r.ip,
  ipSource: r.ip_source,
  peerIp: r.peer_ip,
  peerPort: r.peer_port,
  trustedHops: r.trusted_hops,
  method: r.method,
  path: r.path,
  route: r.route,
  status: r.status,
  durationUs: r.duration_us,
  userAgent: r.user_agent,
  referer: r.referer,
  sessionId: r.session_id,
  userId: r.user_id,
  requestId: r.request_id,
  outcome: r.outcome
})

export interface ActivityRecord { id: number, at: number, user_id: string, session_id: string | null, action: string, ip: string | null, detail: string | null }
export const toActivity = (r: ActivityRecord): StoredActivity => ({ id: r.id, at: r.at, userId: r.user_id, sessionId: r.session_id, action: r.action, ip: r.ip, detail: r.detail })

export interface DeadLetterRecord { id: number, at: number, kind: string, user_id: string | null, reason: string, content: string }
export const toDeadLetter = (r: DeadLetterRecord): DeadLetter => ({ id: r.id, at: r.at, kind: r.kind, userId: r.user_id, reason: r.reason, content: r.content })
