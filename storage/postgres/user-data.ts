/** Everything held about a user: told, or erased. */
import type { EndReason } from '../../lib/vocabulary.js'
import type { DeadLetter, UserErased, UserExport } from '../storage.js'
import type { LogQueries } from './log-queries.js'
import type { Pool } from './pool-types.js'
import { announce } from './retention.js'
import { toDeadLetter, toSession, type DeadLetterRecord, type SessionRow } from '../rows.js'
import { readDevices } from './session-devices.js'
import { SESSION_COLUMNS } from './session-rows.js'

/** Rows per step when a user is erased. */
const ERASE_STEP = 1000

const ERASE_SESSIONS = `WITH live AS (DELETE FROM sessions WHERE user_id = $1 RETURNING 1),
  ended AS (DELETE FROM session_tombstones WHERE user_id = $1 RETURNING 1),
  devices AS (DELETE FROM session_devices WHERE user_id = $1 RETURNING 1),
  announced AS (${announce('live')})
  SELECT (SELECT count(*) FROM live) AS sessions, (SELECT count(*) FROM ended) AS "endedSessions", (SELECT count(*) FROM devices) AS devices`

/** Reads and erases what is held about a user. */
export class UserData {
  #pool: Pool
  #queries: LogQueries

  constructor (pool: Pool, queries: LogQueries) {
    this.#pool = pool
    this.#queries = queries
  }

  /** Complete up to `limit` rows of each kind, newest first. */
  async export (userId: string, limit: number): Promise<UserExport> {
    const [held, deadLetters, activity, ipLogs] = await Promise.all([
      this.#sessions(userId, limit),
      this.#deadLetters(userId, limit),
      this.#queries.listActivity({ userId }, { limit }),
      this.#queries.listIpLogs({ userId }, { limit })
    ])
    const truncated = activity.next !== null || ipLogs.next !== null || [held.sessions, held.endedSessions, held.devices, deadLetters].some(({ length }) => length === limit)
    return { ...held, activity: activity.items, ipLogs: ipLogs.items, deadLetters, truncated }
  }

  #deadLetters (userId: string, limit: number): Promise<DeadLetter[]> {
    return this.#pool.run({ lane: 'interactive', file: 'log', readOnly: true }, async client => {
      const { rows } = await client.query<DeadLetterRecord>('SELECT id, at, kind, user_id, reason, content FROM dead_letters WHERE user_id = $1 ORDER BY id DESC LIMIT $2', [userId, limit])
      return rows.map(toDeadLetter)
    })
  }

  #sessions (userId: string, limit: number): Promise<Pick<UserExport, 'sessions' | 'endedSessions' | 'devices'>> {
    return this.#pool.run({ lane: 'interactive', readOnly: true }, async client => {
      const live = await client.query<SessionRow>(`SELECT ${SESSION_COLUMNS} FROM sessions WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2`, [userId, limit])
      const ended = await client.query<{ id: string, reason: EndReason, endedAt: number }>(
        'SELECT session_id AS id, reason, ended_at AS "endedAt" FROM session_tombstones WHERE user_id = $1 ORDER BY ended_at DESC, session_id DESC LIMIT $2', [userId, limit])
      return { sessions: live.rows.map(toSession), endedSessions: ended.rows, devices: await readDevices(client, userId, limit) }
    })
  }

  /**
   * Ends and removes it all: the sessions at once, the log in small steps. The freed bytes stay until the server uses their space again, or VACUUM FULL; backups
   * and the WAL have them for as long as they are kept.
   */
  async erase (userId: string): Promise<UserErased> {
    const sessions = await this.#pool.run({ lane: 'interactive', rows: 1 }, async client => (await client.query<Pick<UserErased, 'sessions' | 'endedSessions' | 'devices'>>(ERASE_SESSIONS, [userId])).rows[0]!)
    const activity = await this.#eraseRows('user_activity', 'at, id', userId)
    const ipLogs = await this.#eraseRows('ip_logs', 'at, id', userId)
    const deadLetters = await this.#eraseRows('dead_letters', 'id', userId)
    return { ...sessions, activity, ipLogs, deadLetters }
  }

  async #eraseRows (table: string, key: string, userId: string): Promise<number> {
    const sql = `DELETE FROM ${table} WHERE user_id = $1 AND (${key}) IN (SELECT ${key} FROM ${table} WHERE user_id = $1 LIMIT $2)`
    let erased = 0
    for (;;) {
      const { rowCount } = await this.#pool.run({ lane: 'maintenance', file: 'log', rows: ERASE_STEP }, client => client.query(sql, [userId, ERASE_STEP]))
      erased += rowCount
      if (rowCount < ERASE_STEP) return erased
    }
  }
}
