/** Rows that are committed together, a link in the list of those waiting. The promise exists only when somebody waits for it. */

export interface RowBatch<Row> {
  readonly rows: Row[]
  /** The batch that goes after this one. */
  next: RowBatch<Row> | null
  settled: Settled | null
}

interface Settled { promise: Promise<void>, resolve: () => void, reject: (error: Error) => void }

export function newBatch<Row> (): RowBatch<Row> {
  return { rows: [], next: null, settled: null }
}

/** The one promise of a batch: resolved when it is committed, rejected when it is given up. */
export function whenSettled<Row> (batch: RowBatch<Row>): Promise<void> {
  if (batch.settled === null) {
    let resolve!: () => void
    let reject!: (error: Error) => void
    const promise = new Promise<void>((_resolve, _reject) => { resolve = _resolve; reject = _reject })
    // A client that went away leaves nobody to handle the rejection; the rows are counted as dropped all the same.
    promise.catch(() => {})
    batch.settled = { promise, resolve, reject }
  }
  return batch.settled.promise
}
