/** Opens one file for the writer: WAL, schema, waiting for locks of other processes that start beside us. What is refused is left as it was. */
import { statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError, type DoormanError } from '../../errors.js'
import { Connection, type FileName } from './connection.js'
import { isLock, sqliteCode, toDoormanError } from './errors.js'
import { createdNames, migrate, needsMigration, type Migration } from './migrate.js'

export interface OpenFileOptions {
  path: string
  file: FileName
  migrations: readonly Migration[]
  /** How long to wait for locks, ms. */
  busyTimeout: number
}

/** @throws DOORMAN_NOT_A_DATABASE, DOORMAN_DATABASE_UNOPENABLE, DOORMAN_WAL_UNAVAILABLE, DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN, DOORMAN_STORAGE_… */
export async function openFile ({ path, file, migrations, busyTimeout }: OpenFileOptions): Promise<Connection> {
  let connection: Connection | undefined
  try {
    return await underLock(busyTimeout, () => {
      if (connection === undefined) inspect(path, file, migrations)
      connection ??= new Connection({ path, role: 'writer', file })
      bringUp(connection, migrations)
      return connection
    })
  } catch (error) {
    connection?.close()
    throw openingError(path, error)
  }
}

/**
 * Repeats an action while a lock stops it: even opening meets one when another process opens or closes the file as the first or last.
 * @throws (rejects) DOORMAN_STORAGE_BUSY after `busyTimeout` ms
 */
export async function underLock<T> (busyTimeout: number, action: () => T): Promise<T> {
  const deadline = performance.now() + busyTimeout
  for (;;) {
    try {
      return action()
    } catch (error) {
      if (!isLock(error)) throw error
      if (performance.now() >= deadline) throw doormanError('DOORMAN_STORAGE_BUSY', [busyTimeout], error)
      await sleep(2)
    }
  }
}

/**
 * Looks at a file that has a WAL before anybody opens it for writing: the last such connection to close copies the WAL back, and a file that
 * is damaged, or of a newer release, would be changed by our refusing it. Reads the beginning of each table, which is what a cut file lacks.
 */
function inspect (path: string, file: FileName, migrations: readonly Migration[]): void {
  if ((statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) === 0) return
  const connection = new Connection({ path, role: 'main-reader', file })
  try {
    connection.db.transaction(() => {
      needsMigration(connection, migrations)
      const ours = createdNames(migrations)
      const tables = connection.all<{ name: string }>('SELECT name FROM sqlite_schema WHERE type = \'table\'').filter(({ name }) => ours.includes(name))
      for (const { name } of tables) connection.get(`SELECT 1 FROM ${name}`)
    })()
  } finally {
    connection.close()
  }
}

/** Settings of the file and its schema. May be repeated from the start after any lock. */
function bringUp (connection: Connection, migrations: readonly Migration[]): void {
  const { db } = connection
  // A file that is new must learn this before its first table; a host's own file keeps what it has.
  if (connection.number('page_count') === 0) db.pragma('auto_vacuum = INCREMENTAL')
  // The mode is persistent, so usually there is nothing to set; setting it needs a lock that no timeout waits for.
  if (journalMode(connection) !== 'wal') db.pragma('journal_mode = WAL')
  const mode = journalMode(connection)
  if (mode !== 'wal') throw doormanError('DOORMAN_WAL_UNAVAILABLE', [connection.path, mode])
  // One snapshot: another process may be migrating at this moment.
  if (db.transaction(() => needsMigration(connection, migrations))()) db.transaction(() => migrate(connection, migrations, Date.now())).immediate()
}

function journalMode (connection: Connection): string {
  return connection.db.pragma('journal_mode', { simple: true }) as string
}

/** What opening a file failed with, as an error of the catalogue. */
export function openingError (path: string, error: unknown): DoormanError {
  const code = sqliteCode(error)
  if (code === 'SQLITE_NOTADB') return doormanError('DOORMAN_NOT_A_DATABASE', [path], error)
  if (code?.startsWith('SQLITE_CANTOPEN') === true) return doormanError('DOORMAN_DATABASE_UNOPENABLE', [path, code], error)
  return toDoormanError(error, 0, path)
}
