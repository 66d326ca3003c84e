/**
 * The work of one cleanup run: old rows out in small batches with a pause between them, so that other writers get in; then
 * free pages back to the file system. Ends early, without harm, when its time is over or it is told to stop.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isAddressTarget, SWEEP_TARGETS, type Storage, type SweepTarget } from '../storage/storage.js'

/** How long each kind of row is kept, ms. */
export interface Retention {
  /** Sessions not used for this long end. */
  sessionIdle: number
  tombstones: number
  devices: number
  ipLogs: number
  activity: number
  deadLetters: number
  /** The cleanup's own history. */
  history: number
  /** Age at which addresses lose their host; null: never. */
  fullAddresses: number | null
}

export type Cutoffs = Record<SweepTarget, number>

/** The limit of what is off: nothing is older. */
const NEVER = 0

/** The limits of a run that started at `now`; they do not move while it lasts. */
export function cutoffs (retention: Retention, now: number): Cutoffs {
  const { fullAddresses } = retention
  const truncated = fullAddresses === null ? NEVER : now - fullAddresses
  return {
    sessionsIdle: now - retention.sessionIdle,
    sessionsExpired: now,
    sessionTombstones: now - retention.tombstones,
    sessionDevices: now - retention.devices,
    ipLogs: now - retention.ipLogs,
    activity: now - retention.activity,
    // They are kept for somebody to look at, and hold addresses in full.
    deadLetters: Math.max(now - retention.deadLetters, truncated),
    blocks: now,
    cleanupRuns: now - retention.history,
    // What only the rows of the IP log refer to, so never younger than those.
    logInternals: now - retention.ipLogs,
    ipLogAddresses: truncated,
    activityAddresses: truncated,
    sessionAddresses: truncated
  }
}

export function nothingRemoved (): Record<SweepTarget, number> {
  return Object.fromEntries(SWEEP_TARGETS.map(target => [target, 0])) as Record<SweepTarget, number>
}

export interface SweepWork {
  storage: Pick<Storage, 'sweep' | 'maintain'>
  cutoffs: Cutoffs
  now: number
  /** Most rows per batch; fewer where so many take long. */
  batchSize: number
  /** Milliseconds since any moment, never set. */
  monotonic: () => number
  /** Asked before each step. False ends the run: out of time, or stopping; a rejection fails it. */
  goOn (): Promise<boolean>
  /** Kept from run to run. */
  place: SweepPlace
  random: () => number
}

/**
 * The kind of row at which the last run was cut short or failed, null when it got through all of them. The next run starts after
 * it and comes to it last: a kind with more old rows than one run can remove must not keep the others waiting for ever.
 */
export interface SweepPlace { stoppedAt: SweepTarget | null }

/** Counters that are filled while the run goes on, so that a failed run still says what it removed. */
export interface SweepOutcome { removed: Record<SweepTarget, number>, freedPages: number, complete: boolean }

/** How long a step may take, ms, as seen from here: lock wait, commit and checkpoint included, since others wait as long. */
const STEP_MS = 10
/** Rows of the first step of each kind. How long a row takes depends on how far apart the indexes have put it, and on the disk. */
const FIRST_BATCH = 250
/** Fewest rows or pages per step: a disk that is always slow must not stop the cleanup. */
const LEAST = 25
/** Most pages given back per step. */
const VACUUM_STEP = 200
/** Free pages not worth another step: the next rows fill them. */
const VACUUM_REST = 64
/** Longest pause between two steps, ms: time for other processes, which poll the lock about every millisecond. */
const PAUSE_MAX = 8

/** Does the work; `outcome` is updated after every step. Rejects with the storage's error. */
export async function sweepAll (work: SweepWork, outcome: SweepOutcome): Promise<void> {
  const { place } = work
  const start = SWEEP_TARGETS.findIndex(target => target === place.stoppedAt) + 1
  for (const target of [...SWEEP_TARGETS.slice(start), ...SWEEP_TARGETS.slice(0, start)]) {
    place.stoppedAt = target
    if (!await sweepTarget(work, target, outcome)) return
  }
  place.stoppedAt = null
  outcome.complete = await giveBackPages(work, outcome)
}

/** False when the run had to end before the target was empty. */
async function sweepTarget (work: SweepWork, target: SweepTarget, outcome: SweepOutcome): Promise<boolean> {
  const { storage, cutoffs, now, batchSize } = work
  if (isAddressTarget(target) && cutoffs[target] === NEVER) return true
  const pace = createPace(work, FIRST_BATCH, batchSize)
  while (await work.goOn()) {
    const limit = pace.size
    const count = await pace.step(() => storage.sweep({ target, before: cutoffs[target], limit, now }))
    outcome.removed[target] += count
    if (count < limit) return true
    await pace.rest()
  }
  return false
}

async function giveBackPages (work: SweepWork, outcome: SweepOutcome): Promise<boolean> {
  const pace = createPace(work, VACUUM_STEP, VACUUM_STEP)
  // Statistics are refreshed with the first step: once per run, after the rows are gone.
  let optimize = true
  while (await work.goOn()) {
    const { freedPages, remainingPages } = await pace.step(() => work.storage.maintain({ pages: pace.size, optimize }))
    outcome.freedPages += freedPages
    if (freedPages === 0 || remainingPages <= VACUUM_REST) return true
    optimize = false
    await pace.rest()
  }
  return false
}

/**
 * How much the next step may do: half as much after one that took long, half as much again after a short one. So the bound is one of
 * time, whatever a row costs on this machine, and a cleanup beside busy writers takes less for itself.
 */
function createPace ({ monotonic, random }: SweepWork, first: number, most: number) {
  let size = Math.min(first, most)
  let took = 0
  return {
    get size () { return size },
    async step<T> (action: () => Promise<T>): Promise<T> {
      const start = monotonic()
      const result = await action()
      took = monotonic() - start
      if (took > STEP_MS) size = Math.max(Math.min(LEAST, most), Math.floor(size / 2))
      else if (took < STEP_MS / 2) size = Math.min(most, Math.ceil(size * 1.5))
      return result
    },
    /** About as long as the step took. */
    rest: () => delay(1 + random() * Math.min(PAUSE_MAX - 1, took))
  }
}
