/**
 * A bounded queue of rows in front of a store: rows are kept until the store says they are committed. Batches, linger,
 * backpressure, retries with backoff and what is dropped when are decided here, for every engine alike.
 *
 * How it works:
 * - Rows are collected straight into batches (a linked list of arrays of at most `batchSize`), so that pushing is one
 *   array push and sending copies nothing. Batches leave in order, one at a time.
 * - A row waits `linger` for company, counted from the first row that waits, whatever is under way meanwhile; a full batch, or a row
 *   that somebody waits for, does not, but for the rows of this turn of the event loop and of the next ones while each brings more. Few full batches cost the event loop and the store much less than many small ones.
 * - A batch that failed keeps its rows and its number until it succeeds: the store recognises a repetition by it.
 * - Places (`reserve`) are taken before the work whose outcome is the row, so that a row at hand always has room.
 *   A freed place goes to the longest waiter first; while anybody waits, nobody else finds a place.
 */
import { doormanError, isDoormanError, type DoormanErrorCode } from '../errors.js'
import { estimateBytes } from './byte-estimate.js'
import { createRetrier } from './retrier.js'
import type { DropReason, RowQueue, RowQueueOptions, RowQueueStats } from './row-queue-types.js'
import { newBatch, promiseOf, rejectBatch, resolveBatch, type RowBatch } from './row-batch.js'
import { createWaitingLine } from './waiting-line.js'

export type { DropReason, RowQueue, RowQueueOptions, RowQueueStats } from './row-queue-types.js'

/** Errors of a store that has waited, or tried again, for all of its own time. */
const HAS_WAITED: readonly DoormanErrorCode[] = ['DOORMAN_STORAGE_BUSY', 'DOORMAN_STORAGE_UNAVAILABLE', 'DOORMAN_COMMIT_UNKNOWN']

/** Longest that rows somebody waits for are kept for the company of others that keep coming, ms. */
const COMPANY_MS = 1

const endOfTurn = () => new Promise<void>(resolve => { setImmediate(resolve) })

const YES = Promise.resolve(true)
const NO = Promise.resolve(false)
const DONE = Promise.resolve()

/** Makes an empty queue. The caller has checked the options. */
export function createRowQueue<Row> (options: RowQueueOptions<Row>): RowQueue<Row> {
  const { limit, batchSize, linger, wait, commit, monotonic = () => performance.now() } = options
  const line = createWaitingLine(wait)
  const retrier = createRetrier(options)

  // The oldest waiting batch and the one that still takes rows; they may be the same.
  let head: RowBatch<Row> = newBatch()
  let tail = head
  let inFlight: RowBatch<Row> | null = null
  let seq = 0

  let queued = 0
  let reserved = 0
  const totals = { pushed: 0, committed: 0, batches: 0 }
  const dropped: Partial<Record<DropReason, number>> = {}

  // The waiting rows wait for company still, or have done so. Never both.
  let lingering = false
  let due = false
  let draining = false
  let lingerTimer: NodeJS.Timeout | undefined

  let closing: Promise<{ notStored: number }> | null = null
  let finish: (() => void) | null = null
  let closed = false

  const rowsInFlight = () => inFlight === null ? 0 : inFlight.rows.length
  const hasRoom = () => queued + rowsInFlight() + reserved < limit

  // ------------------------------------------------------------ places

  function reserve (): boolean {
    if (closing !== null || !hasRoom()) return false
    reserved++
    return true
  }

  function waitForRoom (): Promise<boolean> {
    if (reserve()) return YES
    return closing !== null || wait === 0 ? NO : line.join()
  }

  function admitWaiting () {
    while (hasRoom() && line.admit()) reserved++
  }

  function release () {
    reserved--
    admitWaiting()
    finishWhenEmpty()
  }

  // ------------------------------------------------------------ rows

  /** Returns the batch the row went into, or null when it came too late. */
  function add (row: Row): RowBatch<Row> | null {
    reserved--
    if (closed) {
      countDropped('close-deadline')
      return null
    }
    if (tail.rows.length === batchSize) tail = tail.next = newBatch()
    tail.rows.push(row)
    totals.pushed++
    queued++
    return tail
  }

  function push (row: Row) {
    if (add(row) !== null) schedule(linger === 0 || queued >= batchSize || closing !== null)
  }

  function pushCommitted (row: Row): Promise<void> {
    const batch = add(row)
    if (batch === null) return Promise.reject(doormanError('DOORMAN_ROW_NOT_STORED'))
    schedule(true)
    return promiseOf(batch, 'answered')
  }

  function offer (row: Row): boolean {
    if (reserve()) {
      push(row)
      return true
    }
    countDropped(closing === null ? 'queue-full' : 'close-deadline')
    return false
  }

  function countDropped (reason: DropReason, rows = 1) {
    dropped[reason] = (dropped[reason] ?? 0) + rows
    options.onDrop?.(reason, rows)
  }

  function flush (): Promise<void> {
    if (queued === 0) return inFlight === null ? DONE : promiseOf(inFlight, 'settled')
    schedule(true)
    return promiseOf(tail, 'settled')
  }

  // ------------------------------------------------------------ sending

  /** Sees to it that waiting rows leave: as soon as the sender is free, or after the linger. */
  function schedule (now: boolean) {
    if (due) return
    if (now) {
      lingering = false
      due = true
      start()
    } else if (!lingering) {
      lingering = true
      if (lingerTimer === undefined) lingerTimer = setTimeout(afterLinger, linger).unref()
      else lingerTimer.refresh()
    }
  }

  /** Does nothing where the rows have left already, in the company of one that could not wait. */
  function afterLinger () {
    if (!lingering) return
    lingering = false
    due = true
    start()
  }

  function start () {
    if (!draining) drain()
  }

  /**
   * Waits for the end of this turn of the event loop, and on while turns bring more rows: requests that are being handled share a batch, so that
   * each costs less of a COMMIT.
   */
  async function company () {
    const until = monotonic() + COMPANY_MS
    for (;;) {
      const before = queued
      await endOfTurn()
      if (queued <= before || queued >= batchSize || monotonic() >= until) return
    }
  }

  async function drain () {
    draining = true
    while (queued > 0 && due) {
      await company()
      if (closed) return
      const batch = inFlight = head
      head = batch.next ?? (tail = newBatch())
      queued -= batch.rows.length
      due = queued > 0
      const number = ++seq
      await retrier.run(() => commit(batch.rows, number), tellWaiters)
      if (closed) return // given up: the rows are accounted for, whatever became of them
      inFlight = null
      totals.committed += batch.rows.length
      totals.batches++
      resolveBatch(batch)
      admitWaiting()
    }
    draining = false
    finishWhenEmpty()
  }

  function * batches (): Generator<RowBatch<Row>> {
    if (inFlight !== null) yield inFlight
    for (let batch: RowBatch<Row> | null = head; batch !== null; batch = batch.next) yield batch
  }

  /**
   * Whoever waits for a commit is told when the store has used up its own time for it, or failed twice in a row: a reply that
   * waits for ever helps nobody. The rows stay, and are stored when it works again.
   */
  function tellWaiters (error: Error, attempts: number) {
    if (attempts < 2 && !(isDoormanError(error) && HAS_WAITED.includes(error.code))) return
    const delayed = doormanError('DOORMAN_ROW_DELAYED', [], error)
    for (const batch of batches()) {
      batch.answered?.reject(delayed)
      batch.answered = null
    }
  }

  // ------------------------------------------------------------ the end

  function close (deadlineMs: number): Promise<{ notStored: number }> {
    if (closing !== null) return closing
    closing = new Promise(resolve => {
      // The only timer that keeps the process alive: it must not end while rows are being stored.
      const deadline = setTimeout(end, deadlineMs)
      finish = end
      function end () {
        clearTimeout(deadline)
        clearTimeout(lingerTimer)
        finish = null
        closed = true
        retrier.giveUp()
        resolve({ notStored: abandon(deadlineMs) })
      }
    })
    line.dismiss()
    retrier.hurry() // what little time is left is used for trying
    if (queued > 0) schedule(true)
    finishWhenEmpty()
    return closing
  }

  /** Places still taken belong to requests still running: their rows are waited for, too. */
  function finishWhenEmpty () {
    if (queued === 0 && inFlight === null && reserved === 0) finish?.()
  }

  /** Gives up what is left; returns how many rows that is. */
  function abandon (deadlineMs: number): number {
    const notStored = queued + rowsInFlight()
    if (notStored === 0) return 0
    countDropped('close-deadline', notStored)
    const error = doormanError('DOORMAN_ROW_NOT_STORED', [], doormanError('DOORMAN_CLOSE_INCOMPLETE', [deadlineMs, notStored], retrier.lastError))
    for (const batch of batches()) rejectBatch(batch, error)
    inFlight = null
    head = tail = newBatch()
    queued = 0
    return notStored
  }

  function stats (): RowQueueStats {
    const { retries, failingSince } = retrier
    let bytes = 0
    for (const { rows } of batches()) bytes += estimateBytes(rows)
    return { queued, inFlight: rowsInFlight(), reserved, bytes, limit, ...totals, retries, dropped: { ...dropped }, healthy: failingSince === null, failingSince }
  }

  return { reserve, waitForRoom, release, push, pushCommitted, offer, countDropped, flush, close, stats }
}
