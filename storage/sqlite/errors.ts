/** Maps the driver's errors to the catalogue (by code, never by message) and carries errors across threads. */
import { doormanError, isDoormanError, type DoormanError, type DoormanErrorCode } from '../../errors.js'

/** The SQLite result code of a driver error ('SQLITE_BUSY', …), or undefined for anything else. */
export function sqliteCode (error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' && error.code.startsWith('SQLITE_') ? error.code : undefined
}

/**
 * Locks held by somebody else, which pass: worth another BEGIN. SQLITE_LOCKED (a conflict within one connection) is not
 * among them, and SQLITE_BUSY_SNAPSHOT cannot occur, because every write transaction here is BEGIN IMMEDIATE.
 */
export function isLock (error: unknown): boolean {
  const code = sqliteCode(error)
  return code !== undefined && (code === 'SQLITE_BUSY' || code.startsWith('SQLITE_BUSY_') || code === 'SQLITE_PROTOCOL')
}

/** A statement that the schema refuses, or values that cannot be bound: the fault is in the row, not in the database. */
export function isRowFault (error: unknown): boolean {
  const code = sqliteCode(error)
  if (code === undefined) return error instanceof TypeError || error instanceof RangeError
  return code.startsWith('SQLITE_CONSTRAINT') || code === 'SQLITE_MISMATCH' || code === 'SQLITE_TOOBIG' || code === 'SQLITE_RANGE'
}

/** Faults after which nothing of the transaction may be kept: SQLite may have rolled it back already. */
export function isFatalToTransaction (error: unknown): boolean {
  const code = sqliteCode(error)
  return code !== undefined && /^SQLITE_(FULL|IOERR|CORRUPT|NOTADB|READONLY|NOMEM|INTERRUPT|CANTOPEN)/.test(code)
}

const BY_PREFIX: ReadonlyArray<readonly [prefix: string, code: DoormanErrorCode]> = [
  ['SQLITE_FULL', 'DOORMAN_STORAGE_FULL'],
  ['SQLITE_CORRUPT', 'DOORMAN_STORAGE_CORRUPT'],
  ['SQLITE_NOTADB', 'DOORMAN_STORAGE_CORRUPT'],
  ['SQLITE_READONLY', 'DOORMAN_STORAGE_READONLY'],
  ['SQLITE_IOERR', 'DOORMAN_STORAGE_IO'],
  ['SQLITE_CANTOPEN', 'DOORMAN_STORAGE_IO'],
  ['SQLITE_CONSTRAINT', 'DOORMAN_CONSTRAINT']
]

/**
 * The catalogue's error for anything that was thrown while working on a database. Errors of the catalogue pass unchanged.
 * @param file named in the message, where that is for whoever starts the program; messages of requests may reach a client
 */
export function toDoormanError (error: unknown, busyTimeout = 0, file?: string): DoormanError {
  if (isDoormanError(error)) return error
  const code = sqliteCode(error)
  if (code === undefined) {
    // TypeError, RangeError: the driver refuses statement or parameters before SQLite sees them.
    return doormanError('DOORMAN_SQL_INVALID', [error instanceof Error ? error.message : String(error)], error)
  }
  if (isLock(error)) return doormanError('DOORMAN_STORAGE_BUSY', [busyTimeout], error)
  if (code === 'SQLITE_ERROR') return doormanError('DOORMAN_SQL_INVALID', [(error as Error).message], error)
  const known = BY_PREFIX.find(([prefix]) => code.startsWith(prefix))
  return doormanError(known?.[1] ?? 'DOORMAN_STORAGE_FAILED', [file === undefined ? code : `${code}, ${file}`], error)
}

/**
 * An error as plain data. Structured clone would drop `code` from errors, and message and name from better-sqlite3's
 * (which of them depends on the driver's version), so errors cross threads in this form only.
 */
export interface WireError { code: DoormanErrorCode, statusCode: number, message: string, cause: string | undefined }

export function encodeError (error: DoormanError): WireError {
  const cause = error.cause instanceof Error ? `${sqliteCode(error.cause) ?? error.cause.name}: ${error.cause.message}` : undefined
  return { code: error.code, statusCode: error.statusCode, message: error.message, cause }
}

export function decodeError (wire: WireError): DoormanError {
  const error = doormanError(wire.code, [], wire.cause)
  error.message = wire.message
  return error
}
