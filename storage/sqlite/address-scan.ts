/**
 * Addresses in tables, by slices: finding them is for the reader thread (it holds nobody up), changing them for the writer. What is changed or
 * freed is overwritten while it happens (`secure_delete`).
 */
import { truncateAddress } from '../../lib/anonymizer.js'
import { SLICE_ROWS, startOf, type AddressPass, type Found, type LookParams, type ScanPosition } from '../address-scan.js'
import type { AddressTarget, SweepTarget } from '../storage.js'
import { encodeAddress } from './address-code.js'
import type { Binding, Connection, FileName } from './connection.js'
import { addEntries, indexedRow, indexState, interruptIndexing, removeEntries, type IndexedRow } from './log-index.js'
import { IDS_PER_MS } from './schema-log.js'

/** SQL that is true for an address which still has its host: by bits where it is a number, else by the function that `defineTruncated` makes. */
const isFull = (column: string) => `CASE typeof(${column}) WHEN 'integer' THEN ${column} & 255 WHEN 'text' THEN truncated(${column}) <> ${column} ELSE 0 END`
const truncated = (column: string) => `CASE typeof(${column}) WHEN 'integer' THEN ${column} & -256 ELSE truncated(${column}) END`
const without = (column: string) => `${column} = CASE WHEN ${column} = @address THEN NULL ELSE ${column} END`

/** How a table is looked through and changed. */
interface PassPlan {
  file: FileName
  table: string
  /** What it is looked through by: the time first. The last one is the key. */
  order: readonly string[]
  /** Of the time column, per ms. */
  perMs: number
  full: string
  /** Condition of the rows that hold `@address`. */
  holds: string
  truncate: string
  erase: string
  /** The form in which the table has an address. */
  stored (address: string): Binding
}

const asText = (address: string): Binding => address
const session = (time: string, address: string): PassPlan => ({
  file: 'main',
  table: 'sessions',
  order: [time, 'token_hash'],
  perMs: 1,
  full: isFull(address),
  holds: '(ip = @address OR last_ip = @address)',
  truncate: 'UPDATE sessions SET ip = CASE WHEN created_at < @before THEN truncated(ip) ELSE ip END, last_ip = CASE WHEN last_active_at < @before THEN truncated(last_ip) ELSE last_ip END',
  erase: `UPDATE sessions SET ${without('ip')}, ${without('last_ip')}`,
  stored: asText
})

const PLANS: Record<AddressPass, PassPlan> = {
  ipLogs: {
    file: 'log',
    table: 'ip_log_rows',
    order: ['id'],
    perMs: IDS_PER_MS,
    // With the exact time, a port finds a subscriber behind carrier-grade NAT.
    full: `(peer_port IS NOT NULL OR ${isFull('ip')} OR ${isFull('peer_ip')})`,
    // By `ip` there is an index.
    holds: 'peer_ip = @address',
    truncate: `UPDATE ip_log_rows SET ip = ${truncated('ip')}, peer_ip = ${truncated('peer_ip')}, peer_port = NULL`,
    erase: 'UPDATE ip_log_rows SET peer_ip = NULL, peer_port = NULL',
    stored: encodeAddress
  },
  activity: { file: 'log', table: 'user_activity', order: ['at', 'id'], perMs: 1, full: isFull('ip'), holds: 'ip = @address', truncate: 'UPDATE user_activity SET ip = truncated(ip)', erase: 'UPDATE user_activity SET ip = NULL', stored: asText },
  // They are not truncated: they go as soon as addresses lose their host.
  deadLetters: { file: 'log', table: 'dead_letters', order: ['at', 'id'], perMs: 1, full: 'false', holds: 'instr(content, @address)', truncate: '', erase: 'DELETE FROM dead_letters', stored: address => JSON.stringify(address) },
  sessionsByCreation: session('created_at', 'ip'),
  sessionsByUse: session('last_active_at', 'last_ip')
}

/** Which file a pass is in. */
export const passFile = (pass: AddressPass): FileName => PLANS[pass].file

/** The function `truncated(text)` for the SQL of a connection. */
export function defineTruncated (connection: Connection): void {
  connection.db.function('truncated', { deterministic: true }, (address: unknown) => typeof address === 'string' ? truncateAddress(address) : address)
}

/** The next slice of a table: the positions of the rows that are wanted. */
export function lookForAddresses (connection: Connection, { pass, address, from, until, after, limit }: LookParams): Found<ScanPosition> {
  const { table, order, perMs, full, holds, stored } = PLANS[pass]
  const columns = order.join(', ')
  const slice: Record<string, Binding> = { from: after === null ? from * perMs : after[0]!, until: until * perMs }
  for (const [i, value] of (after ?? []).entries()) slice[`after${i}`] = value
  const range = `${order[0]} >= @from AND ${order[0]} < @until${after === null ? '' : ` AND (${columns}) > (${order.map((_, i) => `@after${i}`).join(', ')})`}`
  const positions = (where: string, values: Record<string, Binding>, rest: string): ScanPosition[] =>
    connection.allNamed<Record<string, string | number>>(`SELECT ${columns} FROM ${table} WHERE ${where} ORDER BY ${columns} ${rest}`, values).map(row => order.map(column => row[column]!))
  const [end] = positions(range, slice, `LIMIT 1 OFFSET ${SLICE_ROWS - 1}`)
  const wanted: Record<string, Binding> = { ...slice, limit, ...(address === null ? {} : { address: stored(address) }) }
  for (const [i, value] of (end ?? []).entries()) wanted[`end${i}`] = value
  const upTo = end === undefined ? '' : ` AND (${columns}) <= (${order.map((_, i) => `@end${i}`).join(', ')})`
  const rows = positions(`${range}${upTo} AND ${address === null ? full : holds}`, wanted, 'LIMIT @limit')
  const last = rows.length === limit ? rows[limit - 1]! : end ?? null
  return { rows, after: last, reached: last === null ? until : Math.floor(last[0] as number / perMs) }
}

export interface AddressRows { pass: AddressPass, rows: ScanPosition[] }

/** In the writer. */
export function truncateAddresses (connection: Connection, { pass, rows, before }: AddressRows & { before: number }): number {
  const { truncate, order } = PLANS[pass]
  const change = () => changeRows(connection, `${truncate} WHERE ${order.at(-1)} = @key`, rows, pass.startsWith('sessions') ? { before } : {})
  return pass === 'ipLogs' ? withEntries(connection, rows.map(position => position.at(-1) as number), change) : change()
}

/** In the writer. The condition again: a session may be used from elsewhere meanwhile. */
export function eraseAddresses (connection: Connection, { pass, rows, address }: AddressRows & { address: string }): number {
  const { erase, order, holds, stored } = PLANS[pass]
  return changeRows(connection, `${erase} WHERE ${order.at(-1)} = @key AND ${holds}`, rows, { address: stored(address) })
}

/** A change of addresses: what leads to the rows by them changes, too. By user and by session they are found as before. */
function withEntries (connection: Connection, ids: readonly number[], change: () => number): number {
  const rows = () => ids.map(id => indexedRow(connection, id)).filter((row): row is IndexedRow => row !== undefined).map(({ id, ip }) => ({ id, ip, user_ref: null, session_ref: null }))
  removeEntries(connection, rows())
  const changed = change()
  const { announced } = indexState(connection)
  addEntries(connection, rows().filter(({ id }) => id <= announced))
  interruptIndexing(connection)
  return changed
}

function changeRows (connection: Connection, sql: string, rows: readonly ScanPosition[], values: Record<string, Binding>): number {
  let changed = 0
  for (const position of rows) changed += connection.runNamed(sql, { ...values, key: position.at(-1)! }).changes
  // Other processes, and our own main thread, remember sessions until this number changes (session-cache.ts).
  if (changed > 0 && connection.file === 'main') connection.run('UPDATE doorman_counters SET value = value + 1 WHERE name = \'sessions\'')
  return changed
}

// ---------------------------------------------------------------- how far it got

const COUNTERS: Record<FileName, string> = { main: 'doorman_counters', log: 'log_counters' }
const markerName = (pass: AddressPass) => `addresses_truncated:${pass}`

export function addressMarker (connection: Connection, { pass }: { pass: AddressPass }): number {
  return connection.get<{ value: number }>(`SELECT value FROM ${COUNTERS[connection.file]} WHERE name = ?`, markerName(pass))?.value ?? 0
}

export function setAddressMarker (connection: Connection, { pass, at }: { pass: AddressPass, at: number }): null {
  connection.run(`INSERT INTO ${COUNTERS[connection.file]} (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, markerName(pass), at)
  return null
}

/** How many rows a run would change: of those that it does not remove before. */
export function countFullAddresses (connection: Connection, target: AddressTarget, cutoffs: Record<SweepTarget, number>, now: number): number {
  const from = (pass: AddressPass) => startOf(addressMarker(connection, { pass }), now)
  const before = cutoffs[target]
  const count = (table: string, where: string, ...values: number[]) => connection.get<{ n: number }>(`SELECT count(*) AS n FROM ${table} WHERE ${where}`, ...values)!.n
  const { ipLogs, activity, sessionsByCreation, sessionsByUse } = PLANS
  if (target === 'ipLogAddresses') return count(ipLogs.table, `id >= ? AND id < ? AND ${ipLogs.full}`, Math.max(from('ipLogs'), cutoffs.ipLogs) * IDS_PER_MS, before * IDS_PER_MS)
  if (target === 'activityAddresses') return count(activity.table, `at >= ? AND at < ? AND ${activity.full}`, Math.max(from('activity'), cutoffs.activity), before)
  return count('sessions', `((created_at >= ? AND created_at < ? AND ${sessionsByCreation.full}) OR (last_active_at >= ? AND last_active_at < ? AND ${sessionsByUse.full}))
    AND last_active_at >= ? AND expires_at > ?`, from('sessionsByCreation'), before, from('sessionsByUse'), before, cutoffs.sessionsIdle, cutoffs.sessionsExpired)
}
