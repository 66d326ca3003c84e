/** What users log in with. Recorded by the statement that creates the session, so that it costs no round trip. */
import { MAX_DEVICES, type KnownBefore, type LoginDevice, type SessionDevice, type SessionRecord } from '../storage.js'
import type { Pool, Queryable, Statement } from './pool-types.js'
import { DEVICE_COLUMNS, deviceKey, toDevice, type DeviceRow } from '../rows.js'

const COLUMNS = ['any', 'device', 'network'] as const

/**
 * The statement that creates a session, with the rest: `$3` user and `$4` time are the session's own, `$16` and `$17` the key of the device. Parts
 * of one statement do not see what the others do, so the others of the user are those from before; they are looked at where the pair is new.
 */
export const withDevice = (create: string): string => `WITH made AS (${create} RETURNING 1), seen AS (
    INSERT INTO session_devices AS d (user_id, device, network, first_seen_at, last_seen_at, sessions) SELECT $3, $16::text, $17::text, $4, $4, 1 FROM made
    ON CONFLICT (user_id, device, network) DO UPDATE SET last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at), sessions = d.sessions + 1
    RETURNING sessions
  ), forgotten AS (
    DELETE FROM session_devices WHERE user_id = $3 AND EXISTS (SELECT FROM seen WHERE sessions = 1) AND (device, network) IN (
      SELECT device, network FROM session_devices WHERE user_id = $3 AND (device, network) <> ($16, $17) ORDER BY last_seen_at DESC, device, network OFFSET ${MAX_DEVICES - 1})
  )
  SELECT sessions > 1 AS pair, ${COLUMNS.map(name => `sessions > 1 OR others."${name}" AS "${name}"`).join(', ')} FROM seen CROSS JOIN LATERAL (
    SELECT count(*) > 0 AS "any", coalesce(bool_or(device = $16), false) AS device, coalesce(bool_or(network = $17), false) AS network
    FROM session_devices WHERE seen.sessions = 1 AND user_id = $3 AND (device, network) <> ($16, $17)
  ) AS others`

const KNOWN: Statement = {
  name: 'doorman_known_before',
  text: `SELECT count(*) > 0 AS "any", coalesce(bool_or(device = $2), false) AS device, coalesce(bool_or(network = $3), false) AS network,
    coalesce(bool_or(device = $2 AND network = $3), false) AS pair
    FROM session_devices WHERE user_id = $1 AND first_seen_at < $4`
}

/** What was known before a login whose answer was lost: it is recorded by now, so by the time at which each was seen first. */
export async function knownBefore (client: Queryable, { userId, createdAt }: SessionRecord, login: LoginDevice): Promise<KnownBefore> {
  return (await client.query<KnownBefore>(KNOWN, [userId, ...deviceKey(login), createdAt])).rows[0]!
}

const LIST: Statement = {
  name: 'doorman_list_devices',
  text: `SELECT ${DEVICE_COLUMNS} FROM session_devices WHERE user_id = $1 ORDER BY last_seen_at DESC, device, network LIMIT $2`
}

export async function readDevices (client: Queryable, userId: string, limit: number): Promise<SessionDevice[]> {
  return (await client.query<DeviceRow>(LIST, [userId, limit])).rows.map(toDevice)
}

export function listSessionDevices (pool: Pool, userId: string, limit: number): Promise<SessionDevice[]> {
  return pool.run({ lane: 'interactive', readOnly: true }, client => readDevices(client, userId, limit))
}
