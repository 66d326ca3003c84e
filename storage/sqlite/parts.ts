/** Opens what a storage consists of: guards first, then the writer, which brings the schema up, then what reads it. Reader threads start when something is asked of them. */
import type { DoormanError } from '../../errors.js'
import type { StorageOptions } from '../storage.js'
import { Connection, type FileName } from './connection.js'
import { toDoormanError } from './errors.js'
import { Failures } from './failures.js'
import { identify } from './file-identity.js'
import { assertOneLibrary, assertSqliteVersion, loadedObjects, prepareLocation, sqliteVersion } from './guards.js'
import type { Location } from './location.js'
import { underLock } from './open-file.js'
import { Notices } from './notices.js'
import { ThreadClient } from './thread-client.js'

const SCRIPTS = { writer: new URL('./writer-thread.js', import.meta.url), reader: new URL('./reader-thread.js', import.meta.url) }

/** The open parts of a database. */
export interface Parts {
  /** Of SQLite. */
  version: string
  /** The main thread's own, for point reads. */
  local: Connection
  /** The other file's: nothing is read by it. While it is open, no other connection is the last one to that file. */
  held: Connection
  writer: ThreadClient
  /** Starts another thread. */
  start (name: 'writer' | 'reader'): ThreadClient
  notices: Notices
  failures: Failures
}

/** Opens both files (creating them if missing) and starts the writer. @throws what guards.ts and open-file.ts throw */
export async function openParts (location: Location, options: StorageOptions): Promise<Parts> {
  const version = sqliteVersion()
  assertSqliteVersion(version)
  assertOneLibrary(loadedObjects())
  prepareLocation(location.main, location.log)
  const { maxPending, log, onFatal, ...given } = options
  const settings = { ...given, location, identities: { main: identify(location.main), log: identify(location.log) } }
  const notices = new Notices(log)
  const failures = new Failures(log, onFatal)
  const threads: ThreadClient[] = []
  function onGivenUp (error: DoormanError): void {
    // A file that nobody can reach is not to be read either.
    if (error.code === 'DOORMAN_STORAGE_REPLACED') for (const other of threads) other.fail(error)
    failures.end(error)
  }
  const start: Parts['start'] = name => {
    const thread = new ThreadClient({
      name,
      script: SCRIPTS[name],
      settings,
      maxPending,
      log,
      onNotice: notice => { notices.add(notice) },
      onError: error => { failures.note(error) },
      // Without a reader there are no lists, but logins and checks go on.
      ...name === 'writer' ? { onGivenUp } : {}
    })
    threads.push(thread)
    return thread
  }
  try {
    const writer = start('writer')
    await writer.ready
    // From here on the schema is there for others to read.
    const open = (file: FileName) => underLock(settings.busyTimeout, () => new Connection({ path: location[file], role: 'main-reader', file }))
    const local = await open('main')
    // Should this fail where that succeeded, the driver closes the other when it is collected.
    const held = await open('log')
    return { version, local, held, writer, start, notices, failures }
  } catch (error) {
    await Promise.all(threads.map(thread => thread.close(0)))
    throw toDoormanError(error)
  }
}
