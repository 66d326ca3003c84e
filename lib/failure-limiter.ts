/**
 * Counts failed attempts per client network and says when there were too many. Counts are kept in memory, in windows of
 * fixed length, for a bounded number of networks: one that tries from many addresses costs no more than `capacity` entries.
 */
import type { Clock } from './clock.js'

export interface FailureLimiterOptions {
  /** Failures allowed per window. */
  max: number
  /** Length of a window, ms. */
  window: number
  /** Networks remembered at once; the one that failed first is forgotten first. */
  capacity: number
  clock: Clock
}

export interface FailureLimiter {
  /** Counts a failure. Returns 0, or how long to wait (ms) when this one is over the limit. */
  fail (key: string): number
  /** Networks remembered now. */
  size (): number
}

export function createFailureLimiter ({ max, window, capacity, clock }: FailureLimiterOptions): FailureLimiter {
  const failures = new Map<string, { count: number, until: number }>()
  return {
    fail (key) {
      const now = clock()
      const seen = failures.get(key)
      // A window that ends later than one that begins now is of a clock that was set back since: it would last for as long as that.
      if (seen !== undefined && seen.until > now && seen.until <= now + window) {
        seen.count++
        return seen.count > max ? seen.until - now : 0
      }
      failures.delete(key)
      if (failures.size >= capacity) {
        // A Map keeps insertion order: the first key is the oldest window.
        const [oldest] = failures.keys()
        failures.delete(oldest!)
      }
      failures.set(key, { count: 1, until: now + window })
      return 0
    },
    size: () => failures.size
  }
}
