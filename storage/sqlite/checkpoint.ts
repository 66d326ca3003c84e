/**
 * The only checkpoints there are, and none of them waits. NOOP tells figures and takes no lock; PASSIVE copies back what no reader needs; cutting
 * asks for the lock once and is refused at once (the writer's busy_timeout is 0). The modes that wait for readers while they hold the write lock
 * are not used anywhere: with one forgotten reader they stop every writer for the whole timeout.
 */
import type { Connection } from './connection.js'
import { isLock } from './errors.js'

export interface WalState {
  /** Frames in the WAL since it last started anew. */
  frames: number
  /** How many of them are copied back into the file. */
  copied: number
}

/** PASSIVE: copies back first what it may. @throws SQLite's error when the files cannot be read or written */
export function walState (connection: Connection, mode: 'NOOP' | 'PASSIVE' = 'NOOP'): WalState {
  const { log, checkpointed } = connection.get<{ log: number, checkpointed: number }>(`PRAGMA wal_checkpoint(${mode})`)!
  // Both are -1 where no WAL is open yet.
  return { frames: Math.max(0, log), copied: Math.max(0, checkpointed) }
}

/** From here on no commit of this connection copies back by itself. */
export function stopAutocheckpoint (connection: Connection): void {
  connection.db.pragma('wal_autocheckpoint = 0')
}

/** Copies back what is left and cuts the file to nothing. False: a reader or a writer is on it, and nothing was waited for. */
export function cutWal (connection: Connection): boolean {
  return (connection.db.pragma('wal_checkpoint(TRUNCATE)') as [{ busy: number }])[0].busy === 0
}

/** Largest file that is written anew, bytes: others wait for the lock meanwhile, up to a second. */
const REWRITE_LIMIT = 64 * 1024 * 1024

/**
 * Writes a file anew, which is the only way to reach what `secure_delete` does not: where a page was divided, what moved to the new one stays in
 * the unused part of the old one until other rows fill it (measured: 21 of the 80 000 copies of an address in 40 000 sessions). True when done, or when the file is too
 * large for it; false while somebody has the lock, which is not waited for.
 */
export function rewriteSmallFile (connection: Connection): boolean {
  if (connection.number('page_count') * connection.number('page_size') > REWRITE_LIMIT) return true
  try {
    connection.db.exec('VACUUM')
    return true
  } catch (error) {
    if (isLock(error)) return false
    throw error
  }
}
