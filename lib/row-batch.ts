/** Rows that are committed together, a link in the list of those waiting. Its promises exist only when somebody waits for them. */

export interface RowBatch<Row> {
  readonly rows: Row[]
  /** The batch that goes after this one. */
  next: RowBatch<Row> | null
  /** When it is committed, whenever that is. */
  settled: Settled | null
  /** The same for those who do not wait for ever: rejected once the store is known to be in trouble. */
  answered: Settled | null
}

export function resolveBatch<Row> (batch: RowBatch<Row>): void {
  batch.settled?.resolve()
  batch.answered?.resolve()
}

export function rejectBatch<Row> (batch: RowBatch<Row>, error: Error): void {
  batch.settled?.reject(error)
  batch.answered?.reject(error)
}

interface Settled { promise: Promise<void>, resolve: () => void, reject: (error: Error) => void }

export function newBatch<Row> (): RowBatch<Row> {
  return { rows: [], next: null, settled: null, answered: null }
}

/** One of a batch's two promises: resolved when it is committed, rejected when it is given up (`answered`: perhaps before). */
export function promiseOf<Row> (batch: RowBatch<Row>, which: 'settled' | 'answered'): Promise<void> {
  const known = batch[which]
  if (known === null) {
    let resolve!: () => void
    let reject!: (error: Error) => void
    const promise = new Promise<void>((_resolve, _reject) => { resolve = _resolve; reject = _reject })
    // A client that went away leaves nobody to handle the rejection; the rows are counted as dropped all the same.
    promise.catch(() => {})
    batch[which] = { promise, resolve, reject }
    return promise
  }
  return known.promise
}
