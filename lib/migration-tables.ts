/** What a migration carries from one engine to another, as rows that mean the same in both, and the one text of a row that checksums are of. */

/** How a column's value arrives: `bytes` as Uint8Array, `integer` as a number, `boolean` as true or false; null in any. */
export type ColumnType = 'bytes' | 'text' | 'integer' | 'boolean'
export type MigratedValue = Uint8Array | string | number | boolean | null
/** Values in the order of the table's columns. */
export type MigratedRow = readonly MigratedValue[]

/**
 * A table is migrated in ranges, each small enough to be looked at again when something in it has changed: `time`, a minute of `at`;
 * `hash`, a first byte of the key; `none`, all of it.
 */
export type Split = 'time' | 'hash' | 'none'

export interface MigratedTable {
  name: MigratedTableName
  split: Split
  /** The first `key` columns identify a row, and are the order rows come in (texts and bytes by their bytes). */
  key: number
  columns: readonly (readonly [name: string, type: ColumnType])[]
}
export type MigratedTableName = 'ip_logs' | 'user_activity' | 'dead_letters' | 'ingested' | 'ip_blocks' | 'cleanup_runs' | 'session_devices' | 'session_tombstones' | 'sessions'

/** Length of a range of the split `time`, ms. */
export const RANGE_MS = 60_000
/** Ranges of the split `hash`. */
export const HASH_RANGES = 256

const text = (...names: string[]) => names.map(name => [name, 'text'] as const)
const integer = (...names: string[]) => names.map(name => [name, 'integer'] as const)

/** Sessions last: what is copied first is oldest at the end of a pass. */
export const MIGRATED_TABLES: readonly MigratedTable[] = [
  {
    name: 'ip_logs',
    split: 'time',
    key: 2,
    columns: [
      ...integer('at', 'id'), ...text('ip', 'ip_source', 'peer_ip'), ...integer('peer_port'), ...text('method', 'path', 'route'), ...integer('status', 'duration_us'),
      ...text('user_agent', 'referer', 'session_id', 'user_id', 'request_id', 'outcome'), ...integer('trusted_hops')
    ]
  },
  { name: 'user_activity', split: 'time', key: 2, columns: [...integer('at', 'id'), ...text('user_id', 'session_id', 'action', 'ip', 'detail')] },
  { name: 'dead_letters', split: 'time', key: 2, columns: [...integer('at', 'id'), ...text('kind', 'user_id', 'reason', 'content')] },
  { name: 'ingested', split: 'time', key: 2, columns: [...integer('at'), ...text('key')] },
  { name: 'ip_blocks', split: 'none', key: 1, columns: [...text('id', 'cidr'), ...integer('until'), ...text('reason'), ...integer('created_at')] },
  {
    name: 'cleanup_runs',
    split: 'none',
    key: 1,
    columns: [
      ...text('id'), ...integer('started_at', 'duration_ms'), ['dry_run', 'boolean'], ...text('trigger'), ['complete', 'boolean'], ...text('removed'), ...integer('freed_pages'),
      ...text('error')
    ]
  },
  {
    name: 'session_devices',
    split: 'none',
    key: 3,
    columns: [...text('user_id', 'device', 'network'), ...integer('first_seen_at', 'last_seen_at', 'sessions')]
  },
  {
    name: 'session_tombstones',
    split: 'hash',
    key: 1,
    columns: [['token_hash', 'bytes'], ...text('session_id', 'user_id', 'reason'), ...integer('ended_at', 'grace_until')]
  },
  {
    name: 'sessions',
    split: 'hash',
    key: 1,
    columns: [
      ['token_hash', 'bytes'], ...text('id', 'user_id'), ...integer('created_at', 'last_active_at', 'authenticated_at', 'rotated_at', 'expires_at'),
      ...text('ip', 'last_ip', 'user_agent', 'last_user_agent', 'device'), ['flagged', 'boolean'], ...text('data')
    ]
  }
]

/** The text of a row that both sides are compared by: its values as a JSON array, bytes (which only a key begins with) as hexadecimal digits. */
export function rowText (row: MigratedRow): string {
  const [first, ...rest] = row
  return first instanceof Uint8Array ? JSON.stringify([Buffer.from(first).toString('hex'), ...rest]) : JSON.stringify(row)
}

/** Which range a row belongs to. Rows in the order of their keys are in the order of their ranges, too. */
export function rangeOf ({ split }: MigratedTable, row: MigratedRow): number {
  if (split === 'none') return 0
  return split === 'hash' ? (row[0] as Uint8Array)[0]! : Math.floor((row[0] as number) / RANGE_MS)
}

/** Order of two rows of a table by their keys: negative when `a` comes first. */
export function compareKeys (table: MigratedTable, a: MigratedRow, b: MigratedRow): number {
  for (let i = 0; i < table.key; i++) {
    const order = compareValues(a[i], b[i])
    if (order !== 0) return order
  }
  return 0
}

/** A key's values are of one type and never null. */
function compareValues (a: MigratedValue | undefined, b: MigratedValue | undefined): number {
  if (a === b) return 0
  if (typeof a === 'number') return a - (b as number)
  return Buffer.compare(Buffer.from(a as string), Buffer.from(b as string))
}
