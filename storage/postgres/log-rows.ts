/**
 * Rows of the log on their way to the server: checked by type, and turned into one array per column, in the protocol's binary form. That costs
 * here what text would cost, but spares the server a fifth of the whole insert. What a row holds beyond its types is judged by the server,
 * which is what a schema is for.
 */
import { MAX_TRUSTED_HOPS, type ActivityRow, type IpLogRow, type LogRow } from '../storage.js'

type Kind = 'text' | 'text?' | 'integer' | 'integer?' | 'hops' | 'bigint' | 'time'
type SqlType = 'text' | 'integer' | 'bigint'

/** A column: its name, its type in SQL, the property it comes from. */
interface Column<Row> { name: string, type: SqlType, property: keyof Row & string, kind: Kind }

const text = <Row>(name: string, property: keyof Row & string, kind: Kind = 'text'): Column<Row> => ({ name, type: 'text', property, kind })
const number = <Row>(name: string, property: keyof Row & string, type: SqlType, kind: Kind): Column<Row> => ({ name, type, property, kind })

export const IP_COLUMNS: readonly Column<IpLogRow>[] = [
  number('at', 'at', 'bigint', 'time'),
  number('duration_us', 'durationUs', 'bigint', 'bigint'),
  number('peer_port', 'peerPort', 'integer', 'integer?'),
  number('status', 'status', 'integer', 'integer'),
  number('trusted_hops', 'trustedHops', 'integer', 'hops'),
  text('ip', 'ip', 'text?'),
  text('ip_source', 'ipSource'),
  text('peer_ip', 'peerIp', 'text?'),
  text('method', 'method'),
  text('path', 'path'),
  text('route', 'route', 'text?'),
  text('user_agent', 'userAgent', 'text?'),
  text('referer', 'referer', 'text?'),
  text('session_id', 'sessionId', 'text?'),
  text('user_id', 'userId', 'text?'),
  text('request_id', 'requestId', 'text?'),
  text('outcome', 'outcome')
]

export const ACTIVITY_COLUMNS: readonly Column<ActivityRow>[] = [
  number('at', 'at', 'bigint', 'time'),
  text('user_id', 'userId'),
  text('session_id', 'sessionId', 'text?'),
  text('action', 'action'),
  text('ip', 'ip', 'text?'),
  text('detail', 'detail', 'text?')
]

/** The idempotency key, which goes beside the columns of an IP row. */
export const KEY_COLUMN: Column<IpLogRow> = text('key', 'idempotencyKey', 'text?')

/** The year 10000: days have names with four digits for the year. */
const LATEST = Date.UTC(10_000, 0)

const isInt4 = (value: unknown) => Number.isInteger(value) && Math.abs(value as number) < 2 ** 31

const CHECKS: Record<Kind, readonly [accepts: (value: unknown) => boolean, expected: string]> = {
  text: [value => typeof value === 'string', 'a string'],
  'text?': [value => value === null || typeof value === 'string', 'a string or null'],
  integer: [isInt4, 'an integer'],
  'integer?': [value => value === null || isInt4(value), 'an integer or null'],
  hops: [value => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TRUSTED_HOPS, `an integer from 0 to ${MAX_TRUSTED_HOPS}`],
  bigint: [value => Number.isSafeInteger(value), 'an integer'],
  time: [value => Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < LATEST, 'ms since the epoch, before the year 10000']
}

/** Why a row cannot be sent, or undefined where it can. */
export function faultOf (row: LogRow): string | undefined {
  return row.kind === 'activity' ? faultIn(row, ACTIVITY_COLUMNS) : faultIn(row, IP_COLUMNS)
}

function faultIn<Row extends object> (row: Row, columns: readonly Column<Row>[]): string | undefined {
  for (const { property, kind } of columns) {
    const [accepts, expected] = CHECKS[kind]
    if (!accepts(row[property])) return `INVALID_VALUE: ${property} must be ${expected}`
  }
}

/** Numbers of the types in the server's catalogue, the same in every one. */
const TYPE_IDS: Record<SqlType, number> = { text: 25, integer: 23, bigint: 20 }
/** Dimensions, whether there is a NULL, type, length, first index. */
const HEAD_BYTES = 20
/** A length, and a number or the most that a character of a string takes in UTF-8. */
const LENGTH_BYTES = 4
const NUMBER_BYTES = 8
const CHARACTER_BYTES = 3
const NULL_LENGTH = -1

/** The values of a column as an SQL array. A property that is missing is NULL. */
export function arrayOf<Row> (rows: readonly Row[], { property, type }: Column<Row>): Buffer {
  let size = HEAD_BYTES
  for (const row of rows) {
    const value = row[property]
    size += LENGTH_BYTES + (typeof value === 'string' ? value.length * CHARACTER_BYTES : NUMBER_BYTES)
  }
  const bytes = Buffer.allocUnsafe(size)
  let end = HEAD_BYTES
  for (const row of rows) {
    const value = row[property] as string | number | null | undefined
    const from = end + LENGTH_BYTES
    let length = NULL_LENGTH
    if (typeof value === 'string') {
      length = bytes.write(value, from)
    } else if (typeof value === 'number') {
      length = type === 'integer' ? bytes.writeInt32BE(value, from) - from : writeInt64(bytes, value, from)
    }
    bytes.writeInt32BE(length, end)
    end = from + Math.max(0, length)
  }
  for (const [i, word] of [1, 1, TYPE_IDS[type], rows.length, 1].entries()) bytes.writeInt32BE(word, i * 4)
  return bytes.subarray(0, end)
}

/** In two halves, which takes no BigInt. @returns the bytes written */
function writeInt64 (bytes: Buffer, value: number, from: number): number {
  bytes.writeInt32BE(Math.floor(value / 2 ** 32), from)
  return bytes.writeUInt32BE(value >>> 0, from + 4) - from
}
