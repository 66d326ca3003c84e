/**
 * Notices that a file was removed or replaced while it is open. SQLite does not: it goes on writing, successfully, into a file that no path
 * leads to any more, and all of it is gone with the process.
 *
 * Only stat is used: opening and closing a file of an open database would drop this process's locks on it.
 */
import { statSync } from 'node:fs'
import { doormanError } from '../../errors.js'

/** What a path leads to; undefined where it leads nowhere. As bigint, because inode numbers may be longer than a double is exact. */
export type Identity = { dev: bigint, ino: bigint } | undefined

export function identify (path: string): Identity {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : { dev: stat.dev, ino: stat.ino }
}

/** @throws DOORMAN_STORAGE_REPLACED when the path does not lead to that file */
export function assertSame (path: string, known: Identity): void {
  let present: Identity
  try {
    present = identify(path)
  } catch {
    // No right to look, an input/output error: that says nothing about the file.
    return
  }
  if (present === undefined || present.dev !== known?.dev || present.ino !== known.ino) throw doormanError('DOORMAN_STORAGE_REPLACED', [path])
}

/**
 * The files of one open database. The WAL and its index are there from the opening on, and stay for as long as a connection is open: without
 * them other processes do not see what is in the WAL, nor the locks.
 */
export class FileIdentity {
  #known: ReadonlyArray<readonly [path: string, identity: Identity]>

  /** @param main what the path led to before it was opened */
  constructor (path: string, main: Identity) {
    this.#known = [[path, main], ...['-wal', '-shm'].map(suffix => [path + suffix, identify(path + suffix)] as const)]
  }

  /** Costs about 3 µs per file. @throws DOORMAN_STORAGE_REPLACED */
  assertSame (): void {
    for (const [path, identity] of this.#known) assertSame(path, identity)
  }
}
