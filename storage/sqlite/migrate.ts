/** Brings a file's schema to the present version: numbered steps, append-only, all in one IMMEDIATE transaction. */
import { doormanError } from '../../errors.js'
import type { Connection } from './connection.js'

/** One step. Its position in the list (from 1) is its number, the same in every engine. */
export interface Migration { name: string, sql: string }

const VERSION_TABLE = 'doorman_schema'

/**
 * The version of a file; 0 for one that is new to us. Kept in a table of our own, because `user_version` belongs to the host when the
 * file is shared with it.
 */
export function schemaVersion (connection: Connection): number {
  if (!hasTable(connection, VERSION_TABLE)) return 0
  return connection.get<{ version: number }>(`SELECT coalesce(max(version), 0) AS version FROM ${VERSION_TABLE}`)!.version
}

/**
 * Refuses what must not be touched, without taking a lock.
 * @returns true when there is something to migrate
 * @throws DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN
 */
export function needsMigration (connection: Connection, migrations: readonly Migration[]): boolean {
  const version = schemaVersion(connection)
  if (version > migrations.length) throw doormanError('DOORMAN_SCHEMA_NEWER', [connection.path, version, migrations.length])
  if (version === 0) {
    const foreign = createdNames(migrations).find(name => hasTable(connection, name))
    if (foreign !== undefined) throw doormanError('DOORMAN_SCHEMA_FOREIGN', [connection.path, foreign])
  }
  return version < migrations.length
}

/** Runs the missing steps. The caller holds the write lock (BEGIN IMMEDIATE) and commits. */
export function migrate (connection: Connection, migrations: readonly Migration[], now: number): void {
  // Asked again under the lock: another process may have migrated in between.
  if (!needsMigration(connection, migrations)) return
  const from = schemaVersion(connection)
  connection.db.exec(`CREATE TABLE IF NOT EXISTS ${VERSION_TABLE} (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT`)
  for (const [i, migration] of migrations.slice(from).entries()) {
    connection.db.exec(migration.sql)
    connection.run(`INSERT INTO ${VERSION_TABLE} (version, name, applied_at) VALUES (?, ?, ?)`, from + i + 1, migration.name, now)
  }
}

function hasTable (connection: Connection, name: string): boolean {
  return connection.get('SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type IN (\'table\', \'view\')', name) !== undefined
}

function createdNames (migrations: readonly Migration[]): string[] {
  return migrations.flatMap(({ sql }) => [...sql.matchAll(/CREATE (?:TABLE|VIEW) (\w+)/g)].map(match => match[1]!))
}
