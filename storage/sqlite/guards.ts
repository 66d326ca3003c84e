/** Checks before anything is opened: what would corrupt, lose or lock later is refused at the start, with what to do. */
import { accessSync, closeSync, constants, mkdirSync, openSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { doormanError, type DoormanErrorCode } from '../../errors.js'

/** First release without the WAL-reset corruption (https://sqlite.org/wal.html#walresetbug). */
const OLDEST_SQLITE = [3, 51, 3] as const

/** File systems without coherent shared memory or locks, by the `f_type` of statfs(2). */
const NETWORK_FILE_SYSTEMS = new Map([
  [0x6969, 'NFS'], [0x517b, 'SMB'], [0xff534d42, 'CIFS'], [0xfe534d42, 'SMB2'], [0x01021997, '9p'], [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'], [0x47504653, 'GPFS'], [0x5346414f, 'AFS'], [0x786f4256, 'VirtualBox shared folder']
])

/** @throws DOORMAN_SQLITE_TOO_OLD */
export function assertSqliteVersion (version: string): void {
  const parts = version.split('.').map(Number)
  for (const [i, least] of OLDEST_SQLITE.entries()) {
    const part = parts[i] ?? 0
    if (part > least) return
    if (part < least) throw doormanError('DOORMAN_SQLITE_TOO_OLD', [version])
  }
}

/** Native SQLite libraries among the shared objects of this process. */
export function sqliteLibraries (sharedObjects: readonly string[]): string[] {
  return [...new Set(sharedObjects.filter(path => /(better_sqlite3|node_sqlite3|libsql)[^/\\]*\.node$/.test(path)))]
}

/** The libraries this process has loaded. Network interfaces are left out of the report: looking up their names can block. */
export function loadedObjects (): string[] {
  const settings = process.report as typeof process.report & { excludeNetwork?: boolean }
  settings.excludeNetwork = true
  const report = settings.getReport() as unknown as { sharedObjects: string[] }
  return report.sharedObjects
}

/**
 * POSIX locks belong to a process, not to a connection: two copies of SQLite in one process do not see each other's locks,
 * both COMMIT and one row is gone (https://sqlite.org/howtocorrupt.html, 2.2.1).
 * @throws DOORMAN_SQLITE_DUPLICATE
 */
export function assertOneLibrary (sharedObjects: readonly string[]): void {
  const found = sqliteLibraries(sharedObjects)
  if (found.length > 1) throw doormanError('DOORMAN_SQLITE_DUPLICATE', [found.join(', ')])
}

/** @throws DOORMAN_FILESYSTEM_UNSUPPORTED */
export function assertFileSystem (directory: string, type: number): void {
  // statfs gives the type as a signed or unsigned 32-bit number, depending on the platform.
  const name = NETWORK_FILE_SYSTEMS.get(type >>> 0)
  if (name !== undefined) throw doormanError('DOORMAN_FILESYSTEM_UNSUPPORTED', [directory, name])
}

/**
 * Creates the directory of a database file if it is missing, and checks that files can be created there and the file, where it
 * exists, written. What is created is for this user only: it will hold personal data.
 * @throws DOORMAN_DIRECTORY_UNWRITABLE, DOORMAN_FILESYSTEM_UNSUPPORTED, DOORMAN_DATABASE_UNOPENABLE
 */
export function prepareLocation (file: string): void {
  const directory = dirname(file)
  attempt('DOORMAN_DIRECTORY_UNWRITABLE', directory, () => { mkdirSync(directory, { recursive: true, mode: 0o700 }) })
  assertWritableDirectory(directory)
  assertFileSystem(directory, statfsSync(directory).type)
  const stat = statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) {
    // Before any connection exists: closing a descriptor of an open database would drop its locks. -wal and -shm take the same mode.
    attempt('DOORMAN_DATABASE_UNOPENABLE', file, () => { closeSync(openSync(file, 'a', 0o600)) })
    return
  }
  if (!stat.isFile()) throw doormanError('DOORMAN_DATABASE_UNOPENABLE', [file, stat.isDirectory() ? 'it is a directory' : 'it is not a regular file'])
  attempt('DOORMAN_DATABASE_UNOPENABLE', file, () => { accessSync(file, constants.R_OK | constants.W_OK) })
}

/** @throws DOORMAN_DIRECTORY_UNWRITABLE also for one that does not exist, or is something else */
export function assertWritableDirectory (directory: string): void {
  attempt('DOORMAN_DIRECTORY_UNWRITABLE', directory, () => { accessSync(`${directory}/.`, constants.W_OK | constants.X_OK) })
}

function attempt (code: DoormanErrorCode, path: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    throw doormanError(code, [path, (error as NodeJS.ErrnoException).code], error)
  }
}
