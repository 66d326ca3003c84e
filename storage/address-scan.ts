/**
 * How every engine finds addresses where no index leads to them: by looking through a table in slices, in the order of time, and changing what
 * was found, so that no step takes long. The SQL is the engine's. `AddressTiers` is the part that goes by age and remembers how far it got.
 */
import type { AddressTarget, SweepParams } from './records.js'

/** A table, and the time it is looked through by. */
export type AddressPass = 'ipLogs' | 'activity' | 'deadLetters' | 'sessionsByCreation' | 'sessionsByUse'

/** Values of the columns a table is looked through by. */
export type ScanPosition = readonly (string | number | Uint8Array)[]

export interface LookParams {
  pass: AddressPass
  /** Rows that hold this address; null: rows with an address that still has its host. */
  address: string | null
  /** Rows from this time on, ms. */
  from: number
  /** Rows before this time, ms. */
  until: number
  /** Only what comes after it. */
  after: ScanPosition | null
  /** Most rows found in one look. */
  limit: number
}

/** What one look found. `after`: where the next one goes on, null where there is nothing more; `reached`: the time of that place, ms. */
export interface Found<Row> { rows: Row[], after: ScanPosition | null, reached: number }

/** What an engine does for this. A look changes nothing, holds no lock, and reads a bounded number of rows. */
export interface AddressScan<Row> {
  look (params: LookParams): Promise<Found<Row>>
  /** Truncates those addresses of the rows that belong to a time before `before`. Returns how many rows it changed. */
  truncate (pass: AddressPass, rows: Row[], before: number): Promise<number>
  /** Takes the address out of the rows, or the rows away where they are nothing without it. Returns how many. */
  erase (pass: AddressPass, rows: Row[], address: string): Promise<number>
  /** Up to which time a pass has truncated, ms; 0 at first. */
  marker (pass: AddressPass): Promise<number>
  setMarker (pass: AddressPass, at: number): Promise<void>
}

/** Later than any time that is stored. */
export const END_OF_TIME = 8.64e15
/** Rows read by one look. */
export const SLICE_ROWS = 10_000
/** Rows found and changed in one step. */
const STEP_ROWS = 1000
/** How far below the marker every run looks again, ms. Rows that are older when they are stored lose the host before that; a row may take this long, the longest lock wait, to be committed. */
const LOOK_AGAIN_MS = 3_600_000

const PASSES: Record<AddressTarget, readonly AddressPass[]> = {
  ipLogAddresses: ['ipLogs'],
  activityAddresses: ['activity'],
  sessionAddresses: ['sessionsByCreation', 'sessionsByUse']
}

/** From which time on a run looks. A marker of the future is that of a clock that was wrong: it counts for nothing. */
export const startOf = (marker: number, now: number): number => marker > now ? 0 : Math.max(0, marker - LOOK_AGAIN_MS)

/** Every row of a pass that holds the address, in steps. */
export async function * holders<Row> (scan: Pick<AddressScan<Row>, 'look'>, pass: AddressPass, address: string): AsyncGenerator<Row[]> {
  let after: ScanPosition | null = null
  do {
    const found: Found<Row> = await scan.look({ pass, address, from: 0, until: END_OF_TIME, after, limit: STEP_ROWS })
    if (found.rows.length > 0) yield found.rows
    after = found.after
  } while (after !== null)
}

/** Takes an address out of a pass. @returns how many rows were changed */
export async function eraseHolders<Row> (scan: AddressScan<Row>, pass: AddressPass, address: string): Promise<number> {
  let erased = 0
  for await (const rows of holders(scan, pass, address)) erased += await scan.erase(pass, rows, address)
  return erased
}

/** Rows of a pass that hold the address, up to `limit`. */
export async function findHolders<Row> (scan: AddressScan<Row>, pass: AddressPass, address: string, limit: number): Promise<Row[]> {
  const all: Row[] = []
  for await (const rows of holders(scan, pass, address)) {
    all.push(...rows)
    if (all.length >= limit) break
  }
  return all.slice(0, limit)
}

/** Where a run is that has not come to the end of a target. */
interface Place { before: number, pass: number, from: number, after: ScanPosition | null }

/** Truncates addresses by age. What it costs depends on the rows that have come of age since the last run, not on how many there are. */
export class AddressTiers<Row> {
  #scan: AddressScan<Row>
  #places = new Map<AddressTarget, Place>()

  constructor (scan: AddressScan<Row>) {
    this.#scan = scan
  }

  /** Up to `limit` rows in one step; fewer than `limit` means that none is left. */
  async sweep (target: AddressTarget, { before, limit, now }: SweepParams): Promise<number> {
    const scan = this.#scan
    const passes = PASSES[target]
    let place = this.#places.get(target)
    // The limits of a run stay, so another one is another run.
    if (place?.before !== before) place = await this.#begin(passes, 0, before, now)
    let changed = 0
    for (let pass = passes[place.pass]; pass !== undefined; pass = passes[place.pass]) {
      const { rows, after, reached } = await scan.look({ pass, address: null, from: place.from, until: before, after: place.after, limit: limit - changed })
      if (rows.length > 0) changed += await scan.truncate(pass, rows, before)
      const done = after === null ? before : reached
      const marker = await scan.marker(pass)
      if (marker < done || marker > now) await scan.setMarker(pass, done)
      if (after === null) place = await this.#begin(passes, place.pass + 1, before, now)
      else place.after = after
      this.#places.set(target, place)
      if (changed >= limit) return changed
    }
    this.#places.delete(target)
    return changed
  }

  async #begin (passes: readonly AddressPass[], pass: number, before: number, now: number): Promise<Place> {
    const name = passes[pass]
    return { before, pass, from: name === undefined ? 0 : startOf(await this.#scan.marker(name), now), after: null }
  }
}
