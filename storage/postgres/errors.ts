/** What the driver throws: which of it passes and is worth another attempt, and what it is called in the catalogue. By SQLSTATE, never by text. */
import { doormanError, isDoormanError, type DoormanError, type DoormanErrorCode } from '../../errors.js'

/** The SQLSTATE of an error that the server sent, or undefined for anything else. Also of a `cause`. */
export function sqlState (error: unknown): string | undefined {
  if (isDoormanError(error)) return sqlState(error.cause)
  if (!(error instanceof Error) || !('code' in error)) return undefined
  // None begins with E, but codes of the system do: EPIPE.
  return typeof error.code === 'string' && /^(?!E)[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined
}

/**
 * A value, or a row, that the schema refuses: the fault is in the row, not in the database. 54: too long for an index, nested too deeply.
 * P0: a trigger of somebody refuses it.
 */
export function isRowFault (error: unknown): boolean {
  return /^(22|23|44|54|P0)/.test(sqlState(error) ?? '')
}

/** How the pool treats a failed attempt. `conflict`: others were in the way; `lost`: no use of this connection any more. */
export type Failure = 'conflict' | 'lost' | 'final'

/** 40: serialization failure, deadlock. 55P03: a lock was not had within lock_timeout. */
const CONFLICT = /^(40001|40P01|40003|55P03)$/
/**
 * 08: connection. 57P01-57P05: the server goes down, crashed, starts, dropped us. 25006: it became a standby. 53300: too many connections.
 */
const LOST = /^(08|57P0|25006|53300)/

/** `readOnly`: a refused change (25006) is then the statement's own fault. */
export function classify (error: unknown, connectionLost: boolean, readOnly: boolean): Failure {
  if (isDoormanError(error)) return 'final'
  const state = sqlState(error)
  if (state === undefined) return connectionLost ? 'lost' : 'final'
  if (CONFLICT.test(state)) return 'conflict'
  if (LOST.test(state) && !(readOnly && state === '25006')) return 'lost'
  // The plan of a prepared statement that the schema has outgrown: a new connection prepares it anew.
  return state === '0A000' && (error as { routine?: string }).routine === 'RevalidateCachedQuery' ? 'lost' : 'final'
}

/** True when the server may have committed although an error came: it went down, or does not know itself. */
export function isUncertain (error: unknown): boolean {
  const state = sqlState(error)
  return state === undefined || /^(08|57P0|40003)/.test(state)
}

const BY_STATE: ReadonlyArray<readonly [pattern: RegExp, code: DoormanErrorCode]> = [
  [/^(22|23|44|54|P0)/, 'DOORMAN_CONSTRAINT'],
  [/^(53100|53400)/, 'DOORMAN_STORAGE_FULL'],
  [/^58/, 'DOORMAN_STORAGE_IO'],
  [/^XX00[12]/, 'DOORMAN_STORAGE_CORRUPT'],
  [/^25006/, 'DOORMAN_STORAGE_READONLY'],
  [/^(08|57P0|53300|28|3D)/, 'DOORMAN_STORAGE_UNAVAILABLE']
]

/**
 * The catalogue's error for anything that an operation threw. Errors of the catalogue pass unchanged.
 * @param wait for how long the operation tried, ms
 * @param lost whether the connection was lost, where the error itself does not say so
 */
export function toDoormanError (error: unknown, wait: number, lost = false): DoormanError {
  if (isDoormanError(error)) return error
  const state = sqlState(error)
  const cause = asCause(error)
  if (state === undefined) return lost ? doormanError('DOORMAN_STORAGE_UNAVAILABLE', [cause.code ?? cause.message], cause) : doormanError('DOORMAN_SQL_INVALID', [cause.message], cause)
  if (CONFLICT.test(state) || state === '57014') return doormanError('DOORMAN_STORAGE_BUSY', [wait], cause)
  if (/^(42|0A|25001)/.test(state) && state !== '42501') return doormanError('DOORMAN_SQL_INVALID', [cause.message], cause)
  const known = BY_STATE.find(([pattern]) => pattern.test(state))
  return doormanError(known?.[1] ?? 'DOORMAN_STORAGE_FAILED', [cause.constraint ?? state], cause)
}

export interface Cause extends Error { code?: string, constraint?: string }

/** The driver's error without what it says of the row (`detail` has token hashes and whatever a user may have written). */
export function asCause (error: unknown): Cause {
  const { message, code, constraint } = error as Cause
  // What tried several addresses of a host has a code only.
  return Object.assign(new Error(message === '' ? String(code) : message), typeof code === 'string' ? { code } : {}, constraint === undefined ? {} : { constraint })
}
