/**
 * Carries everything from one database to another while the first is in use: passes that copy what has changed since the pass before, until there
 * is little left, then everything is read back and compared. A last run, with the source at rest, makes it complete.
 *
 * What is done is recorded in the target, by ranges, in the transaction that stores the rows. So a run that was interrupted is simply
 * started again, and a repeated run looks only at the ranges that have changed.
 */
import { ChangeWriter, combine, digestRanges, syncRange, type RangeDigest } from './migration-range.js'
import { MIGRATED_TABLES, type MigratedTable, type MigratedTableName } from './migration-tables.js'
import type { MigrationSource, MigrationTarget, RangeRecord, SourceRange } from './migration-types.js'

/** A source that is written to faster than it is copied would keep passes going for ever. */
export const MAX_PASSES = 10
/** Ranges marked in one transaction. */
const MARK_RANGES = 1000

/** copy: the source is in use, so what it writes from now on is for the next run; final: it is at rest; verify: only read back. */
export type MigrationMode = 'copy' | 'final' | 'verify'

export interface MigrationOptions {
  source: MigrationSource
  target: MigrationTarget
  mode: MigrationMode
  /** Told how far a step is, in rows. */
  onProgress? (progress: MigrationProgress): void
}

export interface MigrationProgress {
  step: 'copy' | 'verify'
  /** From 1. */
  pass: number
  table: MigratedTableName
  done: number
  /** 0 when there is nothing to do. The source may turn out to have more by the time it is read. */
  total: number
}

export interface TableReport {
  table: MigratedTableName
  /** As the source was read. */
  rows: number
  checksum: string
  /** As the target was read back. */
  targetRows: number
  targetChecksum: string
  same: boolean
}

export interface MigrationReport {
  mode: MigrationMode
  passes: number
  /** Rows written to the target, and removed from it because they have changed in the source, or are gone. */
  added: number
  removed: number
  /** Changes of the last pass: about as much is left for the next run, where the source is still written to. */
  lastPass: number
  /** Rows that were read back and compared: all, except in a final run, which leaves out what an earlier run found the same and has not changed since. */
  verified: number
  tables: TableReport[]
  /** Every table is the same on both sides. */
  same: boolean
  /** The target is complete and may be used. */
  finished: boolean
}

/**
 * Runs one migration to its end.
 * @throws (rejects) DOORMAN_MIGRATION_…, and what reading the source or writing the target throws
 */
export async function runMigration ({ source, target, mode, onProgress = () => {} }: MigrationOptions): Promise<MigrationReport> {
  const isNew = await target.begin(source.identity, mode === 'verify' ? 'verify' : 'copy')
  const copied = mode === 'verify' ? NOTHING : await copy(source, target, mode === 'final' ? 1 : MAX_PASSES, isNew, onProgress)
  const { tables, verified } = await verify(mode === 'final' ? source : null, target, copied.passes, onProgress)
  const same = tables.every(table => table.same)
  const finished = same && mode === 'final'
  if (finished) await target.finish()
  return { mode, ...copied, verified, tables, same, finished }
}

const NOTHING = { passes: 0, added: 0, removed: 0, lastPass: 0 }

async function copy (source: MigrationSource, target: MigrationTarget, maxPasses: number, isNew: boolean, onProgress: NonNullable<MigrationOptions['onProgress']>) {
  const sum = { ...NOTHING }
  for (;;) {
    const before = sum.lastPass
    sum.passes++
    const { added, removed } = await onePass(source, target, isNew && sum.passes === 1, progress => { onProgress({ step: 'copy', pass: sum.passes, ...progress }) })
    sum.added += added
    sum.removed += removed
    sum.lastPass = added + removed
    // Passes that no longer get shorter have caught up: the rest is what is written while one runs.
    if (sum.lastPass === 0 || sum.passes >= maxPasses || (sum.passes > 1 && sum.lastPass > before / 2)) return sum
  }
}

/** What is to be done for a table: its ranges that differ from what is recorded, and the records of those. */
interface Plan { table: MigratedTable, ranges: SourceRange[], known: Map<number, RangeRecord> }

async function onePass (source: MigrationSource, target: MigrationTarget, fresh: boolean, onProgress: (progress: Pick<MigrationProgress, 'table' | 'done' | 'total'>) => void) {
  const plans: Plan[] = []
  for (const table of MIGRATED_TABLES) plans.push(await plan(source, target, table))
  const total = plans.reduce((sum, { ranges }) => sum + countRows(ranges), 0)
  let done = 0
  const sum = { added: 0, removed: 0 }
  for (const { table, ranges, known } of plans) {
    const writer = new ChangeWriter(target, table)
    const onRows = (count: number) => {
      done += count
      onProgress({ table: table.name, done, total })
    }
    for (const range of ranges) await syncRange({ table, source, target, writer, fresh, onRows }, range, known.get(range.range))
    await writer.flush()
    sum.added += writer.added
    sum.removed += writer.removed
  }
  return sum
}

async function plan (source: MigrationSource, target: MigrationTarget, table: MigratedTable): Promise<Plan> {
  const known = new Map((await target.ranges(table)).map(record => [record.range, record]))
  const gone = new Set(known.keys())
  const ranges: SourceRange[] = []
  for (const range of source.ranges(table)) {
    gone.delete(range.range)
    if (range.fingerprint === null || range.fingerprint !== known.get(range.range)?.fingerprint) ranges.push(range)
  }
  for (const range of gone) ranges.push({ range, rows: 0, fingerprint: null })
  return { table, ranges, known }
}

/** @param atRest the source, where nothing changes it: then it must have no row that was not read, and what an earlier run found the same is left out */
async function verify (atRest: MigrationSource | null, target: MigrationTarget, pass: number, onProgress: NonNullable<MigrationOptions['onProgress']>) {
  const known: { table: MigratedTable, records: RangeRecord[] }[] = []
  for (const table of MIGRATED_TABLES) known.push({ table, records: await target.ranges(table) })
  const isDue = (record: RangeRecord) => atRest === null || !record.verified
  const total = known.reduce((sum, { records }) => sum + countRows(records.filter(isDue)), 0)
  const tables: TableReport[] = []
  let verified = 0
  for (const { table, records } of known) {
    const found = new Map<number, RangeDigest>()
    for (const [from, to] of spans(records, isDue)) {
      for await (const digest of digestRanges(target, table, from, to)) {
        found.set(digest.range, digest)
        verified += digest.rows
        onProgress({ step: 'verify', pass, table: table.name, done: verified, total })
      }
    }
    const due = records.filter(isDue)
    const isSame = ({ range, checksum }: RangeRecord) => found.get(range)?.checksum === checksum
    await markAll(target, table, due.filter(record => isSame(record) && !record.verified), true)
    await markAll(target, table, due.filter(record => !isSame(record)), false)
    for (const record of records) if (!isDue(record)) found.set(record.range, record)
    const rows = countRows(records)
    const targetRows = await target.count(table)
    const checksum = combine(records)
    const targetChecksum = combine([...found.values()].sort((a, b) => a.range - b.range))
    const all = atRest === null || atRest.count(table) === rows
    tables.push({ table: table.name, rows, checksum, targetRows, targetChecksum, same: all && targetRows === rows && targetChecksum === checksum })
  }
  return { tables, verified }
}

const countRows = (ranges: readonly { rows: number }[]) => ranges.reduce((sum, { rows }) => sum + rows, 0)

/** Ranges that are due and have no other known range between them, so that they are read in one go. */
function spans (records: readonly RangeRecord[], isDue: (record: RangeRecord) => boolean): [from: number, to: number][] {
  const result: [number, number][] = []
  let open = false
  for (const record of records) {
    if (!isDue(record)) open = false
    else if (open) result.at(-1)![1] = record.range + 1
    else open = result.push([record.range, record.range + 1]) > 0
  }
  return result
}

async function markAll (target: MigrationTarget, table: MigratedTable, records: readonly RangeRecord[], verified: boolean): Promise<void> {
  for (let i = 0; i < records.length; i += MARK_RANGES) await target.mark(table, records.slice(i, i + MARK_RANGES).map(({ range }) => range), verified)
}
