/**
 * Erasing requests from the log, in steps: the rows are found in the reader thread, where that takes as long as it takes, and removed by the
 * writer, with what leads to them. Freed bytes are overwritten meanwhile (`secure_delete`).
 */
import { encodeAddress } from './address-code.js'
import type { Connection } from './connection.js'
import { dropKey, INDEXED_COLUMNS, KEY_COLUMN, removeRows, rowsOfKey, snapshot, type IndexedRow, type IndexKey } from './log-index.js'
import { findText } from './text-dictionary.js'

/** Whose requests: of a user, or from an address. */
export type Requester = { userId: string } | { address: string }

/** In the reader: ids of rows, up to `limit`, in no particular order. */
export function requestsOf (connection: Connection, { requester, limit }: { requester: Requester, limit: number }): number[] {
  return snapshot(connection, () => {
    const key = keyOf(connection, requester)
    return key === undefined ? [] : rowsOfKey(connection, key, limit).map(({ id }) => id)
  })
}

function keyOf (connection: Connection, requester: Requester): IndexKey | undefined {
  if ('address' in requester) return { name: 'ip', key: encodeAddress(requester.address) }
  const user = findText(connection, 'user', requester.userId)
  return user === undefined ? undefined : { name: 'user', key: user }
}

/** Removed rows. */
export interface LogErasure { activity: number, ipLogs: number, deadLetters: number }
export interface LogErasureStep { userId: string, ids: readonly number[], limit: number }

/**
 * In the writer: one step of erasing a user. The ids of sessions go with their first rows, that of the user with the step that has no rows
 * any more. The numbers of both are never given again, so a row that still has one belongs to nobody.
 */
export function eraseLog (connection: Connection, { userId, ids, limit }: LogErasureStep): LogErasure {
  const activity = connection.run('DELETE FROM user_activity WHERE user_id = ? LIMIT ?', userId, limit).changes
  const deadLetters = connection.run('DELETE FROM dead_letters WHERE user_id = ? LIMIT ?', userId, limit).changes
  const user = keyOf(connection, { userId })
  const rows = user === undefined ? [] : remove(connection, user, ids)
  for (const session of new Set(rows.map(row => row.session_ref))) connection.run('DELETE FROM texts WHERE id = ?', session)
  if (user !== undefined && ids.length === 0) connection.run('DELETE FROM texts WHERE id = ?', user.key)
  return { activity, ipLogs: rows.length, deadLetters }
}

/** In the writer: one step of removing the requests from an address. */
export function eraseRequests (connection: Connection, { address, ids }: { address: string, ids: readonly number[] }): number {
  const key: IndexKey = { name: 'ip', key: encodeAddress(address) }
  if (ids.length === 0) dropKey(connection, key)
  return remove(connection, key, ids).length
}

/** The retention may have been there first, and another row of the same millisecond have the id now. */
function remove (connection: Connection, { name, key }: IndexKey, ids: readonly number[]): IndexedRow[] {
  const sql = `SELECT ${INDEXED_COLUMNS} FROM ip_log_rows AS r WHERE r.id = ? AND r.${KEY_COLUMN[name]} = ?`
  const rows = ids.map(id => connection.get<IndexedRow>(sql, id, key)).filter((row): row is IndexedRow => row !== undefined)
  removeRows(connection, rows)
  return rows
}
