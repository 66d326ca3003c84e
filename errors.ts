/**
 * The catalogue of every error the suite raises: key = code, with the HTTP status it maps to and a message that says
 * what to do. `docs/errors.md` lists the same codes; a test holds the two equal. Callers test `error.code`, never text.
 *
 * Messages are printf-style (see @fastify/error). They never contain SQL, file contents, tokens or keys.
 */
import createError, { type FastifyErrorConstructor } from '@fastify/error'
import { hideTokens } from './lib/token.js'

/** Every code of the catalogue. */
export type DoormanErrorCode = keyof typeof catalogue

const catalogue = {
  // Options and wiring: raised at boot, never during a request.
  DOORMAN_OPTION_INVALID: [500, 'Option "%s" must be %s; got %s'],
  DOORMAN_OPTION_UNKNOWN: [500, 'Unknown option "%s"%s'],
  DOORMAN_CONFIG_INVALID: [500, '%s must be %s; got %s'],
  DOORMAN_ALREADY_REGISTERED: [500, 'Plugin "%s" is already registered on this Fastify instance: register it once, or on a separate instance'],
  DOORMAN_DATABASE_URL_INVALID: [500, 'The database URL must be %s; got %s'],

  // Opening a database: raised at boot, each says what to do.
  DOORMAN_SQLITE_TOO_OLD: [500, 'SQLite %s can corrupt a WAL database used by several connections: 3.51.3 or newer is needed (better-sqlite3 >= 12.8.0)'],
  DOORMAN_SQLITE_DUPLICATE: [500, 'This process has loaded more than one SQLite library (%s): two copies silently lose rows. Keep one copy of better-sqlite3 (npm ls better-sqlite3; npm dedupe)'],
  DOORMAN_SQLITE_MISSING: [500, 'better-sqlite3 could not be loaded: %s. Install it beside fastify-doorman and allow its install script (npm install-scripts approve better-sqlite3, then npm rebuild better-sqlite3)'],
  DOORMAN_FILESYSTEM_UNSUPPORTED: [500, 'The directory %s is on a %s file system: WAL needs shared memory on one host. Use a local disk'],
  DOORMAN_DIRECTORY_UNWRITABLE: [500, 'The directory %s cannot be written (%s): give this process write permission, or choose another path'],
  DOORMAN_DATABASE_UNOPENABLE: [500, 'The database file %s cannot be opened: %s'],
  DOORMAN_NOT_A_DATABASE: [500, 'The file %s is not a SQLite database, or is damaged at its head. It was left untouched: move it away, or restore a backup'],
  DOORMAN_WAL_UNAVAILABLE: [500, 'The database file %s could not be put into WAL mode (journal mode is "%s")'],
  DOORMAN_POSTGRES_MISSING: [500, 'pg could not be loaded: %s. Install it beside fastify-doorman (npm install pg)'],
  DOORMAN_DATABASE_UNREACHABLE: [500, 'The database "%s" on %s cannot be used: %s'],
  DOORMAN_SCHEMA_NEWER: [500, 'The database %s has schema version %d, this release knows up to %d: install a newer fastify-doorman'],
  DOORMAN_SCHEMA_FOREIGN: [500, 'The database %s already has "%s", which is not of this schema: use another database for fastify-doorman, or rename what is in the way'],

  // Storage while running. All map to 503: the request may be tried again.
  DOORMAN_STORAGE_BUSY: [503, 'The database stayed locked for longer than %d ms: try again later'],
  DOORMAN_STORAGE_FULL: [503, 'The database cannot grow: the disk or its quota is full'],
  DOORMAN_STORAGE_IO: [503, 'The database reported an input/output error (%s)'],
  DOORMAN_STORAGE_CORRUPT: [503, 'The database is damaged (%s): stop the service, run "doorman doctor", restore a backup'],
  DOORMAN_STORAGE_READONLY: [503, 'The database is read-only (%s): check the permissions of its file and directory'],
  DOORMAN_STORAGE_FAILED: [503, 'The database operation failed (%s)'],
  DOORMAN_STORAGE_REPLACED: [503, 'The file %s was removed or replaced while it was in use: stop every process on it, put the file back or restore a backup, start again. What is there now was left as it is'],
  DOORMAN_STORAGE_UNAVAILABLE: [503, 'The database cannot be reached (%s): try again later'],
  DOORMAN_STORAGE_CLOSED: [503, 'The database is closed, or closing'],
  DOORMAN_QUEUE_FULL: [503, 'Too many operations wait for the database (limit %d): try again later'],
  DOORMAN_WRITER_DIED: [503, 'The writer thread ended unexpectedly (%s); whether the operation was stored is not known'],
  DOORMAN_COMMIT_UNKNOWN: [503, 'The connection to the database was lost while a change was being stored (%s); whether it was stored is not known'],
  DOORMAN_READER_DIED: [503, 'The reader thread ended unexpectedly (%s)'],
  DOORMAN_CLOSE_INCOMPLETE: [500, 'Closing gave up after %d ms: %d operations were not stored'],

  DOORMAN_UNSUPPORTED: [501, '%s is not available with PostgreSQL: %s'],

  // The host's own statements through fastify.database.
  DOORMAN_SQL_INVALID: [500, 'The statement cannot be used: %s'],
  DOORMAN_SQL_NOT_ALLOWED: [500, 'Statements starting with %s are not allowed here: fastify-doorman owns transactions and connection settings'],
  DOORMAN_CONSTRAINT: [409, 'A constraint of the database refused the change (%s)'],

  // Moving from one database to another.
  DOORMAN_MIGRATION_SOURCE_OLD: [500, 'The database %s cannot be read: it is empty, or of an older release. Start the service on it once with this release'],
  DOORMAN_MIGRATION_SOURCE_IN_USE: [500, 'The file %s is open in another process: stop every process on it before the final run'],
  DOORMAN_MIGRATION_TARGET_IN_USE: [500, 'The target cannot be migrated to: %s'],
  DOORMAN_MIGRATION_TAKEN_OVER: [500, 'Another run of this migration has begun: this one has stopped'],
  DOORMAN_MIGRATION_FINISHED: [500, 'This migration was finished on %s: services may have written to the target since'],
  DOORMAN_MIGRATION_UNFINISHED: [500, 'A migration to the database %s has begun and is not finished: end it (doorman migrate --final), or use another database'],

  // Sessions.
  DOORMAN_SESSION_INVALID: [401, 'No valid session'],
  DOORMAN_SESSION_EXPIRED: [401, 'The session has expired'],
  DOORMAN_SESSION_NOT_FRESH: [403, 'This needs a recent login: authenticate again'],
  DOORMAN_CROSS_SITE: [403, 'The request came from another site'],
  DOORMAN_SESSION_NOT_FOUND: [404, 'No such session'],
  DOORMAN_SESSION_LIMIT: [409, 'This user already has the allowed number of sessions (%d)'],
  DOORMAN_SESSION_UNAVAILABLE: [503, 'Sessions cannot be checked at the moment: try again later'],
  DOORMAN_VALUE_INVALID: [400, '"%s" must be %s; got %s'],

  // Addresses and their log.
  DOORMAN_ADDRESS_BLOCKED: [403, 'Access from this address is not allowed'],
  DOORMAN_BLOCK_NOT_FOUND: [404, 'No such block'],
  DOORMAN_ROW_DELAYED: [503, 'The request could not be logged in time: try again later'],
  DOORMAN_ROW_NOT_STORED: [503, 'The request could not be logged as durably as configured: try again later'],
  DOORMAN_REQUEST_REFUSED: [400, '%s'],

  // The cleanup.
  DOORMAN_CLEANUP_RUNNING: [409, 'Another process is running the cleanup: try again later'],

  // The standalone API.
  DOORMAN_API_KEY_INVALID: [401, 'A valid API key is needed: Authorization: Bearer <key>'],
  DOORMAN_NOT_FOUND: [404, 'No such route'],
  DOORMAN_REQUEST_INVALID: [400, '%s'],
  DOORMAN_CURSOR_INVALID: [400, 'The cursor is not one this server gave'],
  DOORMAN_ROUTE_UNGUARDED: [500, 'Route %s %s does not say who may use it: give it config.access "public", "session" or "apiKey"'],
  DOORMAN_RATE_LIMITED: [429, 'Too many failed attempts: try again in %s'],
  DOORMAN_INTERNAL: [500, 'Internal error']
} as const satisfies Record<string, readonly [status: number, message: string]>

/** What a 503 says in `Retry-After`: by then a lock is usually gone, or a queue has room. */
export const RETRY_AFTER_SECONDS = '1'

/** All codes with status and message template, for documentation and tests. */
export const errorCatalogue: Readonly<Record<DoormanErrorCode, readonly [status: number, message: string]>> = catalogue

const constructors = Object.fromEntries(
  Object.entries(catalogue).map(([code, [status, message]]) => [code, withHeaders(createError(code, message, status), status)])
) as unknown as Record<DoormanErrorCode, FastifyErrorConstructor>

/** Fastify's own error handler sends an error's headers. On the prototype, and not enumerable, so that logs do not repeat them. */
function withHeaders (constructor: FastifyErrorConstructor, status: number): FastifyErrorConstructor {
  if (status === 503) Object.defineProperty(constructor.prototype, 'headers', { value: Object.freeze({ 'retry-after': RETRY_AFTER_SECONDS }) })
  return constructor
}

/** An error of the catalogue. `detail` never reaches a client; it is for logs. */
export interface DoormanError extends Error {
  code: DoormanErrorCode
  statusCode: number
  /** `retry-after`, with status 503. */
  readonly headers?: Readonly<Record<string, string>>
  detail?: string
}

/**
 * Makes an error of the catalogue.
 * @param code a key of the catalogue
 * @param args values for the message's placeholders
 * @param cause the error underneath, kept as `error.cause` (for logs, never for clients)
 */
export function doormanError (code: DoormanErrorCode, args: readonly unknown[] = [], cause?: unknown): DoormanError {
  const error = new constructors[code](...args, ...(cause === undefined ? [] : [{ cause }])) as unknown as DoormanError
  return error
}

/** True for an error of this catalogue, whichever copy of the package made it. */
export function isDoormanError (error: unknown): error is DoormanError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && Object.hasOwn(catalogue, error.code)
}

/**
 * Shows an unexpected value in an error message: short (strings are cut at 60) and on one line. Strings are shown as they
 * are, tokens of sessions excepted, so other secrets (keys, URLs with a password) must not come here.
 */
export function show (value: unknown): string {
  if (typeof value === 'string') {
    const text = hideTokens(value)
    return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text)
  }
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  return String(value)
}
