/** Ids of the log's rows: their time, and a number within the millisecond. Used inside the writer's transaction. */
import type { Connection } from './connection.js'
import { IDS_PER_MS } from './schema-log.js'

/** What is added to the time of an id to have the row's: 0, unless its millisecond was full. */
export const offsetOf = (id: number, at: number): number => at - Math.floor(id / IDS_PER_MS)

export class RowIds {
  #connection: Connection
  #at = -1
  #id = -1

  constructor (connection: Connection) {
    this.#connection = connection
  }

  /** A transaction begins: others may have taken ids since the last one. */
  begin (): void {
    this.#at = -1
  }

  /** The next free id for a row of the time `at`. */
  next (at: number): number {
    // The row before was of the same millisecond, and we hold the write lock: nobody took the next number.
    if (this.#at === at && (this.#id + 1) % IDS_PER_MS !== 0) return ++this.#id
    let from = at * IDS_PER_MS
    let next = this.#firstFree(from)
    while (next === null) next = this.#firstFree(from += IDS_PER_MS)
    this.#at = at
    this.#id = next
    return next
  }

  /** The next id of the millisecond that starts with id `from`; null when it is used up. */
  #firstFree (from: number): number | null {
    const { id } = this.#connection.get<{ id: number | null }>('SELECT max(id) AS id FROM ip_log_rows WHERE id >= ? AND id < ?', from, from + IDS_PER_MS)!
    if (id === null) return from
    return id < from + IDS_PER_MS - 1 ? id + 1 : null
  }
}
