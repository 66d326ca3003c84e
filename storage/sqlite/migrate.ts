/** Brings a file's schema to the present version: numbered steps, append-only, all in one IMMEDIATE transaction. */
import { doormanError } from '../../errors.js'
import type { Connection } from './connection.js'

/** One step. Its position in the list (from 1) is its number, the same in every engine. */
export interface Migration { name: string, sql: string }

const VERSION_TABLE = 'doorman_schema'

/**
 * The steps a file has seen, by name; none for one that is new to us. Kept in a table of our own, because `user_version` belongs to the
 * host when the file is shared with it.
 */
export function appliedMigrations (connection: Connection): string[] {
  if (!exists(connection, VERSION_TABLE)) return []
  return connection.all<{ name: string }>(`SELECT name FROM ${VERSION_TABLE} ORDER BY version`).map(row => row.name)
}

/**
 * Refuses what must not be touched, without taking a lock.
 * @returns true when there is something to migrate
 * @throws DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN
 */
export function needsMigration (connection: Connection, migrations: readonly Migration[]): boolean {
  const applied = appliedMigrations(connection)
  // The names tell the two files apart: a log opened as the main file would be accepted by its number alone.
  const other = applied.findIndex((name, i) => i < migrations.length && name !== migrations[i]!.name)
  if (other !== -1) throw doormanError('DOORMAN_SCHEMA_FOREIGN', [connection.path, `${VERSION_TABLE}: ${applied[other]}`])
  if (applied.length > migrations.length) throw doormanError('DOORMAN_SCHEMA_NEWER', [connection.path, applied.length, migrations.length])
  if (applied.length === 0) {
    const foreign = createdNames(migrations).find(name => exists(connection, name))
    if (foreign !== undefined) throw doormanError('DOORMAN_SCHEMA_FOREIGN', [connection.path, foreign])
  }
  return applied.length < migrations.length
}

/** Runs the missing steps. The caller holds the write lock (BEGIN IMMEDIATE) and commits. */
export function migrate (connection: Connection, migrations: readonly Migration[], now: number): void {
  // Asked again under the lock: another process may have migrated in between.
  if (!needsMigration(connection, migrations)) return
  const from = appliedMigrations(connection).length
  connection.db.exec(`CREATE TABLE IF NOT EXISTS ${VERSION_TABLE} (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT`)
  for (const [i, migration] of migrations.slice(from).entries()) {
    connection.db.exec(migration.sql)
    connection.run(`INSERT INTO ${VERSION_TABLE} (version, name, applied_at) VALUES (?, ?, ?)`, from + i + 1, migration.name, now)
  }
}

function exists (connection: Connection, name: string): boolean {
  return connection.get('SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE', name) !== undefined
}

/** Everything the steps make: tables, views, indexes, triggers. */
export function createdNames (migrations: readonly Migration[]): string[] {
  return migrations.flatMap(({ sql }) => [...sql.matchAll(/CREATE (?:TABLE|VIEW|INDEX|TRIGGER) (\w+)/g)].map(match => match[1]!))
}
