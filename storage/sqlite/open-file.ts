/** Opens one file for the writer: WAL, schema, waiting for locks of other processes that start beside us. */
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError, type DoormanError } from '../../errors.js'
import { Connection, type FileName } from './connection.js'
import { isLock, sqliteCode, toDoormanError } from './errors.js'
import { migrate, needsMigration, type Migration } from './migrate.js'

export interface OpenFileOptions {
  path: string
  file: FileName
  migrations: readonly Migration[]
  /** How long to wait for locks, ms. */
  busyTimeout: number
  now (): number
}

/** @throws DOORMAN_NOT_A_DATABASE, DOORMAN_DATABASE_UNOPENABLE, DOORMAN_WAL_UNAVAILABLE, DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN, DOORMAN_STORAGE_… */
export async function openFile ({ path, file, migrations, busyTimeout, now }: OpenFileOptions): Promise<Connection> {
  let connection: Connection | undefined
  try {
    const opened = connection = new Connection({ path, role: 'writer', file })
    await underLock({ deadline: now() + busyTimeout, busyTimeout, now }, () => bringUp(opened, migrations, now()))
    return opened
  } catch (error) {
    connection?.close()
    throw openingError(path, error)
  }
}

/** Settings of the file and its schema. May be repeated from the start after any lock. */
function bringUp (connection: Connection, migrations: readonly Migration[], now: number): void {
  const { db } = connection
  // A file that is new must learn this before its first table; a host's own file keeps what it has.
  if (connection.number('page_count') === 0) db.pragma('auto_vacuum = INCREMENTAL')
  // The mode is persistent, so usually there is nothing to set; setting it needs a lock that no timeout waits for.
  if (journalMode(connection) !== 'wal') db.pragma('journal_mode = WAL')
  const mode = journalMode(connection)
  if (mode !== 'wal') throw doormanError('DOORMAN_WAL_UNAVAILABLE', [connection.path, mode])
  if (needsMigration(connection, migrations)) db.transaction(() => migrate(connection, migrations, now)).immediate()
}

function journalMode (connection: Connection): string {
  return connection.db.pragma('journal_mode', { simple: true }) as string
}

interface Wait { deadline: number, busyTimeout: number, now (): number }

async function underLock ({ deadline, busyTimeout, now }: Wait, action: () => void): Promise<void> {
  for (;;) {
    try {
      action()
      return
    } catch (error) {
      if (!isLock(error)) throw error
      if (now() >= deadline) throw doormanError('DOORMAN_STORAGE_BUSY', [busyTimeout], error)
      await sleep(2)
    }
  }
}

function openingError (path: string, error: unknown): DoormanError {
  const code = sqliteCode(error)
  if (code === 'SQLITE_NOTADB') return doormanError('DOORMAN_NOT_A_DATABASE', [path], error)
  if (code?.startsWith('SQLITE_CANTOPEN') === true) return doormanError('DOORMAN_DATABASE_UNOPENABLE', [path, code], error)
  return toDoormanError(error)
}
