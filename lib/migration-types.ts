/** The two ends of a migration, as `storage/<engine>` provides them: one that is read, one that is written. Types only. */
import type { MigratedRow, MigratedTable } from './migration-tables.js'

/** A range of a table as the source has it now. */
export interface SourceRange {
  range: number
  rows: number
  /**
   * Says whether rows of the range have come or gone, without reading them; null where rows can change in place: then they have to be read. Taken
   * before the rows are, so that a change in between is seen by the next pass.
   */
  fingerprint: string | null
}

/** What is known of a range that the target holds completely, as the source had it when it was read. */
export interface RangeRecord {
  range: number
  rows: number
  /** SHA-256 of the rows' texts in the order of their keys, hexadecimal. */
  checksum: string
  /** Of the source; equals the checksum where the source has none. Empty: to be looked at again. */
  fingerprint: string
  /** True once the range was read back from the target and found the same. */
  verified: boolean
}

/** What a run reads. Nothing is ever written to it. */
export interface MigrationSource {
  /** Tells this database from any other, wherever its files lie; a copy of it has the same. */
  readonly identity: string
  /** The ranges with rows, ascending. */
  ranges (table: MigratedTable): Iterable<SourceRange>
  /** The next rows of a range in the order of their keys, each call as of one moment. */
  rows (table: MigratedTable, range: number, limit: number, after: MigratedRow | null): MigratedRow[]
  /** All rows of a table, of whatever range. */
  count (table: MigratedTable): number
  close (): void
}

/** Rows of one table that change together with what is known of its ranges, in one transaction. Repeating it does no harm. */
export interface TargetChange {
  /** Keys (rows of which only the key counts) that go. */
  remove: MigratedRow[]
  add: MigratedRow[]
  /** Ranges that are complete with this change. */
  complete: RangeRecord[]
  /** Ranges that are empty with this change. */
  gone: number[]
}

/** What a run writes. Its methods reject with errors of the catalogue; DOORMAN_MIGRATION_TAKEN_OVER once another run has begun. */
export interface MigrationTarget {
  /**
   * Takes the target for this run.
   * @returns true when nothing of the source is there yet
   * @throws (rejects) DOORMAN_MIGRATION_TARGET_IN_USE, DOORMAN_MIGRATION_FINISHED
   */
  begin (identity: string, mode: 'copy' | 'verify'): Promise<boolean>
  /** What is known of a table's ranges, ascending. */
  ranges (table: MigratedTable): Promise<RangeRecord[]>
  /** The next rows of the ranges from `from` up to `to`, which is not among them, in the order of their keys. */
  rows (table: MigratedTable, from: number, to: number, limit: number, after: MigratedRow | null): Promise<MigratedRow[]>
  /** All rows of a table, of whatever range. */
  count (table: MigratedTable): Promise<number>
  store (table: MigratedTable, change: TargetChange): Promise<void>
  /** Marks ranges as verified, or, where they were found to differ, to be looked at again. */
  mark (table: MigratedTable, ranges: readonly number[], verified: boolean): Promise<void>
  /** Nothing more will come: from now on services may use the target. */
  finish (): Promise<void>
  close (): Promise<void>
}
