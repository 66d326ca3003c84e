/**
 * Changes to sessions. Each is one statement, and so one round trip, unless a limit has to be counted or another session gives way.
 *
 * - A new token is an UPDATE of the key, not another row: who ends the session meanwhile waits for it and then finds the row under its new key.
 * - A repeated attempt that may have been committed (`uncertain`) recognises what it did by token, id and time.
 */
import { doormanError } from '../../errors.js'
import type { EndReason } from '../../lib/vocabulary.js'
import type { EndedSession, KnownBefore, SessionCreateParams, SessionCreateResult, SessionLimit, SessionRotateParams, SessionSelection, SessionTouch } from '../storage.js'
import type { Attempt, Pool, Queryable, Statement } from './pool-types.js'
import { deviceKey } from '../rows.js'
import { COUNTER_SHARDS, LOGIN_SLOTS } from './schema-main.js'
import { knownBefore, withDevice } from './session-devices.js'
import { hashBytes, SESSION_COLUMNS, sessionParameters, sessionValues } from './session-rows.js'

/** Tells other processes that sessions changed. `$1` is the shard. */
const counted = (when: string) => `UPDATE doorman_counters SET value = value + 1 WHERE name = 'sessions' AND shard = $1::integer AND EXISTS (SELECT FROM ${when})`

/** No row where the token has ended, or the id is taken: nothing brings an ended token back. */
const CREATE: Statement = {
  name: 'doorman_create_session',
  text: `INSERT INTO sessions (token_hash, ${SESSION_COLUMNS}) SELECT $1::bytea, ${sessionParameters(2)}
    WHERE NOT EXISTS (SELECT FROM session_tombstones WHERE token_hash = $1) AND NOT EXISTS (SELECT FROM sessions WHERE id = $2)`
}
const CREATE_SEEN: Statement = { name: 'doorman_create_session_seen', text: withDevice(CREATE.text) }
const CREATED: Statement = { name: 'doorman_session_created', text: 'SELECT FROM sessions WHERE token_hash = $1 AND id = $2' }
const GIVE_WAY: Statement = { name: 'doorman_session_gives_way', text: `WITH gone AS (DELETE FROM sessions WHERE id = $2 RETURNING id) ${counted('gone')}` }

const ROTATE: Statement = {
  name: 'doorman_rotate_session',
  text: `WITH moved AS (
      UPDATE sessions SET token_hash = $3::bytea, rotated_at = $5, last_active_at = greatest(last_active_at, $5),
        authenticated_at = CASE WHEN $7::bigint IS NULL THEN authenticated_at ELSE $5 END, expires_at = coalesce($7, expires_at)
      WHERE token_hash = $2::bytea AND id = $4::text RETURNING user_id
    ), grave AS (
      INSERT INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at, grace_until) SELECT $2, $4, user_id, 'rotated', $5::bigint, $6::bigint FROM moved
    ), announced AS (${counted('moved')})
    SELECT FROM moved`
}
/** A rotation without grace (a new login) ends that of earlier ones: no token from before may outlive it. */
const END_GRACE: Statement = { name: 'doorman_end_grace', text: 'UPDATE session_tombstones SET grace_until = $2 WHERE session_id = $1 AND grace_until > $2' }

const UPDATE_DATA: Statement = { name: 'doorman_session_data', text: 'UPDATE sessions SET data = $2 WHERE id = $1' }

/** The rows are locked in the order of their ids, so that two batches with the same sessions wait for each other instead of blocking each other. */
const TOUCH: Statement = {
  name: 'doorman_touch_sessions',
  text: `WITH given AS (
      SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[]) AS g (id, at, ip, user_agent, flagged)
    ), held AS MATERIALIZED (
      SELECT token_hash FROM sessions WHERE id = ANY ($1) ORDER BY id FOR UPDATE
    )
    UPDATE sessions s SET
      last_ip = CASE WHEN g.at >= s.last_active_at THEN coalesce(g.ip, s.last_ip) ELSE s.last_ip END,
      last_user_agent = CASE WHEN g.at >= s.last_active_at THEN coalesce(g.user_agent, s.last_user_agent) ELSE s.last_user_agent END,
      last_active_at = greatest(s.last_active_at, g.at),
      flagged = s.flagged OR g.flagged
    FROM given g, held h WHERE s.token_hash = h.token_hash AND s.id = g.id`
}

/** `$1` shard, `$2` reason, `$3` time; the condition has the rest. */
const end = (name: string, where: string): Statement => ({
  name: `doorman_end_${name}`,
  text: `WITH gone AS (
      DELETE FROM sessions WHERE ${where} RETURNING token_hash, id, user_id
    ), graves AS (
      INSERT INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at) SELECT token_hash, id, user_id, $2::text, $3::bigint FROM gone
      ON CONFLICT (token_hash) DO UPDATE SET session_id = excluded.session_id, user_id = excluded.user_id, reason = excluded.reason, ended_at = excluded.ended_at, grace_until = 0
    ), announced AS (${counted('gone')})
    SELECT id, user_id FROM gone`
})
const END_ALL = end('all', 'true')
const END_ONE = end('session', 'id = $4 AND user_id = coalesce($5::text, user_id)')
const END_OF_USER = end('of_user', 'user_id = $4 AND id IS DISTINCT FROM $5::text')
const ENDED: Statement = { name: 'doorman_sessions_ended', text: 'SELECT session_id AS id, user_id FROM session_tombstones WHERE ended_at = $1 AND reason = $2' }

/** Live sessions of a user that must go for another one, and how many there are; at least one row where there is any. */
const victims = (order: string): Statement => ({
  name: `doorman_victims_by_${order}`,
  text: `SELECT id, live FROM (
      SELECT id, count(*) OVER () AS live, row_number() OVER (ORDER BY ${order}, id) AS place
      FROM sessions WHERE user_id = $1 AND last_active_at > $2 AND expires_at > $3
    ) AS counted WHERE place <= greatest(live - $4::bigint + 1, 1) ORDER BY place`
})
const VICTIMS = { 'evict-oldest': victims('created_at'), 'evict-idle': victims('last_active_at'), reject: victims('created_at') } satisfies Record<SessionLimit['policy'], Statement>

export class SessionWrites {
  #pool: Pool
  #shard: number

  constructor (pool: Pool, random: () => number) {
    this.#pool = pool
    this.#shard = Math.floor(random() * COUNTER_SHARDS)
  }

  create (params: SessionCreateParams): Promise<SessionCreateResult> {
    const { limit, replaces, session: { userId } } = params
    if (limit === null && replaces === undefined) {
      return this.#pool.run({ lane: 'interactive', rows: 1 }, async (client, attempt) => {
        return { created: true, evicted: [], known: await insert(client, attempt, params) }
      })
    }
    const lock = limit === null ? {} : { first: `SELECT FROM session_slots WHERE slot = ${slotOf(userId)} FOR UPDATE` }
    return this.#pool.transaction({ lane: 'interactive', rows: 1, ...lock }, async (client, attempt) => {
      if (replaces !== undefined) await client.query(GIVE_WAY, [this.#shard, replaces])
      const made = limit === null ? [] : await this.#makeRoom(client, attempt, params, limit)
      if (!Array.isArray(made)) return made
      return { created: true, evicted: made, known: await insert(client, attempt, params) }
    })
  }

  /** Exact under parallel logins: all of a user's wait for the lock of one row, and then see what those before them did. */
  async #makeRoom (client: Queryable, attempt: Attempt, { tokenHash, session, now, idleBefore }: SessionCreateParams, { max, policy }: SessionLimit): Promise<EndedSession[] | { created: false, live: number }> {
    if (attempt.uncertain && (await client.query(CREATED, [hashBytes(tokenHash), session.id])).rowCount > 0) {
      return (await endedAt(client, 'limit', now)).filter(({ userId }) => userId === session.userId)
    }
    const { rows } = await client.query<{ id: string, live: number }>(VICTIMS[policy], [session.userId, idleBefore, now, max])
    const live = rows[0]?.live ?? 0
    if (live < max) return []
    if (policy === 'reject') return { created: false, live }
    const evicted: EndedSession[] = []
    // One, unless the limit was lowered.
    for (const { id } of rows) evicted.push(...await this.#end(client, END_ONE, 'limit', now, [id, session.userId]))
    return evicted
  }

  rotate ({ sessionId, fromHash, toHash, now, graceUntil, reauthenticated, wait }: SessionRotateParams): Promise<boolean> {
    const values = [this.#shard, hashBytes(fromHash), hashBytes(toHash), sessionId, now, graceUntil, reauthenticated?.expiresAt ?? null]
    const what = { lane: 'interactive', rows: 1, ...(wait === undefined ? {} : { wait }) } as const
    const rotate = async (client: Queryable, attempt: Attempt) =>
      (await client.query(ROTATE, values)).rowCount === 1 || (attempt.uncertain && (await client.query(CREATED, [hashBytes(toHash), sessionId])).rowCount === 1)
    if (graceUntil > now) return this.#pool.run(what, rotate)
    return this.#pool.transaction(what, async (client, attempt) => {
      const rotated = await rotate(client, attempt)
      if (rotated) await client.query(END_GRACE, [sessionId, now])
      return rotated
    })
  }

  updateData (id: string, data: string): Promise<boolean> {
    return this.#pool.run({ lane: 'interactive', rows: 1 }, async client => (await client.query(UPDATE_DATA, [id, data])).rowCount === 1)
  }

  async touch (touches: SessionTouch[]): Promise<void> {
    const merged = [...mergeTouches(touches).values()]
    await this.#pool.run({ lane: 'bulk', rows: merged.length }, client => client.query(TOUCH, [
      merged.map(touch => touch.sessionId), merged.map(touch => touch.at), merged.map(touch => touch.ip), merged.map(touch => touch.userAgent), merged.map(touch => touch.flagged)
    ]))
  }

  end (selection: SessionSelection, reason: EndReason, now: number): Promise<EndedSession[]> {
    return this.#pool.run({ lane: 'interactive', rows: 1 }, async (client, attempt) => {
      const ended = 'all' in selection
        ? await this.#end(client, END_ALL, reason, now, [])
        : 'id' in selection
          ? await this.#end(client, END_ONE, reason, now, [selection.id, selection.userId ?? null])
          : await this.#end(client, END_OF_USER, reason, now, [selection.userId, selection.exceptId ?? null])
      return attempt.uncertain ? (await endedAt(client, reason, now)).filter(session => isSelected(session, selection)) : ended
    })
  }

  async #end (client: Queryable, statement: Statement, reason: EndReason, now: number, values: unknown[]): Promise<EndedSession[]> {
    return asEnded((await client.query<{ id: string, user_id: string }>(statement, [this.#shard, reason, now, ...values])).rows, reason)
  }
}

async function insert (client: Queryable, attempt: Attempt, { tokenHash, session, device = null }: SessionCreateParams): Promise<KnownBefore | null> {
  const values = [hashBytes(tokenHash), ...sessionValues(session)]
  const { rowCount, rows } = await (device === null ? client.query<KnownBefore>(CREATE, values) : client.query<KnownBefore>(CREATE_SEEN, [...values, ...deviceKey(device)]))
  if (rowCount === 1) return rows[0] ?? null
  if (attempt.uncertain && (await client.query(CREATED, [hashBytes(tokenHash), session.id])).rowCount === 1) {
    return device === null ? null : knownBefore(client, session, device)
  }
  throw doormanError('DOORMAN_CONSTRAINT', ['the token has ended, or the id is taken'])
}

/** What ended at that very time, for that reason: by this operation, whose answer was lost, or by one just like it. */
async function endedAt (client: Queryable, reason: EndReason, now: number): Promise<EndedSession[]> {
  return asEnded((await client.query<{ id: string, user_id: string }>(ENDED, [now, reason])).rows, reason)
}

const asEnded = (rows: { id: string, user_id: string }[], reason: EndReason): EndedSession[] => rows.map(row => ({ id: row.id, userId: row.user_id, reason }))

function isSelected ({ id, userId }: EndedSession, selection: SessionSelection): boolean {
  if ('all' in selection) return true
  if ('id' in selection) return id === selection.id && (selection.userId ?? userId) === userId
  return userId === selection.userId && id !== selection.exceptId
}

/** One touch per session: a statement changes a row once. */
function mergeTouches (touches: SessionTouch[]): Map<string, SessionTouch> {
  const merged = new Map<string, SessionTouch>()
  for (const touch of touches) {
    const other = merged.get(touch.sessionId)
    const [late, early] = other === undefined ? [touch, touch] : touch.at >= other.at ? [touch, other] : [other, touch]
    merged.set(touch.sessionId, { ...late, ip: late.ip ?? early.ip, userAgent: late.userAgent ?? early.userAgent, flagged: late.flagged || early.flagged })
  }
  return merged
}

/** FNV-1a: the same in every process. */
function slotOf (userId: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(userId)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash % LOGIN_SLOTS
}
