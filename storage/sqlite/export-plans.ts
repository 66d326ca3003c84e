/** How a migration reads each table: rows of a range in the order of their keys, and numbers that tell whether a range has changed. */
import { HASH_RANGES, RANGE_MS, type MigratedRow, type MigratedTable, type MigratedTableName } from '../../lib/migration-tables.js'
import type { Binding, FileName } from './connection.js'
import { AT_SQL, IDS_PER_MS, IP_LOG_COLUMNS } from './schema-log.js'

/** Some SQL with the values of its parameters. */
export interface Part { sql: string, values: Binding[] }

/** How one table is read. */
export interface ExportPlan {
  file: FileName
  columns: string
  from: string
  /** Condition of the rows of a range. */
  range (range: number): Part
  /** Columns that rows are ordered by, and their values in a row. */
  order: string
  position (row: MigratedRow): Binding[]
  /** Aggregates that change when rows of a range come or go; null where rows change in place. Sums stay far from 2^63. */
  fingerprint: string | null
  /** Which ranges there are: all of a fixed number, or, one by one, that of the first row not before a moment (column `at`, ms, or null). */
  ranges: number | ((from: number) => Part)
}

/** Makes large ids small enough to be squared and summed. A prime. */
const MODULUS = 67_108_859
const idSums = (id: string) => `count(*) || '-' || sum(${id} % ${MODULUS}) || '-' || sum((${id} % ${MODULUS}) * (${id} % ${MODULUS}) % 2147483647)`

const hashRange = (range: number): Part => range === HASH_RANGES - 1
  ? { sql: 'token_hash >= ?', values: [Buffer.of(range)] }
  : { sql: 'token_hash >= ? AND token_hash < ?', values: [Buffer.of(range), Buffer.of(range + 1)] }

const timeRange = (range: number): Part => ({ sql: 'at >= ? AND at < ?', values: [range * RANGE_MS, (range + 1) * RANGE_MS] })

const inPlace = { file: 'main', fingerprint: null, position: (row: MigratedRow) => [row[0] as Uint8Array | string] } as const
const hashed = (from: string) => ({ ...inPlace, from, range: hashRange, order: 'token_hash', ranges: HASH_RANGES })
const whole = (from: string) => ({ ...inPlace, from, range: () => ({ sql: 'true', values: [] }), order: 'id', ranges: 1 })
const timed = (from: string, id: string) => ({
  file: 'log' as const,
  from,
  range: timeRange,
  order: `at, ${id}`,
  position: (row: MigratedRow) => [row[0] as number, row[1] as number | string],
  ranges: (at: number): Part => ({ sql: `SELECT min(at) AS at FROM ${from} WHERE at >= ?`, values: [at] })
})

/**
 * The log's rows by their id, which is their time, but for those of a crowded millisecond that were put behind it: for `spill` ms at most (the
 * longest `at_offset`). Where there are such, rows have to be sorted in.
 */
function ipLogs (spill: number): Omit<ExportPlan, 'columns'> {
  const ids = (from: number, to: number): Binding[] => [from * IDS_PER_MS, (to + spill) * IDS_PER_MS]
  const order = spill === 0
    ? { order: 'r.id', position: (row: MigratedRow) => [row[1] as number] }
    : { order: `${AT_SQL}, r.id`, position: (row: MigratedRow) => [row[0] as number, row[1] as number] }
  return {
    file: 'log',
    from: 'ip_log_rows AS r',
    ...order,
    range (range) {
      const [from, to] = [range * RANGE_MS, (range + 1) * RANGE_MS]
      return { sql: `r.id >= ? AND r.id < ? AND ${AT_SQL} >= ? AND ${AT_SQL} < ?`, values: [...ids(from, to), from, to] }
    },
    fingerprint: `${idSums('r.id')} || '-' || sum(r.path_ref + coalesce(r.user_ref, 0) * 3 + coalesce(r.session_ref, 0) * 5) || '-' || sum(r.status * 7 + r.duration_us)`,
    // The first by id need not be the earliest; an earlier one is not further behind it than any was put.
    ranges: from => ({
      sql: `SELECT min(${AT_SQL}) AS at FROM ip_log_rows AS r WHERE r.id >= ? AND ${AT_SQL} >= ? AND r.id < (SELECT (first.id / ${IDS_PER_MS} + ? + 1) * ${IDS_PER_MS}
        FROM ip_log_rows AS first WHERE first.id >= ? AND first.id / ${IDS_PER_MS} + first.at_offset >= ? ORDER BY first.id LIMIT 1)`,
      values: [from * IDS_PER_MS, from, spill, from * IDS_PER_MS, from]
    })
  }
}

/** The plan of a table. @param spill see `ipLogs` */
export function exportPlan ({ name, columns }: MigratedTable, spill: number): ExportPlan {
  const plans: Record<MigratedTableName, () => Omit<ExportPlan, 'columns'>> = {
    ip_logs: () => ipLogs(spill),
    user_activity: () => ({ ...timed('user_activity', 'id'), fingerprint: `${idSums('id')} || '-' || sum(length(user_id))` }),
    dead_letters: () => ({ ...timed('dead_letters', 'id'), fingerprint: `${idSums('id')} || '-' || sum(length(content))` }),
    ingested: () => ({ ...timed('ingested', 'key'), fingerprint: `count(*) || '-' || sum(at % ${RANGE_MS}) || '-' || sum(length(key)) || '-' || sum(unicode(substr(key, -1)))` }),
    ip_blocks: () => whole('ip_blocks'),
    cleanup_runs: () => whole('cleanup_runs'),
    session_devices: () => ({ ...whole('session_devices'), order: 'user_id, device, network', position: row => row.slice(0, 3) as string[] }),
    session_tombstones: () => hashed('session_tombstones'),
    sessions: () => hashed('sessions')
  }
  return { ...plans[name](), columns: name === 'ip_logs' ? IP_LOG_COLUMNS : columns.map(([column]) => column).join(', ') }
}
