/**
 * Counts of what comes from many places, each over a sliding window, and which of them are over the limit. In memory, for a bounded
 * number of places: however many there are, each costs a few look-ups, and those seen least recently are forgotten.
 */

/** A count over a sliding window. */
export interface Tally {
  /** Counts one more and returns how many there are in the window. */
  add (now: number, item: string): number
  /** How many there are in the window. */
  count (now: number): number
}

/**
 * How often something happened, from two counts: of the present window, and of the one before as if that had been spread evenly. A
 * window begins with what is counted first, so that a burst after silence is counted exactly.
 */
export function createCount (window: number): Tally {
  let start = -Infinity
  let previous = 0
  let present = 0

  function move (now: number) {
    const age = now - start
    if (age >= 0 && age < window) return
    // Two windows later nothing of it counts any more. A clock that was set back begins anew, rather than count for as long as that.
    const next = age >= window && age < 2 * window
    previous = next ? present : 0
    start = next ? start + window : now
    present = 0
  }

  function count (now: number): number {
    move(now)
    return present + Math.floor(previous * (1 - (now - start) / window))
  }

  return {
    add (now) {
      move(now)
      present++
      return count(now)
    },
    count
  }
}

/**
 * How many different items there were. Remembers the `limit` latest of them, as numbers, so it counts no further than that.
 * @param fingerprint a number for an item; two items that share one count as the same
 */
export function createDistinct (window: number, limit: number, fingerprint: (item: string) => number): Tally {
  // From the item seen longest ago to the latest.
  const seen = new Map<number, number>()

  function count (now: number): number {
    for (const [item, at] of seen) {
      // Either way: clocks are set back, too.
      if (seen.size <= limit && Math.abs(now - at) < window) break
      seen.delete(item)
    }
    return seen.size
  }

  return {
    add (now, item) {
      const key = fingerprint(item)
      seen.delete(key)
      seen.set(key, now)
      return count(now)
    },
    count
  }
}

/** What is known of a place that is over the limit. */
export interface OverLimit<Signal> { signal: Signal, tally: Tally }

export interface Watch<Signal> {
  /**
   * Counts one more at a place.
   * @param address whose it is, for the signal
   * @returns a signal, where the limit is reached and there was none of this place within a window
   */
  add (place: string, now: number, item: string, address: string): Signal | null
  /** Places signalled within the last window, latest first. */
  signalled (now: number): OverLimit<Signal>[]
  /** Places remembered. */
  size (): number
}

export interface WatchOptions<Signal> {
  limit: number
  /** ms */
  window: number
  /** Places below the limit that are remembered at once, an even number; and how many signalled ones besides. */
  capacity: number
  createTally (): Tally
  createSignal (address: string, count: number, now: number): Signal
}

interface Loud<Signal> extends OverLimit<Signal> { at: number }

export function createWatch<Signal> ({ limit, window, capacity, createTally, createSignal }: WatchOptions<Signal>): Watch<Signal> {
  // Below the limit, in two generations: when the young one is full the old one is forgotten whole. To forget one place each time would take longer
  // and longer, since a Map finds its first key by passing over all that were deleted.
  let young = new Map<string, Tally>()
  let old = new Map<string, Tally>()
  // Signalled, from the first to the latest. Kept apart, so that a flood of other places does not make them forgotten.
  const loud = new Map<string, Loud<Signal>>()
  const isRecent = (at: number, now: number) => Math.abs(now - at) < window

  function keep (key: string, tally: Tally): Tally {
    if (young.size >= capacity / 2) {
      old = young
      young = new Map()
    }
    young.set(key, tally)
    return tally
  }

  /** The tally of a place that is in the young generation from now on. */
  function take (key: string): Tally {
    const tally = young.get(key)
    if (tally !== undefined) return tally
    const known = old.get(key) ?? loud.get(key)?.tally
    old.delete(key)
    loud.delete(key)
    return keep(key, known ?? createTally())
  }

  function raise (key: string, signalled: Loud<Signal>) {
    young.delete(key)
    for (const [first, { at }] of loud) {
      if (loud.size < capacity && isRecent(at, signalled.at)) break
      loud.delete(first)
    }
    loud.set(key, signalled)
  }

  return {
    add (key, now, item, address) {
      const signalled = loud.get(key)
      if (signalled !== undefined && isRecent(signalled.at, now)) {
        signalled.tally.add(now, item)
        return null
      }
      const tally = take(key)
      const count = tally.add(now, item)
      if (count < limit) return null
      const signal = createSignal(address, count, now)
      raise(key, { tally, at: now, signal })
      return signal
    },
    signalled: now => [...loud.values()].filter(({ at }) => isRecent(at, now)).reverse(),
    size: () => young.size + old.size + loud.size
  }
}
