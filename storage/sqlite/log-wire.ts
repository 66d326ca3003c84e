/**
 * Log rows on their way to the writer thread: a message of row objects costs the event loop more than everything else about a row.
 * Numbers go into one array, and each distinct text of the batch goes once (most rows share methods, paths, agents), which a structured
 * clone copies in a fifth of the time.
 */
import { IP_LOG_OUTCOMES, IP_SOURCES } from '../../lib/vocabulary.js'
import type { IpLogRow, LogBatch, LogRow } from '../storage.js'

/** Rows as they cross. */
export interface PackedRows {
  /** FIELDS numbers per request; texts by their position in `texts`, -1 for null. */
  numbers: Float64Array
  texts: string[]
  /** Rows of other kinds, and those that do not have the usual form: as they are. */
  others: LogRow[]
  /** Where in the batch each of them was. */
  positions: number[]
}

/** A batch as it crosses. */
export interface PackedBatch extends Omit<LogBatch, 'rows'> { rows: PackedRows }

const FIELDS = 16

/** How many rows there are. */
export const countRows = ({ numbers, others }: PackedRows): number => numbers.length / FIELDS + others.length

export function packRows (rows: readonly LogRow[]): PackedRows {
  const numbers = new Float64Array(rows.length * FIELDS)
  const texts: string[] = []
  const known = new Map<string, number>()
  const others: LogRow[] = []
  const positions: number[] = []
  let at = 0

  function ref (text: string | null): number {
    if (text === null) return -1
    let index = known.get(text)
    if (index === undefined) known.set(text, index = texts.push(text) - 1)
    return index
  }

  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!
    if (row.kind !== 'ip' || row.idempotencyKey !== undefined || !isUsual(row)) {
      others.push(row)
      positions.push(i)
      continue
    }
    numbers[at] = row.at
    numbers[at + 1] = ref(row.ip)
    numbers[at + 2] = IP_SOURCES.indexOf(row.ipSource)
    numbers[at + 3] = ref(row.peerIp)
    numbers[at + 4] = row.peerPort ?? -1
    numbers[at + 5] = ref(row.method)
    numbers[at + 6] = ref(row.path)
    numbers[at + 7] = ref(row.route)
    numbers[at + 8] = row.status
    numbers[at + 9] = row.durationUs
    numbers[at + 10] = ref(row.userAgent)
    numbers[at + 11] = ref(row.referer)
    numbers[at + 12] = ref(row.sessionId)
    numbers[at + 13] = ref(row.userId)
    numbers[at + 14] = ref(row.requestId)
    numbers[at + 15] = IP_LOG_OUTCOMES.indexOf(row.outcome)
    at += FIELDS
  }
  return { numbers: at === numbers.length ? numbers : numbers.slice(0, at), texts, others, positions }
}

/** What a number in an array could not hold goes as it is, and is refused where rows are refused: in the database. */
function isUsual ({ at, status, durationUs, peerPort }: IpLogRow): boolean {
  return Number.isSafeInteger(at) && Number.isSafeInteger(status) && Number.isSafeInteger(durationUs) && (peerPort === null || peerPort >= 0)
}

export function unpackRows ({ numbers, texts, others, positions }: PackedRows): LogRow[] {
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
      at: numbers[at]!,
      ip: text(numbers[at + 1]!),
      ipSource: IP_SOURCES[numbers[at + 2]!]!,
      peerIp: text(numbers[at + 3]!),
      peerPort: numbers[at + 4] === -1 ? null : numbers[at + 4]!,
      method: text(numbers[at + 5]!) as string,
      path: text(numbers[at + 6]!) as string,
      route: text(numbers[at + 7]!),
      status: numbers[at + 8]!,
      durationUs: numbers[at + 9]!,
      userAgent: text(numbers[at + 10]!),
      referer: text(numbers[at + 11]!),
      sessionId: text(numbers[at + 12]!),
      userId: text(numbers[at + 13]!),
      requestId: text(numbers[at + 14]!),
      outcome: IP_LOG_OUTCOMES[numbers[at + 15]!]!
    })
    at += FIELDS
  }
  return rows
}
