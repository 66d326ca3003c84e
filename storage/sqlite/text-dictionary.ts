/** Texts of the log that are stored once and referenced by number. Lives in the writer; remembers what it has looked up. */
import { createHash } from 'node:crypto'
import type { Connection } from './connection.js'

/** Most texts remembered per kind; beyond it the memory starts anew (about 20 MB with long user agents). */
const CACHE_LIMIT = 50_000
const DAY_MS = 86_400_000

export const dayOf = (at: number): number => Math.floor(at / DAY_MS)

/** 48 bits of SHA-256: collisions cannot be made on purpose, and the text itself is compared anyway. */
export function textHash (text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6)
}

/** The digits of our own session ids, base32 of Crockford, and how they begin: ten digits of time, below 2^43 (the year 2248), then random ones. */
export const ID_DIGITS = '0123456789abcdefghjkmnpqrstvwxyz'
const TIMED_ID = /^s_0[0-7][0-9a-hjkmnp-tv-z]{10}/
const HASHED_DIGITS = 12

/**
 * What a text is found by. Of the id of a session its time and two random digits (53 bits): nearly every text that is stored is the id of a new
 * session, and those of one time are neighbours in the index, where a hash would change a page of 4 kB for each of them.
 */
export function textKey (kind: TextKind, text: string): number {
  if (kind !== 'session' || !TIMED_ID.test(text)) return textHash(text)
  let key = 0
  for (let i = 2; i < 2 + HASHED_DIGITS; i++) key = key * 32 + ID_DIGITS.indexOf(text[i]!)
  return key
}

/** Texts of users and sessions are erased with the user, so they are kept apart from those that other columns share. */
export const TEXT_KINDS = { shared: 0, user: 1, session: 2 } as const
export type TextKind = keyof typeof TEXT_KINDS

/** The number of a text, if it is stored. */
export function findText (connection: Connection, kind: TextKind, text: string): number | undefined {
  return connection.get<{ id: number }>('SELECT id FROM texts WHERE hash = ? AND kind = ? AND text = ?', textKey(kind, text), TEXT_KINDS[kind], text)?.id
}

export class TextDictionary {
  #connection: Connection
  #limit: number
  #known: Record<TextKind, Map<string, { id: number, day: number }>> = { shared: new Map(), user: new Map(), session: new Map() }

  constructor (connection: Connection, limit = CACHE_LIMIT) {
    this.#connection = connection
    this.#limit = limit
  }

  /**
   * The number of a text, storing it if needed. Marks it as used on `day`, once a day: the sweep removes texts that were not used for
   * longer than the log is kept.
   */
  ref (kind: TextKind, text: string, day: number): number {
    const remembered = this.#known[kind]
    const known = remembered.get(text)
    if (known !== undefined && known.day >= day) return known.id
    let id = findText(this.#connection, kind, text)
    if (id === undefined) {
      id = this.#connection.run('INSERT INTO texts (kind, hash, last_day, text) VALUES (?, ?, ?, ?)', TEXT_KINDS[kind], textKey(kind, text), day, text).lastInsertRowid as number
    } else {
      this.#connection.run('UPDATE texts SET last_day = ? WHERE id = ? AND last_day < ?', day, id, day)
    }
    if (remembered.size >= this.#limit) remembered.clear()
    remembered.set(text, { id, day })
    return id
  }

  /** After a rollback, what was remembered may never have been stored; after a removal, it may be gone. */
  forget (): void {
    for (const remembered of Object.values(this.#known)) remembered.clear()
  }
}
