/** Notices that the clock was set: compares it with one that nobody can set. */
import type { Clock } from './clock.js'

/** How far the two went since the last look, ms. */
export interface Advance { clock: number, monotonic: number }

/**
 * Returns a function that looks at both clocks: null when they agree, how far each went when they do not. Each look starts
 * anew, so a jump is reported once. The first one compares with now.
 * @param monotonic ms since any moment, never set, such as performance.now
 * @param ahead how far the clock may run ahead between two looks, ms
 * @param behind how far it may fall behind, ms
 */
export function watchClock (clock: Clock, monotonic: () => number, ahead: number, behind: number): () => Advance | null {
  let last: Advance = { clock: clock(), monotonic: monotonic() }
  return () => {
    const now = { clock: clock(), monotonic: monotonic() }
    const advance = { clock: now.clock - last.clock, monotonic: now.monotonic - last.monotonic }
    last = now
    const difference = advance.clock - advance.monotonic
    return difference > ahead || difference < -behind ? advance : null
  }
}
