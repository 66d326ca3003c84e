/**
 * Cursors: a position in a list as opaque text. Bound to the list they came from and protected by a checksum, so that a
 * cut, mistyped or foreign one is noticed; one that was made up still has to look like a position of its list, so that a
 * database is only asked for what it may be asked. Not a secret and not signed: a forged position only skips or repeats rows that
 * its sender may read anyway, because every filter and every right is applied again on each page.
 */
import { createHash } from 'node:crypto'
import { doormanError } from '../errors.js'
import type { PageKey } from '../storage/storage.js'

const CHECKSUM_BYTES = 6
const MAX_LENGTH = 1024

const isText = (part: unknown) => typeof part === 'string'
const isWhole = (part: unknown) => Number.isSafeInteger(part)
const isWholeOrMissing = (part: unknown) => part === undefined || isWhole(part)

/** What a position is made of, by list: numbers are times or row numbers, texts are ids. Some engines number rows by their time. */
const SHAPES = {
  'own-sessions': [isWhole, isText],
  sessions: [isWhole, isText],
  'ip-logs': [isWhole, isWholeOrMissing],
  activity: [isWhole, isWhole],
  cleanup: [isWhole, isText]
} as const satisfies Record<string, readonly ((part: unknown) => boolean)[]>

/** Every list that is read in pages. */
export type ListName = keyof typeof SHAPES

const checksum = (list: ListName, json: string) => createHash('sha256').update(`${list}\n${json}`).digest().subarray(0, CHECKSUM_BYTES)

/** Writes a position of `list` as text; null stays null. */
export function encodeCursor (list: ListName, key: PageKey | null): string | null {
  if (key === null) return null
  const json = JSON.stringify(key)
  return Buffer.concat([checksum(list, json), Buffer.from(json)]).toString('base64url')
}

/**
 * Reads a cursor of `list`.
 * @throws DOORMAN_CURSOR_INVALID
 */
export function decodeCursor (list: ListName, cursor: string): PageKey {
  const bytes = Buffer.from(cursor.length > MAX_LENGTH ? '' : cursor, 'base64url')
  const json = bytes.subarray(CHECKSUM_BYTES).toString()
  // Written back and compared as text, because the decoder passes over characters that are not base64url.
  if (json === '' || Buffer.concat([checksum(list, json), Buffer.from(json)]).toString('base64url') !== cursor) throw doormanError('DOORMAN_CURSOR_INVALID')
  return parseKey(list, json)
}

function parseKey (list: ListName, json: string): PageKey {
  let key: unknown
  try {
    key = JSON.parse(json)
  } catch (error) {
    throw doormanError('DOORMAN_CURSOR_INVALID', [], error)
  }
  const shape = SHAPES[list]
  if (!Array.isArray(key) || key.length > shape.length || !shape.every((isPart, i) => isPart(key[i]))) throw doormanError('DOORMAN_CURSOR_INVALID')
  return key as PageKey
}
