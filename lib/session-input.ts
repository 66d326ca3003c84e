/** What callers of the session service hand in, checked and brought into the form that is stored. */
import { doormanError, show } from '../errors.js'
import { normaliseAddress } from './address.js'
import { cleanHeader, escapeJson } from './text.js'

const invalid = (name: string, expected: string, value: unknown) => doormanError('DOORMAN_VALUE_INVALID', [name, expected, show(value)])

const FORBIDDEN = /[\p{Cc}\p{Cs}]/u
const MAX_USER_ID = 255
const MAX_PAGE = 500
// Deep enough for any data of a session; a cycle ends here as well.
const MAX_DEPTH = 32

/** @throws DOORMAN_VALUE_INVALID */
export function readUserId (value: unknown, name = 'userId'): string {
  // Code points are counted only where the length in UTF-16 units leaves a doubt.
  if (typeof value === 'string' && value !== '' && !FORBIDDEN.test(value) &&
    (value.length <= MAX_USER_ID || (value.length <= 2 * MAX_USER_ID && [...value].length <= MAX_USER_ID))) return value
  throw invalid(name, `a string of 1 to ${MAX_USER_ID} characters without control characters`, value)
}

/**
 * An address in canonical form; null stays null.
 * @throws DOORMAN_VALUE_INVALID
 */
export function readIp (value: unknown): string | null {
  return value === null || value === undefined ? null : readAddress(value)
}

/**
 * An address in canonical form.
 * @throws DOORMAN_VALUE_INVALID
 */
export function readAddress (value: unknown): string {
  const address = typeof value === 'string' ? normaliseAddress(value) : null
  if (address === null) throw invalid('ip', 'an IP address', value)
  return address
}

/** @throws DOORMAN_VALUE_INVALID */
export function readUserAgent (value: unknown, limit: number): string | null {
  if (value === null || value === undefined) return null
  if (typeof value !== 'string') throw invalid('userAgent', 'a string', value)
  return cleanHeader(value, limit) || null
}

/** @throws DOORMAN_VALUE_INVALID */
export function readLimit (value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_PAGE) return value
  throw invalid('limit', `an integer from 1 to ${MAX_PAGE}`, value)
}

/** The public id of a session. One that no session has is no error. @throws DOORMAN_VALUE_INVALID */
export function readId (value: unknown): string {
  if (typeof value === 'string') return value
  throw invalid('id', 'the id of a session', value)
}

/** The session that is spared: left out by accident, it would spare none. @throws DOORMAN_VALUE_INVALID */
export function readExceptId (value: unknown): string {
  if (typeof value === 'string' && value !== '') return value
  throw invalid('exceptId', 'the id of a session', value)
}

/** A position in a list of sessions: when one began, and its id. @throws DOORMAN_VALUE_INVALID */
export function readAfter (value: unknown): [number, string] {
  if (Array.isArray(value) && value.length === 2 && Number.isFinite(value[0]) && typeof value[1] === 'string') return [value[0] as number, value[1]]
  throw invalid('after', '"next" of the page before', value)
}

/** @throws DOORMAN_VALUE_INVALID */
export function readGrace (value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw invalid('grace', 'a whole number of milliseconds', value)
}

/**
 * Data of a session as JSON text. Only what JSON can hold is accepted, because anything else would come back changed.
 * @param limit most bytes of the text
 * @throws DOORMAN_VALUE_INVALID naming the place, such as "data.cart.0"
 */
export function readData (value: unknown, limit: number): string {
  if (!isPlainObject(value)) throw invalid('data', 'a plain object', value)
  checkJson(value, 'data', 0)
  const text = escapeJson(JSON.stringify(value))
  const bytes = Buffer.byteLength(text)
  if (bytes > limit) throw doormanError('DOORMAN_VALUE_INVALID', ['data', `at most ${limit} bytes as JSON`, `${bytes} bytes`])
  return text
}

function checkJson (value: unknown, path: string, depth: number): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return
  if (depth >= MAX_DEPTH) throw invalid(path, `nested at most ${MAX_DEPTH} levels deep`, value)
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) checkJson(value[i], `${path}.${i}`, depth + 1)
    return
  }
  if (!isPlainObject(value)) throw invalid(path, 'JSON (text, finite numbers, booleans, null, arrays, plain objects)', value)
  for (const [key, item] of Object.entries(value)) {
    // These keys mean nothing to JSON, but change every object once a careless merge copies them.
    if (key === '__proto__' || (key === 'constructor' && typeof item === 'object')) throw invalid(path, `without a key "${key}"`, value)
    // A property that is undefined is one that is absent, as JSON has it.
    if (item !== undefined) checkJson(item, `${path}.${key}`, depth + 1)
  }
}

function isPlainObject (value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype = Object.getPrototypeOf(value) as unknown
  return prototype === Object.prototype || prototype === null
}
