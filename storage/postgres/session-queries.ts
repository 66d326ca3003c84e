/** Sessions by their public id, and lists of them. */
import type { Page, SessionListParams, SessionRecord } from '../storage.js'
import type { Pool, Statement } from './pool-types.js'
import { toSession, type SessionRow } from '../rows.js'
import { SESSION_COLUMNS } from './session-rows.js'

const GET: Statement = { name: 'doorman_get_session', text: `SELECT ${SESSION_COLUMNS} FROM sessions WHERE id = $1` }

export async function getSession (pool: Pool, id: string): Promise<SessionRecord | null> {
  const { rows: [row] } = await pool.run({ lane: 'interactive', readOnly: true }, client => client.query<SessionRow>(GET, [id]))
  return row === undefined ? null : toSession(row)
}

/** Asks for one row more than the page holds: it tells whether there is a next page. */
export async function listSessions (pool: Pool, { userId, ip, now, idleBefore, limit, after }: SessionListParams): Promise<Page<SessionRecord>> {
  const values: unknown[] = []
  const bind = (value: unknown) => `$${values.push(value)}`
  const terms = [
    ...(userId === undefined ? [] : [`user_id = ${bind(userId)}`]),
    ...(ip === undefined ? [] : [`last_ip = ${bind(ip)}`]),
    `last_active_at > ${bind(idleBefore)}`,
    `expires_at > ${bind(now)}`,
    ...(after === undefined ? [] : [`(created_at, id) < (${bind(after[0])}::bigint, ${bind(after[1])})`])
  ]
  const sql = `SELECT ${SESSION_COLUMNS} FROM sessions WHERE ${terms.join(' AND ')} ORDER BY created_at DESC, id DESC LIMIT ${bind(limit + 1)}`
  const { rows } = await pool.run({ lane: 'interactive', readOnly: true }, client => client.query<SessionRow>(sql, values))
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  return { items: items.map(toSession), next: rows.length > limit ? [last!.created_at, last!.id] : null }
}
