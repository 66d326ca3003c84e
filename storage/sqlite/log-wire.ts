/**
 * Log rows on their way to the writer thread: a message of row objects costs the event loop more than everything else about a row.
 * Numbers go into one array, and each distinct text of the batch goes once (most rows share methods, paths, agents), all in one string:
 * a structured clone copies that in a tenth of the time.
 */
import { IP_LOG_OUTCOMES } from '../../lib/vocabulary.js'
import type { IpLogRow, LogBatch, LogRow } from '../storage.js'
import { encodeSource, hopsOf, isHops, sourceOf } from './source-code.js'

/** Rows as they cross. */
export interface PackedRows {
  /** FIELDS numbers per request, in the order of `FIELD`; texts by their position in `texts`, -1 for null. */
  numbers: Float64Array
  /** As one string, divided by NUL, which crosses faster than many. As a list where one of them holds that character. */
  texts: string | string[]
  /** Rows of other kinds, and those that do not have the usual form: as they are. */
  others: LogRow[]
  /** Where in the batch each of them was. */
  positions: number[]
}

/** A batch as it crosses. */
export interface PackedBatch extends Omit<LogBatch, 'rows'> { rows: PackedRows }

/** Where in a row's numbers each column is. `ipSource` holds the trusted hops as well (source-code.ts). */
export const FIELD = {
  at: 0, ip: 1, ipSource: 2, peerIp: 3, peerPort: 4, method: 5, path: 6, route: 7, status: 8, durationUs: 9, userAgent: 10, referer: 11, sessionId: 12, userId: 13, requestId: 14, outcome: 15
} as const
export const FIELDS = 16
const DIVIDER = '\0'

/** How many rows there are. */
export const countRows = ({ numbers, others }: PackedRows): number => numbers.length / FIELDS + others.length

/** The texts as a list. */
export const textsOf = ({ texts }: PackedRows): string[] => typeof texts === 'string' ? texts.split(DIVIDER) : texts

export function packRows (rows: readonly LogRow[]): PackedRows {
  const numbers = new Float64Array(rows.length * FIELDS)
  const texts: string[] = []
  const known = new Map<string, number>()
  const others: LogRow[] = []
  const positions: number[] = []
  let at = 0

  let last: IpLogRow | undefined

  function ref (text: string | null): number {
    if (text === null) return -1
    let index = known.get(text)
    if (index === undefined) known.set(text, index = texts.push(text) - 1)
    return index
  }

  /** Much of a row is as in the one packed before, and to see that costs less than to look it up. */
  function again (field: number, text: string | null, before: string | null | undefined): number {
    return at > 0 && text === before ? numbers[at - FIELDS + field]! : ref(text)
  }

  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!
    if (row.kind !== 'ip' || row.idempotencyKey !== undefined || !isUsual(row)) {
      others.push(row)
      positions.push(i)
      continue
    }
    numbers[at + FIELD.at] = row.at
    numbers[at + FIELD.ip] = again(FIELD.ip, row.ip, last?.ip)
    numbers[at + FIELD.ipSource] = encodeSource(row)
    numbers[at + FIELD.peerIp] = again(FIELD.peerIp, row.peerIp, last?.peerIp)
    numbers[at + FIELD.peerPort] = row.peerPort ?? -1
    numbers[at + FIELD.method] = again(FIELD.method, row.method, last?.method)
    numbers[at + FIELD.path] = again(FIELD.path, row.path, last?.path)
    numbers[at + FIELD.route] = again(FIELD.route, row.route, last?.route)
    numbers[at + FIELD.status] = row.status
    numbers[at + FIELD.durationUs] = row.durationUs
    numbers[at + FIELD.userAgent] = again(FIELD.userAgent, row.userAgent, last?.userAgent)
    numbers[at + FIELD.referer] = again(FIELD.referer, row.referer, last?.referer)
    numbers[at + FIELD.sessionId] = again(FIELD.sessionId, row.sessionId, last?.sessionId)
    numbers[at + FIELD.userId] = again(FIELD.userId, row.userId, last?.userId)
    // Nearly always one of its own: not worth remembering.
    numbers[at + FIELD.requestId] = row.requestId === null ? -1 : texts.push(row.requestId) - 1
    numbers[at + FIELD.outcome] = IP_LOG_OUTCOMES.indexOf(row.outcome)
    at += FIELDS
    last = row
  }
  return { numbers: at === numbers.length ? numbers : numbers.slice(0, at), texts: texts.every(isPlain) ? texts.join(DIVIDER) : texts, others, positions }
}

/** What our own hooks store is text without control characters; what a host puts into the queue may be anything. */
const isPlain = (text: unknown) => typeof text === 'string' && !text.includes(DIVIDER)

/** What a number in an array could not hold goes as it is, and is refused where rows are refused: in the database. */
function isUsual ({ at, status, durationUs, peerPort, trustedHops }: IpLogRow): boolean {
  return Number.isSafeInteger(at) && Number.isSafeInteger(status) && Number.isSafeInteger(durationUs) && (peerPort === null || peerPort >= 0) && isHops(trustedHops)
}

export function unpackRows (packed: PackedRows): LogRow[] {
  const { numbers, others, positions } = packed
  const texts = textsOf(packed)
  const rows: LogRow[] = []
  const text = (index: number) => index === -1 ? null : texts[index]!
  let next = 0
  for (let at = 0; at < numbers.length || next < others.length;) {
    if (positions[next] === rows.length) {
      rows.push(others[next++]!)
      continue
    }
    rows.push({
      kind: 'ip',
      at: numbers[at + FIELD.at]!,
      ip: text(numbers[at + FIELD.ip]!),
      ipSource: sourceOf(numbers[at + FIELD.ipSource]!),
      peerIp: text(numbers[at + FIELD.peerIp]!),
      peerPort: numbers[at + FIELD.peerPort] === -1 ? null : numbers[at + FIELD.peerPort]!,
      trustedHops: hopsOf(numbers[at + FIELD.ipSource]!),
      method: text(numbers[at + FIELD.method]!) as string,
      path: text(numbers[at + FIELD.path]!) as string,
      route: text(numbers[at + FIELD.route]!),
      status: numbers[at + FIELD.status]!,
      durationUs: numbers[at + FIELD.durationUs]!,
      userAgent: text(numbers[at + FIELD.userAgent]!),
      referer: text(numbers[at + FIELD.referer]!),
      sessionId: text(numbers[at + FIELD.sessionId]!),
      userId: text(numbers[at + FIELD.userId]!),
      requestId: text(numbers[at + FIELD.requestId]!),
      outcome: IP_LOG_OUTCOMES[numbers[at + FIELD.outcome]!]!
    })
    at += FIELDS
  }
  return rows
}
