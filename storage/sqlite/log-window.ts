/**
 * Rows on their way into the tables of log-index.ts, sorted by key. A key and the row's place in the window are packed into one number, because
 * an array of numbers is sorted several times faster than one of anything else.
 */
import type { Binding } from './connection.js'
import { hourOf } from './log-index.js'
import { IDS_PER_HOUR, LOG_INDEXES, type LogIndexName } from './schema-log.js'

/** Windows have fewer rows than this; addresses, signed 32-bit integers, are moved up by 2^31, and texts come after them. 2^33 * 2^17 is exact. */
const PLACES = 131_072
const SIGN = 2 ** 31
const FIRST_TEXT = 2 ** 32

/** A row as the columns INDEXED_COLUMNS, the keys in the order of LOG_INDEXES. */
export type WindowRow = readonly [id: number, ip: Binding, userRef: number | null, sessionRef: number | null]

/** Values of an entry. */
export const ENTRY_COLUMNS = 3

interface Keys {
  name: LogIndexName
  /** `key * PLACES + place`. */
  packed: Float64Array
  count: number
  sorted: boolean
}

export class LogWindow {
  /** All rows after this id … */
  readonly from: number
  /** … up to this one. */
  to: number
  #ids: Float64Array
  #rows = 0
  #indexes: readonly Keys[]
  #texts = new Map<string, number>()
  #textList: string[] = []
  /** Which of the indexes is being written, and how many of its entries have been. */
  #index = 0
  #position = 0

  /** @param size most rows, below 131 072 */
  constructor (from: number, to: number, size: number) {
    this.from = from
    this.to = to
    this.#ids = new Float64Array(size)
    this.#indexes = LOG_INDEXES.map(name => ({ name, packed: new Float64Array(size), count: 0, sorted: false }))
  }

  get room (): number { return this.#ids.length - this.#rows }

  /** Id after which the next rows are to be read. */
  get last (): number { return this.#rows === 0 ? this.from : this.#ids[this.#rows - 1]! }

  /** Adds rows in the order of their ids, no more than there is room for. */
  add (rows: readonly WindowRow[]): void {
    for (const row of rows) {
      const place = this.#rows++
      this.#ids[place] = row[0]
      for (let i = 0; i < this.#indexes.length; i++) {
        const index = this.#indexes[i]!
        const key = row[i + 1]!
        if (key !== null) index.packed[index.count++] = this.#number(key, index.name) * PLACES + place
      }
    }
  }

  /** No more rows. Where some were left for want of room, the window ends before them. */
  close (complete: boolean): void {
    if (!complete) this.to = this.last
  }

  /** The next entries, of one table, as values of its columns one after the other; null when all have been given out. Gives the same ones until `advance` is called. */
  next (limit: number): { name: LogIndexName, values: Binding[] } | null {
    while (this.#index < this.#indexes.length) {
      const index = this.#indexes[this.#index]!
      const { name, packed, count } = index
      // One at a time: each is some milliseconds.
      if (!index.sorted) packed.subarray(0, count).sort()
      index.sorted = true
      if (this.#position < count) return { name, values: this.#values(name, packed.subarray(this.#position, Math.min(count, this.#position + limit))) }
      this.#index++
      this.#position = 0
    }
    return null
  }

  /** Those given out last are stored. */
  advance (entries: number): void {
    this.#position += entries
  }

  #values (name: LogIndexName, packed: Float64Array): Binding[] {
    const values: Binding[] = []
    for (const entry of packed) {
      const id = this.#ids[entry % PLACES]!
      const hour = hourOf(id)
      values.push(hour, this.#key(name, Math.floor(entry / PLACES)), id - hour * IDS_PER_HOUR)
    }
    return values
  }

  #number (key: Binding, name: LogIndexName): number {
    if (name !== 'ip') return key as number
    if (typeof key === 'number') return key + SIGN
    let number = this.#texts.get(key as string)
    if (number === undefined) {
      number = FIRST_TEXT + this.#textList.push(key as string) - 1
      this.#texts.set(key as string, number)
    }
    return number
  }

  #key (name: LogIndexName, number: number): Binding {
    if (name !== 'ip') return number
    // A bigint: see encodeAddress.
    return number < FIRST_TEXT ? BigInt(number - SIGN) : this.#textList[number - FIRST_TEXT]!
  }
}
