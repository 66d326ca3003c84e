/** Makes one range of the target what it is in the source: reads both in the order of their keys and changes what differs. */
import { createHash } from 'node:crypto'
import { compareKeys, rangeOf, rowText, type MigratedRow, type MigratedTable } from './migration-tables.js'
import type { MigrationSource, MigrationTarget, RangeRecord, SourceRange, TargetChange } from './migration-types.js'

/** Rows read at once, and about as many as change in one transaction of the target. */
export const BATCH_ROWS = 2000
/** Ranges that are told complete in one transaction, where they have few rows. */
const BATCH_RANGES = 500

type Read = (limit: number, after: MigratedRow | null) => MigratedRow[] | Promise<MigratedRow[]>

/** Rows of a range, batch by batch. */
class RowStream {
  #read: Read
  #rows: MigratedRow[] = []
  #next = 0
  #ended = false

  constructor (read: Read) {
    this.#read = read
  }

  /** True when `fill` has to be awaited before `head` is looked at. */
  get empty (): boolean {
    return this.#next === this.#rows.length && !this.#ended
  }

  async fill (): Promise<void> {
    this.#rows = await this.#read(BATCH_ROWS, this.#rows.at(-1) ?? null)
    this.#next = 0
    this.#ended = this.#rows.length < BATCH_ROWS
  }

  /** The next row; undefined at the end. */
  get head (): MigratedRow | undefined {
    return this.#rows[this.#next]
  }

  shift (): void {
    this.#next++
  }
}

/** Collects changes of one table into transactions of a bearable size. */
export class ChangeWriter {
  #target: MigrationTarget
  #table: MigratedTable
  #change = emptyChange()
  added = 0
  removed = 0

  constructor (target: MigrationTarget, table: MigratedTable) {
    this.#target = target
    this.#table = table
  }

  add (row: MigratedRow): void {
    this.#change.add.push(row)
    this.added++
  }

  remove (row: MigratedRow): void {
    this.#change.remove.push(row)
    this.removed++
  }

  get full (): boolean {
    const { add, remove, complete, gone } = this.#change
    return add.length + remove.length >= BATCH_ROWS || complete.length + gone.length >= BATCH_RANGES
  }

  complete (record: RangeRecord): void {
    this.#change.complete.push(record)
  }

  gone (range: number): void {
    this.#change.gone.push(range)
  }

  async flush (): Promise<void> {
    const change = this.#change
    this.#change = emptyChange()
    if (Object.values(change).some(list => list.length > 0)) await this.#target.store(this.#table, change)
  }
}

const emptyChange = (): TargetChange => ({ remove: [], add: [], complete: [], gone: [] })

export interface RangeSync {
  table: MigratedTable
  source: MigrationSource
  target: MigrationTarget
  writer: ChangeWriter
  /** The target has no row of the range for sure, so it need not be read. */
  fresh: boolean
  onRows (count: number): void
}

/** @param known what was recorded of the range before */
export async function syncRange ({ table, source, target, writer, fresh, onRows }: RangeSync, { range, fingerprint }: SourceRange, known: RangeRecord | undefined): Promise<void> {
  const ours = new RowStream((limit, after) => source.rows(table, range, limit, after))
  const theirs = new RowStream((limit, after) => fresh ? [] : target.rows(table, range, range + 1, limit, after))
  const digest = new RowDigest()
  const changesBefore = writer.added + writer.removed
  for (;;) {
    if (ours.empty) await ours.fill()
    if (theirs.empty) await theirs.fill()
    const { head } = ours
    const other = theirs.head
    if (head === undefined && other === undefined) break
    const order = head === undefined ? 1 : other === undefined ? -1 : compareKeys(table, head, other)
    const text = order <= 0 ? rowText(head!) : ''
    if (order > 0 || (order === 0 && text !== rowText(other!))) writer.remove(other!)
    if (order < 0 || (order === 0 && text !== rowText(other!))) writer.add(head!)
    if (order <= 0) {
      digest.update(text)
      ours.shift()
      if (digest.rows % BATCH_ROWS === 0) onRows(BATCH_ROWS)
    }
    if (order >= 0) theirs.shift()
    if (writer.full) {
      // Should this run end here, the next one has to know that the range has rows, even if the source has none by then.
      writer.complete({ range, rows: 0, checksum: '', fingerprint: '', verified: false })
      await writer.flush()
    }
  }
  onRows(digest.rows % BATCH_ROWS)
  const { rows, checksum } = digest.end()
  if (rows === 0) {
    writer.gone(range)
  } else {
    const verified = known?.verified === true && known.checksum === checksum && writer.added + writer.removed === changesBefore
    writer.complete({ range, rows, checksum, fingerprint: fingerprint ?? checksum, verified })
  }
  if (writer.full) await writer.flush()
}

/** What was read of a range. */
export interface RangeDigest { range: number, rows: number, checksum: string }

/** Reads the target's ranges from `from` up to `to`, which is not among them. Yields those that have rows, ascending. */
export async function * digestRanges (target: MigrationTarget, table: MigratedTable, from: number, to: number): AsyncGenerator<RangeDigest> {
  const stream = new RowStream((limit, after) => target.rows(table, from, to, limit, after))
  let digest = new RowDigest()
  let range = from
  for (;;) {
    if (stream.empty) await stream.fill()
    const { head } = stream
    const next = head === undefined ? to : rangeOf(table, head)
    if (next !== range) {
      if (digest.rows > 0) yield { range, ...digest.end() }
      digest = new RowDigest()
      range = next
    }
    if (head === undefined) return
    digest.update(rowText(head))
    stream.shift()
  }
}

class RowDigest {
  rows = 0
  #hash = createHash('sha256')

  update (text: string): void {
    this.rows++
    this.#hash.update(text).update('\n')
  }

  end (): { rows: number, checksum: string } {
    return { rows: this.rows, checksum: this.#hash.digest('hex') }
  }
}

/** One checksum of a whole table, of those of its ranges in order. */
export function combine (ranges: readonly RangeDigest[]): string {
  const hash = createHash('sha256')
  for (const { range, rows, checksum } of ranges) hash.update(`${range} ${rows} ${checksum}\n`)
  return hash.digest('hex')
}
