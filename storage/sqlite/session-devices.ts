/** What users log in with. Recorded inside the transaction of the login. */
import { MAX_DEVICES, type KnownBefore, type LoginDevice, type SessionDevice } from '../storage.js'
import { DEVICE_COLUMNS, deviceKey, PAIR_KNOWN, toDevice, type DeviceRow } from '../rows.js'
import type { Connection } from './connection.js'

const SEEN = `INSERT INTO session_devices (user_id, device, network, first_seen_at, last_seen_at, sessions) VALUES (?, ?, ?, ?, ?, 1)
  ON CONFLICT DO UPDATE SET last_seen_at = max(last_seen_at, excluded.last_seen_at), sessions = sessions + 1 RETURNING sessions`
const OTHERS = `SELECT count(*) AS n, coalesce(max(device = ?), 0) AS device, coalesce(max(network = ?), 0) AS network
  FROM session_devices WHERE user_id = ? AND (device, network) <> (?, ?)`
const FORGET = 'DELETE FROM session_devices WHERE user_id = ? AND (device, network) <> (?, ?) ORDER BY last_seen_at LIMIT ?'

/** Counts a login. Returns what was known before it. Mostly one statement: others are looked at where the pair is new. */
export function recordDevice (connection: Connection, userId: string, login: LoginDevice, at: number): KnownBefore {
  const key = deviceKey(login)
  if (connection.get<{ sessions: number }>(SEEN, userId, ...key, at, at)!.sessions > 1) return PAIR_KNOWN
  const { n, device, network } = connection.get<Record<'n' | 'device' | 'network', number>>(OTHERS, ...key, userId, ...key)!
  if (n >= MAX_DEVICES) connection.run(FORGET, userId, ...key, n - MAX_DEVICES + 1)
  return { any: n > 0, device: device === 1, network: network === 1, pair: false }
}

export function listSessionDevices (connection: Connection, { userId, limit }: { userId: string, limit: number }): SessionDevice[] {
  const sql = `SELECT ${DEVICE_COLUMNS} FROM session_devices WHERE user_id = ? ORDER BY last_seen_at DESC, device, network LIMIT ?`
  return connection.all<DeviceRow>(sql, userId, limit).map(toDevice)
}
