/**
 * What tokens lead to. Lookups that come while others are under way go together in the next statement, so that more load makes larger batches,
 * not more round trips. Nothing is remembered: each answer is of a statement that was sent after the question, so it knows every revocation
 * that was acknowledged before, by whichever process.
 */
import type { EndReason } from '../../lib/vocabulary.js'
import type { SessionLookup, TokenHash } from '../storage.js'
import type { Pool, Statement } from './pool-types.js'
import { toSession, type SessionRow } from '../rows.js'
import { hashBytes, sessionColumnsOf } from './session-rows.js'

/** Statements under way at once: with one, a lookup would wait for all of the one before it. */
const FLIGHTS = 2
/** Tokens per statement. */
const BATCH = 500

/** Grace is judged for each question by its own time; $2, the earliest of them, only spares the join where none can have any. */
const find = (name: string, matches: string): Statement => ({
  name,
  text: `SELECT s.token_hash AS key, NULL AS reason, NULL::bigint AS ended_at, NULL::bigint AS grace_until, NULL AS session_id, NULL AS owner_id, ${sessionColumnsOf('s')}
    FROM sessions s WHERE s.token_hash ${matches}
    UNION ALL
    SELECT t.token_hash, t.reason, t.ended_at, t.grace_until, t.session_id, t.user_id, ${sessionColumnsOf('s')}
    FROM session_tombstones t LEFT JOIN sessions s ON s.id = t.session_id AND t.grace_until > $2::bigint WHERE t.token_hash ${matches}`
})
/** The server keeps the plan of a statement for one token; that of several depends on how many they are, and is made anew each time. */
const FIND_ONE = find('doorman_find_session', '= $1::bytea')
const FIND_SEVERAL = find('doorman_find_sessions', '= ANY ($1::bytea[])')

interface LiveRow extends SessionRow { key: Buffer, reason: null }
interface EndedRow extends Omit<SessionRow, 'id'> { key: Buffer, reason: EndReason, ended_at: number, grace_until: number, session_id: string, owner_id: string, id: string | null }
type FoundRow = LiveRow | EndedRow

interface Question { now: number, resolve (lookup: SessionLookup | null): void, reject (error: unknown): void }

export class Lookups {
  #pool: Pool
  #wait: number
  #waiting = new Map<TokenHash, Question[]>()
  #flights = 0
  #starting = false

  /** @param wait how long a lookup may take, ms */
  constructor (pool: Pool, wait: number) {
    this.#pool = pool
    this.#wait = wait
  }

  find (tokenHash: TokenHash, now: number): Promise<SessionLookup | null> {
    return new Promise((resolve, reject) => {
      const questions = this.#waiting.get(tokenHash)
      if (questions === undefined) this.#waiting.set(tokenHash, [{ now, resolve, reject }])
      else questions.push({ now, resolve, reject })
      this.#start()
    })
  }

  /** Not at once: requests that arrive in the same turn of the event loop share a statement. */
  #start (): void {
    if (this.#starting || this.#flights === FLIGHTS || this.#waiting.size === 0) return
    this.#starting = true
    setImmediate(() => {
      this.#starting = false
      this.#fly()
    })
  }

  async #fly (): Promise<void> {
    const batch = new Map<TokenHash, Question[]>()
    for (const [tokenHash, questions] of this.#waiting) {
      if (batch.size === BATCH) break
      batch.set(tokenHash, questions)
      this.#waiting.delete(tokenHash)
    }
    this.#flights++
    this.#start()
    const all = [...batch.values()].flat()
    try {
      const rows = await this.#read([...batch.keys()].map(hashBytes), Math.min(...all.map(({ now }) => now)))
      const found = new Map<TokenHash, FoundRow>()
      // A live session wins: it may have been given the token of one that ended.
      for (const row of rows.reverse()) found.set(row.key.toString('hex'), row)
      for (const [tokenHash, questions] of batch) {
        const row = found.get(tokenHash)
        for (const { now, resolve } of questions) resolve(row === undefined ? null : toLookup(row, now))
      }
    } catch (error) {
      for (const { reject } of all) reject(error)
    }
    this.#flights--
    this.#start()
  }

  #read (hashes: Buffer[], earliest: number): Promise<FoundRow[]> {
    return this.#pool.run({ lane: 'interactive', uncounted: true, readOnly: true, wait: this.#wait }, async client =>
      (hashes.length === 1 ? await client.query<FoundRow>(FIND_ONE, [hashes[0], earliest]) : await client.query<FoundRow>(FIND_SEVERAL, [hashes, earliest])).rows)
  }
}

function toLookup (row: FoundRow, now: number): SessionLookup {
  if (row.reason === null) return { state: 'live', session: toSession(row) }
  const { id, grace_until: graceUntil, session_id: sessionId, owner_id: userId, reason, ended_at: endedAt } = row
  if (id !== null && graceUntil > now) return { state: 'grace', session: toSession({ ...row, id }) }
  return { state: 'ended', sessionId, userId, reason, endedAt }
}
