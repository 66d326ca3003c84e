/**
 * Which rows of the log belong to an address, a user or a session: in tables of their own, by the hour, instead of indexes.
 *
 * An index over users is written at as many places as there are users in a batch, and each place is a page of 4 kB (measured with 1000 users
 * and batches of 150 rows: 54 µs a row, of which the row itself is 1.5). So rows are stored without, and `LogIndexer` adds what leads to
 * them later, thousands at a time and in the order of the keys (5 µs a row).
 *
 * - Rows up to the id `indexed_until` are in the tables. The ones after it, of the last seconds, are looked at one by one.
 * - Rows up to `index_announced` that are stored now (reported late, or the clock was set back) are added to the tables with their row:
 *   the indexer has been past their place, or is about to.
 * - An entry may outlive its row, for the rest of its hour: whoever follows it looks at the row. The hour comes first in the key, so that
 *   entries go in one piece, and those of the present hour, where all the writing is, lie together.
 */
import type { Binding, Connection } from './connection.js'
import { IDS_PER_HOUR, LOG_INDEXES, type LogIndexName } from './schema-log.js'

/** The column of a row that an index is about. */
export const KEY_COLUMN: Record<LogIndexName, 'ip' | 'user_ref' | 'session_ref'> = { ip: 'ip', user: 'user_ref', session: 'session_ref' }

export const hourOf = (id: number): number => Math.floor(id / IDS_PER_HOUR)
/** SQL for the id an entry leads to. */
const ENTRY_ID = `(x.hour * ${IDS_PER_HOUR} + x.rest)`

/** What the tables need of a row. Addresses as they are stored. */
export interface IndexedRow { id: number, ip: Binding, user_ref: number | null, session_ref: number | null }

/** How far the tables reach. `claim`: see LogIndexer. */
export interface IndexState { until: number, announced: number, claim: number }

const STATE = { until: 'indexed_until', announced: 'index_announced', claim: 'index_claim' } as const

export function indexState (connection: Connection): IndexState {
  return connection.get<IndexState>(`SELECT max(value) FILTER (WHERE name = 'indexed_until') AS until, max(value) FILTER (WHERE name = 'index_announced') AS announced,
    max(value) FILTER (WHERE name = 'index_claim') AS claim FROM log_counters`)!
}

export function setIndexState (connection: Connection, state: Partial<IndexState>): void {
  for (const [name, value] of Object.entries(state)) connection.run('UPDATE log_counters SET value = ? WHERE name = ?', value, STATE[name as keyof IndexState])
}

/** Rows are being changed, or removed for good: whoever has read them already must not add them any more, and begins again. */
export function interruptIndexing (connection: Connection): void {
  setIndexState(connection, { claim: 0 })
}

export const insertEntries = (name: LogIndexName, count: number): string =>
  `INSERT OR IGNORE INTO ip_log_by_${name} (hour, key, rest) VALUES ${Array.from({ length: count }, () => '(?, ?, ?)').join(', ')}`

/** Adds rows that are stored behind the indexer. */
export function addEntries (connection: Connection, rows: readonly IndexedRow[]): void {
  // An address has to be a bigint: see encodeAddress.
  forEachEntry(rows, (name, hour, key, rest) => { connection.run(insertEntries(name, 1), hour, typeof key === 'number' ? BigInt(key) : key, rest) })
}

/** Removes rows, and what leads to them. */
export function removeRows (connection: Connection, rows: readonly IndexedRow[]): void {
  interruptIndexing(connection)
  for (const { id } of rows) connection.run('DELETE FROM ip_log_rows WHERE id = ?', id)
  removeEntries(connection, rows)
}

/** Removes what leads to rows that are gone already. */
export function dropKey (connection: Connection, { name, key }: IndexKey): void {
  for (const hour of hours(connection, name, EVERYTHING)) connection.run(`DELETE FROM ip_log_by_${name} WHERE hour = ? AND key = ?`, hour, key)
}

/** Removes what leads to rows. */
export function removeEntries (connection: Connection, rows: readonly IndexedRow[]): void {
  forEachEntry(rows, (name, hour, key, rest) => { connection.run(`DELETE FROM ip_log_by_${name} WHERE hour = ? AND key = ? AND rest = ?`, hour, key, rest) })
}

function forEachEntry (rows: readonly IndexedRow[], action: (name: LogIndexName, hour: number, key: Binding, rest: number) => void): void {
  for (const row of rows) {
    const hour = hourOf(row.id)
    for (const name of LOG_INDEXES) {
      const key = row[KEY_COLUMN[name]]
      if (key !== null) action(name, hour, key, row.id - hour * IDS_PER_HOUR)
    }
  }
}

// ---------------------------------------------------------------- reading

/** One index and a key in it. */
export interface IndexKey { name: LogIndexName, key: Binding }
/** Ids that are looked for: from `low` on, below `high`. */
export interface IdRange { low: number, high: number }
/** Conditions on `r`, a row of `ip_log_rows`: SQL that may follow AND, with its values. */
export interface RowConditions { sql: string, values: readonly Binding[] }

const EVERYTHING: IdRange = { low: 0, high: Number.MAX_SAFE_INTEGER }

/** Several statements on one state of the file, for a connection that only reads. */
export function snapshot<T> (connection: Connection, read: () => T): T {
  connection.run('BEGIN')
  try {
    return read()
  } finally {
    connection.run('COMMIT')
  }
}

/** The hours with entries, newest first. */
function * hours (connection: Connection, name: LogIndexName, { low, high }: IdRange): Generator<number> {
  const before = (hour: number) => connection.get<{ hour: number | null }>(`SELECT max(hour) AS hour FROM ip_log_by_${name} WHERE hour < ?`, hour)!.hour ?? -1
  for (let hour = before(hourOf(high) + 1); hour >= hourOf(low); hour = before(hour)) yield hour
}

/**
 * The newest rows with a key, up to `limit`.
 * @param columns of `r`
 */
export function newestByKey<Row> (connection: Connection, { name, key }: IndexKey, columns: string, conditions: RowConditions, range: IdRange, limit: number): Row[] {
  const { until } = indexState(connection)
  const of = `r.${KEY_COLUMN[name]} = ?${conditions.sql}`
  const rows = connection.all<Row>(`SELECT ${columns} FROM ip_log_rows AS r WHERE r.id > ? AND r.id < ? AND ${of} ORDER BY r.id DESC LIMIT ?`,
    Math.max(until, range.low - 1), range.high, key, ...conditions.values, limit)
  const sql = `SELECT ${columns} FROM ip_log_by_${name} AS x CROSS JOIN ip_log_rows AS r ON r.id = ${ENTRY_ID}
    WHERE x.hour = ? AND x.key = ? AND r.id >= ? AND r.id <= ? AND ${of} ORDER BY x.rest DESC LIMIT ?`
  for (const hour of hours(connection, name, range)) {
    if (rows.length >= limit) break
    rows.push(...connection.all<Row>(sql, hour, key, range.low, Math.min(until, range.high - 1), key, ...conditions.values, limit - rows.length))
  }
  return rows
}

export const indexedRow = (connection: Connection, id: number): IndexedRow | undefined =>
  connection.get<IndexedRow>(`SELECT ${INDEXED_COLUMNS} FROM ip_log_rows AS r WHERE r.id = ?`, id)

/** Rows with a key, in no particular order, up to `limit`; those of the tables first, so that the search for the last ones is done once. */
export function rowsOfKey (connection: Connection, { name, key }: IndexKey, limit: number): IndexedRow[] {
  const { until } = indexState(connection)
  const indexed = newestByKey<IndexedRow>(connection, { name, key }, INDEXED_COLUMNS, NO_CONDITIONS, { low: 0, high: until + 1 }, limit)
  return indexed.length > 0 ? indexed : newestByKey(connection, { name, key }, INDEXED_COLUMNS, NO_CONDITIONS, { low: until + 1, high: EVERYTHING.high }, limit)
}

export const INDEXED_COLUMNS = 'r.id, r.ip, r.user_ref, r.session_ref'
const NO_CONDITIONS: RowConditions = { sql: '', values: [] }

/** SQL for a source of rows `r` that all have a key, for aggregates, with the values of its parameters. */
export function rowsByKey (connection: Connection, { name, key }: IndexKey, range: IdRange): { sql: string, values: Binding[] } {
  const { until } = indexState(connection)
  const column = KEY_COLUMN[name]
  return {
    sql: `(SELECT ${ENTRY_ID} AS id FROM json_each(?) AS h CROSS JOIN ip_log_by_${name} AS x ON x.hour = h.value AND x.key = ? WHERE ${ENTRY_ID} <= ?
      UNION ALL SELECT id FROM ip_log_rows WHERE id > ? AND ${column} = ?) AS found CROSS JOIN ip_log_rows AS r ON r.id = found.id AND r.${column} = ?`,
    values: [JSON.stringify([...hours(connection, name, range)]), key, until, until, key, key]
  }
}
