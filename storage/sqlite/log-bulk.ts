/**
 * Inserts packed log rows as they crossed: many per statement, and each distinct text and address of a batch looked up once. That is half
 * of what row objects and a statement per row cost.
 */
import { encodeAddress } from './address-code.js'
import type { Binding, Connection } from './connection.js'
import { addEntries, type IndexedRow } from './log-index.js'
import { FIELD, FIELDS, textsOf, type PackedRows } from './log-wire.js'
import { offsetOf, type RowIds } from './row-ids.js'
import type { TextDictionary, TextKind } from './text-dictionary.js'

const COLUMNS = ['id', 'at_offset', 'ip', 'ip_source', 'peer_ip', 'peer_port', 'method', 'path_ref', 'route_ref', 'status', 'duration_us',
  'user_agent_ref', 'referer_ref', 'session_ref', 'user_ref', 'request_id', 'outcome']
const ONE_ROW = `(${COLUMNS.map(() => '?').join(', ')})`

const insertRows = (rows: number): string => `INSERT INTO ip_log_rows (${COLUMNS.join(', ')}) VALUES ${Array.from({ length: rows }, () => ONE_ROW).join(', ')}`

/** Beyond some dozens nothing is gained. */
const ROWS_PER_STATEMENT = 25
const INSERT_MANY = insertRows(ROWS_PER_STATEMENT)
export const INSERT_ONE = insertRows(1)

export class BulkInsert {
  #connection: Connection
  #texts: TextDictionary
  #ids: RowIds
  #values: Binding[] = []

  constructor (connection: Connection, texts: TextDictionary, ids: RowIds) {
    this.#connection = connection
    this.#texts = texts
    this.#ids = ids
  }

  /**
   * Inserts all but the `others`. One that is refused ends it, with some of those before it inserted.
   * @param announced rows up to this id are added to the tables of log-index.ts as well
   */
  insert (rows: PackedRows, day: number, announced: number): void {
    const { numbers } = rows
    const texts = textsOf(rows)
    const refs = (kind: TextKind) => this.#refs(kind, texts, day)
    const shared = refs('shared')
    const session = refs('session')
    const user = refs('user')
    const address = addresses(texts)
    const text = (index: number): string | null => index === -1 ? null : texts[index]!
    const count = numbers.length / FIELDS
    const many = count - count % ROWS_PER_STATEMENT
    const values = this.#values
    const late: IndexedRow[] = []
    for (let row = 0; row < count; row++) {
      const from = row * FIELDS
      const at = numbers[from + FIELD.at]!
      const id = this.#ids.next(at)
      const port = numbers[from + FIELD.peerPort]!
      const ip = address(numbers[from + FIELD.ip]!)
      const sessionRef = session(numbers[from + FIELD.sessionId]!)
      const userRef = user(numbers[from + FIELD.userId]!)
      if (id <= announced) late.push({ id, ip, user_ref: userRef, session_ref: sessionRef })
      values.push(id, offsetOf(id, at), ip, numbers[from + FIELD.ipSource]!, address(numbers[from + FIELD.peerIp]!), port === -1 ? null : port,
        text(numbers[from + FIELD.method]!), shared(numbers[from + FIELD.path]!), shared(numbers[from + FIELD.route]!), numbers[from + FIELD.status]!, numbers[from + FIELD.durationUs]!,
        shared(numbers[from + FIELD.userAgent]!), shared(numbers[from + FIELD.referer]!), sessionRef, userRef,
        text(numbers[from + FIELD.requestId]!), numbers[from + FIELD.outcome]!)
      if (row < many && (row + 1) % ROWS_PER_STATEMENT !== 0) continue
      // Emptied before it runs: it may throw.
      this.#connection.run(row < many ? INSERT_MANY : INSERT_ONE, ...values.splice(0))
    }
    addEntries(this.#connection, late)
  }

  /** Numbers of texts by their position in the batch. */
  #refs (kind: TextKind, texts: readonly string[], day: number): (index: number) => number | null {
    const known = new Float64Array(texts.length)
    return index => {
      if (index === -1) return null
      if (known[index] === 0) known[index] = this.#texts.ref(kind, texts[index]!, day)
      return known[index]!
    }
  }
}

/** Addresses as they are stored, by their text's position in the batch. */
function addresses (texts: readonly string[]): (index: number) => Binding {
  const known = new Map<number, Binding>()
  return index => {
    if (index === -1) return null
    let address = known.get(index)
    if (address === undefined) known.set(index, address = encodeAddress(texts[index]!))
    return address
  }
}
