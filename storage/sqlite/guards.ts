/** Checks before anything is opened: what would corrupt, lose or lock later is refused at the start, with what to do. */
import Database from 'better-sqlite3'
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

/** The version of SQLite; also proves that the native part can be loaded. @throws DOORMAN_SQLITE_MISSING */
export function sqliteVersion (open: () => Database.Database = () => new Database(':memory:')): string {
  let db: Database.Database
  try {
    db = open()
  } catch (error) {
    throw doormanError('DOORMAN_SQLITE_MISSING', [(error as Error).message.split('\n', 1)[0]], error)
  }
  const { version } = db.prepare('SELECT sqlite_version() AS version').get() as { version: string }
  db.close()
  return version
}

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
 * Creates the directories of the database files if they are missing, and checks that files can be created there and the files, where they
 * exist, written. Then creates the files that are missing, for this user only: they will hold personal data. Nothing is read: closing a
 * file that this process has open already would drop its locks.
 * @throws DOORMAN_DIRECTORY_UNWRITABLE, DOORMAN_FILESYSTEM_UNSUPPORTED, DOORMAN_DATABASE_UNOPENABLE
 */
export function prepareLocation (...files: string[]): void {
  const missing = files.filter(file => {
    const directory = dirname(file)
    attempt('DOORMAN_DIRECTORY_UNWRITABLE', directory, () => { mkdirSync(directory, { recursive: true, mode: 0o700 }) })
    assertWritableDirectory(directory)
    assertFileSystem(directory, statfsSync(directory).type)
    assertWholeSet(file)
    return !assertUsable(file)
  })
  // Before any connection to it exists. -wal and -shm take the same mode.
  for (const file of missing) attempt('DOORMAN_DATABASE_UNOPENABLE', file, () => { closeSync(openSync(file, 'a', 0o600)) })
}

/** False when there is no such file. */
function assertUsable (file: string): boolean {
  const stat = statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) return false
  if (!stat.isFile()) throw doormanError('DOORMAN_DATABASE_UNOPENABLE', [file, stat.isDirectory() ? 'it is a directory; name a file' : 'it is not a regular file'])
  attempt('DOORMAN_DATABASE_UNOPENABLE', file, () => { accessSync(file, constants.R_OK | constants.W_OK) }, ': this process must be allowed to read and write it')
  return true
}

/**
 * What a crash leaves behind belongs together. SQLite takes it as it comes: it would delete the WAL of a file that is gone, and do without a WAL
 * that is gone, and in both cases nobody would learn that committed data is missing.
 */
function assertWholeSet (file: string): void {
  const size = (path: string) => statSync(path, { throwIfNoEntry: false })?.size
  const refuse = (reason: string) => doormanError('DOORMAN_DATABASE_UNOPENABLE', [file, reason])
  // The order matters beside a process that opens or closes the file: the WAL comes after the file's first page, and goes after the index.
  const wal = size(`${file}-wal`)
  if (wal !== undefined) {
    if (wal > 0 && (size(file) ?? 0) === 0) throw refuse('it is missing or empty, but its -wal holds data. Put the file back; or, to begin anew, move the -wal and -shm files away')
  } else if (size(`${file}-shm`) !== undefined && size(`${file}-wal`) === undefined && size(`${file}-shm`) !== undefined) {
    throw refuse('its -wal is missing, though it was not closed (its -shm is there). Put the -wal back; or, to go on without the last commits, remove the -shm')
  }
}

/** @throws DOORMAN_DIRECTORY_UNWRITABLE also for one that does not exist, or is something else */
export function assertWritableDirectory (directory: string): void {
  attempt('DOORMAN_DIRECTORY_UNWRITABLE', directory, () => { accessSync(`${directory}/.`, constants.W_OK | constants.X_OK) })
}

function attempt (code: DoormanErrorCode, path: string, action: () => void, advice = ''): void {
  try {
    action()
  } catch (error) {
    throw doormanError(code, [path, `${(error as NodeJS.ErrnoException).code}${advice}`], error)
  }
}
