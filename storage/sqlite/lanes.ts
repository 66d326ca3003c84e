/** The lanes in which changes of one file wait, and what of them goes into one transaction. */
import type { LaneName } from '../storage.js'
import type { Connection } from './connection.js'

export const LANES: readonly LaneName[] = ['interactive', 'bulk', 'maintenance']

/** One kind of change. `run` happens within a transaction, perhaps twice, and must not keep state of its own that a rollback would invalidate. */
export interface WriteOperation {
  lane: LaneName
  run (connection: Connection, params: never): unknown
  /** Rows it stands for in the statistics; 1 unless given. */
  rows? (params: never): number
  /** Longest wait for the lock, ms, where it is shorter than the writer's. */
  wait? (params: never): number | undefined
  /**
   * Asked when its own statement has ended the whole transaction (a conflict clause or a trigger that says ROLLBACK): true when it knows now
   * what to leave out, and is to run again. It must not say so for ever.
   */
  again? (): boolean
  /** Shares its transaction with nobody (the host's own statements, which may roll it back). */
  alone?: boolean
  /** Runs outside any transaction (checkpoints). Only in the maintenance lane. */
  bare?: boolean
}

/** One that waits for its transaction. */
export interface Waiting { id: number, operation: WriteOperation, params: never, wait: number, deadline: number }

/** What waits in each lane, in the order it came. */
export type Lanes = Record<LaneName, Waiting[]>

/** Operations and rows per transaction: it must stay at some milliseconds, since others wait behind it. */
const INTERACTIVE_PER_TRANSACTION = 500
const BULK_ROWS_PER_TRANSACTION = 2000

/** How many rows an operation stands for. */
export const rowsOf = ({ operation, params }: Waiting): number => operation.rows?.(params) ?? 1

/** What goes into the next transaction, out of the lanes. */
export function take ({ interactive, bulk, maintenance }: Lanes): Waiting[] {
  if (interactive[0]?.operation.alone === true) return interactive.splice(0, 1)
  const alone = interactive.findIndex(({ operation }) => operation.alone)
  const taken = interactive.splice(0, Math.min(alone === -1 ? Infinity : alone, INTERACTIVE_PER_TRANSACTION))
  for (let rows = 0; rows < BULK_ROWS_PER_TRANSACTION && bulk.length > 0;) {
    const [next] = bulk.splice(0, 1) as [Waiting]
    rows += rowsOf(next)
    taken.push(next)
  }
  return taken.length > 0 ? taken : maintenance.splice(0, 1)
}

/** Back to where they were, in their order. */
export function putBack (lanes: Lanes, taken: readonly Waiting[]): void {
  for (let i = taken.length - 1; i >= 0; i--) lanes[taken[i]!.operation.lane].unshift(taken[i]!)
}
