/**
 * How long to wait between whole attempts: exponential with full jitter. Never used while waiting for a lock, where it
 * starves (see docs/architecture.md); only after an attempt has failed for good.
 */

/** First step, ms: about the time a foreign write transaction takes. */
export const BACKOFF_BASE = 50
/** Longest step, ms: how late, at worst, the end of an outage is noticed. */
export const BACKOFF_CAP = 5000

/**
 * The pause before the next attempt.
 * @param attempt how many attempts failed before this one's failure: 0 for the first
 * @param random from 0 (included) to 1 (excluded); full jitter, so that processes that failed together do not return together
 * @returns whole milliseconds from 1 to BACKOFF_CAP
 */
export function backoff (attempt: number, random: () => number): number {
  const ceiling = Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** attempt)
  return Math.max(1, Math.round(random() * ceiling))
}
