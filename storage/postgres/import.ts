/** Writes a migration's rows, in transactions that also record what is there, and reads them back. */
import type { ColumnType, MigratedRow, MigratedTable, MigratedValue } from '../../lib/migration-tables.js'
import { HASH_RANGES, RANGE_MS } from '../../lib/migration-tables.js'
import type { MigrationTarget, RangeRecord, TargetChange } from '../../lib/migration-types.js'
import { assertRunner, beginImport, importedRanges, markRanges, recordRanges } from './import-state.js'
import { dayOf, type Partitions } from './partitions.js'
import type { Pool, Queryable, TransactionWork } from './pool-types.js'
import { DAILY_TABLES } from './schema-log.js'

/** Counting a table, or looking for its highest id, reads all of it. ms */
const WHOLE_TABLE_MS = 3_600_000
const WRITE: TransactionWork = { lane: 'bulk' }
const READ: TransactionWork = { lane: 'bulk', readOnly: true, statementTimeout: WHOLE_TABLE_MS }

const ARRAYS: Record<ColumnType, string> = { bytes: 'bytea[]', text: 'text[]', integer: 'bigint[]', boolean: 'boolean[]' }

export interface ImportOptions {
  pool: Pool
  partitions: Pick<Partitions, 'make'>
  /** Random, so that no two runs take each other for themselves. */
  runner: string
  clock (): number
  /** Closes what the pool stands on. */
  close (): Promise<void>
}

/** The target of a migration. */
export class PostgresImport implements MigrationTarget {
  #options: ImportOptions
  #daysMade = new Set<string>()

  constructor (options: ImportOptions) {
    this.#options = options
  }

  begin (source: string, mode: 'copy' | 'verify'): Promise<boolean> {
    const { pool, runner, clock } = this.#options
    return pool.transaction({ ...WRITE, statementTimeout: WHOLE_TABLE_MS }, async (client, { uncertain }) => {
      const isNew = await beginImport(client, { source, runner, now: clock(), mode })
      return isNew && !uncertain
    })
  }

  ranges (table: MigratedTable): Promise<RangeRecord[]> {
    return this.#options.pool.transaction(READ, client => importedRanges(client, table.name))
  }

  async rows (table: MigratedTable, from: number, to: number, limit: number, after: MigratedRow | null): Promise<MigratedRow[]> {
    const { text, values } = selectRanges(table, from, to, limit, after)
    const statement = { name: `doorman_import_${table.name}_${values.length}`, text }
    const { rows } = await this.#options.pool.run({ lane: 'bulk', readOnly: true }, client => client.query<Record<string, MigratedValue>>(statement, values))
    return rows.map(row => table.columns.map(([name]) => row[name]!))
  }

  async count (table: MigratedTable): Promise<number> {
    const { rows: [counted] } = await this.#options.pool.transaction(READ, client => client.query<{ n: number }>(`SELECT count(*) AS n FROM ${table.name}`))
    return counted!.n
  }

  async store (table: MigratedTable, { remove, add, complete, gone }: TargetChange): Promise<void> {
    await this.#makePartitions(table, add)
    await this.#asRunner(async client => {
      // A row that changed is among both. Those that are there already are from an attempt whose answer was lost.
      if (remove.length > 0) await client.query(deleteStatement(table), arrays(table, remove, table.key))
      if (add.length > 0) await client.query(insertStatement(table), arrays(table, add, table.columns.length))
      await recordRanges(client, table.name, complete, gone)
    })
  }

  mark (table: MigratedTable, ranges: readonly number[], verified: boolean): Promise<void> {
    return this.#asRunner(client => markRanges(client, table.name, ranges, verified))
  }

  finish (): Promise<void> {
    return this.#asRunner(async client => {
      // New rows take ids behind the migrated ones. Those of ip_logs are far beyond any that a sequence reaches.
      for (const table of ['user_activity', 'dead_letters']) await client.query(`SELECT setval('${table}_id', max(id)) FROM ${table} HAVING max(id) IS NOT NULL`)
      await client.query('UPDATE doorman_imports SET finished_at = $1', [this.#options.clock()])
    })
  }

  close (): Promise<void> {
    return this.#options.close()
  }

  #asRunner<T> (work: (client: Queryable) => Promise<T>): Promise<T> {
    const { pool, runner } = this.#options
    return pool.transaction({ ...WRITE, statementTimeout: WHOLE_TABLE_MS }, async client => {
      await assertRunner(client, runner)
      return work(client)
    })
  }

  async #makePartitions ({ name }: MigratedTable, rows: readonly MigratedRow[]): Promise<void> {
    const table = DAILY_TABLES.find(daily => daily === name)
    if (table === undefined) return
    const missing = new Set(rows.map(([at]) => dayOf(at as number)).filter(day => !this.#daysMade.has(`${table} ${day}`)))
    if (missing.size === 0) return
    await this.#options.partitions.make(table, [...missing])
    for (const day of missing) this.#daysMade.add(`${table} ${day}`)
  }
}

/** Names of columns, some of which are words of SQL. */
const names = (table: MigratedTable, count: number) => table.columns.slice(0, count).map(([name]) => `"${name}"`)
const lists = (table: MigratedTable, count: number) => `unnest(${table.columns.slice(0, count).map(([, type], i) => `$${i + 1}::${ARRAYS[type]}`).join(', ')})`
const arrays = (table: MigratedTable, rows: readonly MigratedRow[], count: number) => table.columns.slice(0, count).map((_, i) => rows.map(row => row[i]))

const deleteStatement = (table: MigratedTable) => ({
  name: `doorman_import_delete_${table.name}`,
  text: `DELETE FROM ${table.name} WHERE (${names(table, table.key).join(', ')}) IN (SELECT * FROM ${lists(table, table.key)})`
})

const insertStatement = (table: MigratedTable) => ({
  name: `doorman_import_insert_${table.name}`,
  text: `INSERT INTO ${table.name} (${names(table, table.columns.length).join(', ')}) SELECT * FROM ${lists(table, table.columns.length)} ON CONFLICT DO NOTHING`
})

/** The next rows of some ranges, in the order of their keys by bytes, whatever the database's language. */
function selectRanges (table: MigratedTable, from: number, to: number, limit: number, after: MigratedRow | null): { text: string, values: unknown[] } {
  const values: unknown[] = []
  const bind = (value: unknown, type: ColumnType) => `$${values.push(value)}::${ARRAYS[type].slice(0, -2)}`
  const key = table.columns.slice(0, table.key).map(([name, type]) => `"${name}"${type === 'text' ? ' COLLATE "C"' : ''}`)
  const conditions = {
    time: () => `at >= ${bind(from * RANGE_MS, 'integer')} AND at < ${bind(to * RANGE_MS, 'integer')}`,
    hash: () => `token_hash >= ${bind(Buffer.of(from), 'bytes')} AND token_hash < ${bind(to === HASH_RANGES ? Buffer.alloc(33, 255) : Buffer.of(to), 'bytes')}`,
    none: () => 'true'
  }[table.split]()
  const rest = after === null ? '' : ` AND (${key.join(', ')}) > (${table.columns.slice(0, table.key).map(([, type], i) => bind(after[i], type)).join(', ')})`
  const text = `SELECT ${names(table, table.columns.length).join(', ')} FROM ${table.name} WHERE ${conditions}${rest} ORDER BY ${key.join(', ')} LIMIT ${bind(limit, 'integer')}`
  return { text, values }
}
