/** Reads a database for a migration: read-only, in short reads, so that a running service is not held up and no WAL is kept from being copied back. */
import { existsSync } from 'node:fs'
import { RANGE_MS, type ColumnType, type MigratedRow, type MigratedTable, type MigratedValue } from '../../lib/migration-tables.js'
import type { MigrationSource, SourceRange } from '../../lib/migration-types.js'
import { doormanError } from '../../errors.js'
import { Connection, type Binding, type FileName } from './connection.js'
import { exportPlan } from './export-plans.js'
import type { Location } from './location.js'
import { needsMigration } from './migrate.js'
import { openingError, underLock } from './open-file.js'
import { logMigrations } from './schema-log.js'
import { mainMigrations } from './schema-main.js'

const MIGRATIONS = { main: mainMigrations, log: logMigrations }
/** How long other processes may take to let go of the files, ms: a service that has just been stopped, say. */
const RELEASE_MS = 2000

export interface ExportOptions {
  /** Nobody else has the files open, and nobody can open them until `close`. */
  exclusive: boolean
}

/**
 * Opens the files of a service.
 * @throws (rejects) DOORMAN_MIGRATION_SOURCE_IN_USE (with `exclusive`), DOORMAN_MIGRATION_SOURCE_OLD, DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN,
 * DOORMAN_DATABASE_UNOPENABLE, DOORMAN_NOT_A_DATABASE
 */
export async function openExport (location: Location, { exclusive }: ExportOptions): Promise<SqliteExport> {
  const main = await openFile(location.main, 'main', exclusive)
  try {
    return new SqliteExport({ main, log: await openFile(location.log, 'log', exclusive) })
  } catch (error) {
    main.close()
    throw error
  }
}

async function openFile (path: string, file: FileName, exclusive: boolean): Promise<Connection> {
  if (!existsSync(path)) throw doormanError('DOORMAN_DATABASE_UNOPENABLE', [path, 'there is no such file'])
  let connection: Connection | undefined
  try {
    connection = await underLock(RELEASE_MS, () => new Connection({ path, file, role: 'reader', exclusive }))
    if (needsMigration(connection, MIGRATIONS[file])) throw doormanError('DOORMAN_MIGRATION_SOURCE_OLD', [path])
    return connection
  } catch (error) {
    connection?.close()
    const refused = openingError(path, error)
    throw exclusive && refused.code === 'DOORMAN_STORAGE_BUSY' ? doormanError('DOORMAN_MIGRATION_SOURCE_IN_USE', [path], error) : refused
  }
}

/** Both files of a service, to be read. */
export class SqliteExport implements MigrationSource {
  readonly identity: string
  #connections: Record<FileName, Connection>
  #spill = 0

  constructor (connections: Record<FileName, Connection>) {
    this.#connections = connections
    // When the two files were made: copies of them have it too, and no two databases have both.
    this.identity = (['main', 'log'] as const).map(file => connections[file].get<{ at: number }>('SELECT applied_at AS at FROM doorman_schema WHERE version = 1')!.at).join('-')
  }

  * ranges (table: MigratedTable): Generator<SourceRange> {
    if (table.name === 'ip_logs') this.#spill = this.#connections.log.get<{ spill: number | null }>('SELECT -min(at_offset) AS spill FROM ip_log_rows')!.spill ?? 0
    const plan = exportPlan(table, this.#spill)
    const connection = this.#connections[plan.file]
    if (typeof plan.ranges === 'number') {
      for (let range = 0; range < plan.ranges; range++) {
        const { sql, values } = plan.range(range)
        const { rows } = connection.get<{ rows: number }>(`SELECT count(*) AS rows FROM ${plan.from} WHERE ${sql}`, ...values)!
        if (rows > 0) yield { range, rows, fingerprint: null }
      }
      return
    }
    const { ranges: nextTime } = plan
    const firstFrom = (time: number) => {
      const { sql, values } = nextTime(time)
      return connection.get<{ at: number | null }>(sql, ...values)!.at
    }
    for (let at = firstFrom(0); at !== null;) {
      const range = Math.floor(at / RANGE_MS)
      const { sql, values } = plan.range(range)
      const found = connection.get<Omit<SourceRange, 'range'>>(`SELECT count(*) AS rows, ${plan.fingerprint} AS fingerprint FROM ${plan.from} WHERE ${sql}`, ...values)!
      yield { range, ...found }
      at = firstFrom((range + 1) * RANGE_MS)
    }
  }

  rows (table: MigratedTable, range: number, limit: number, after: MigratedRow | null): MigratedRow[] {
    const { file, columns, from, order, position, range: partOf } = exportPlan(table, this.#spill)
    const { sql, values } = partOf(range)
    const marks = after === null ? [] : position(after)
    const rest = after === null ? '' : `AND (${order}) > (${marks.map(() => '?').join(', ')})`
    const rows = this.#connections[file].all<Record<string, Binding>>(`SELECT ${columns} FROM ${from} WHERE ${sql} ${rest} ORDER BY ${order} LIMIT ?`, ...values, ...marks, limit)
    return rows.map(row => table.columns.map(([name, type]) => valueOf(row[name]!, type)))
  }

  count (table: MigratedTable): number {
    const { file, from } = exportPlan(table, this.#spill)
    return this.#connections[file].get<{ n: number }>(`SELECT count(*) AS n FROM ${from}`)!.n
  }

  close (): void {
    for (const connection of Object.values(this.#connections)) connection.close()
  }
}

/** No other engine's text may hold a NUL. */
function valueOf (value: Binding, type: ColumnType): MigratedValue {
  if (type === 'boolean') return value === 1
  return typeof value === 'string' && value.includes('\0') ? value.replaceAll('\0', '\ufffd') : value as MigratedValue
}
