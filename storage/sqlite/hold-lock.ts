/** Takes the write lock of a file as another program would: for the self-test (lib/doctor.ts), which looks at how ours bears it. */
import Database from 'better-sqlite3'
import { toDoormanError } from './errors.js'

/**
 * Locks the file at `path` against writing; the returned function lets go.
 * @param patience how long the lock itself may take to get, ms: others write in short transactions. Blocks the thread meanwhile.
 * @throws DOORMAN_STORAGE_BUSY when another holds the lock for longer, DOORMAN_STORAGE_… otherwise
 */
export function holdLock (path: string, patience = 1000): () => void {
  const db = new Database(path, { fileMustExist: true, timeout: patience })
  try {
    db.exec('BEGIN IMMEDIATE')
  } catch (error) {
    db.close()
    throw toDoormanError(error)
  }
  return () => {
    db.exec('ROLLBACK')
    db.close()
  }
}
