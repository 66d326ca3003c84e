/**
 * Repeats one attempt until it works: pauses with backoff, says when attempts begin to fail and when they work again.
 * One attempt at a time.
 */
import { backoff } from './backoff.js'
import type { Clock } from './clock.js'

export interface RetrierOptions {
  clock: Clock
  random: () => number
  /** Called once when attempts start failing and once when they work again. */
  onHealth?: ((state: { healthy: boolean, error?: Error }) => void) | undefined
}

export interface Retrier {
  /**
   * Resolves to true when an attempt worked, to false when it was told to give up. Never rejects. `onFailure` learns of every failed
   * attempt, with its number from 1.
   */
  run (attempt: () => Promise<unknown>, onFailure: (error: Error, attempts: number) => void): Promise<boolean>
  /** Ends the present pause: the next attempt follows at once, and pauses are short again. */
  hurry (): void
  /** No attempt follows the present one. */
  giveUp (): void
  /** Attempts after the first one of each run. */
  readonly retries: number
  /** Since when attempts fail, ms since the epoch; null while they work. */
  readonly failingSince: number | null
  /** Why the latest attempt failed; undefined while they work. */
  readonly lastError: Error | undefined
}

export function createRetrier ({ clock, random, onHealth }: RetrierOptions): Retrier {
  let failures = 0
  let retries = 0
  let failingSince: number | null = null
  let lastError: Error | undefined
  let givenUp = false
  let endPause: (() => void) | null = null

  async function run (attempt: () => Promise<unknown>, onFailure: (error: Error, attempts: number) => void): Promise<boolean> {
    failures = 0
    for (let attempts = 1; ; attempts++) {
      try {
        await attempt()
        break
      } catch (error) {
        failed(error as Error)
        onFailure(error as Error, attempts)
      }
      if (!givenUp) await pause(backoff(failures++, random))
      if (givenUp) return false
      retries++
    }
    worked()
    return true
  }

  function worked () {
    if (failingSince === null) return
    failingSince = null
    lastError = undefined
    onHealth?.({ healthy: true })
  }

  function failed (error: Error) {
    lastError = error
    if (failingSince !== null) return
    failingSince = clock()
    onHealth?.({ healthy: false, error })
  }

  /** Its timer does not keep the process alive: whoever waits for the rows to be stored (a close) has one that does. */
  function pause (ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(end, ms).unref()
      endPause = end
      function end () {
        clearTimeout(timer)
        endPause = null
        resolve()
      }
    })
  }

  return {
    run,
    hurry () {
      failures = 0
      endPause?.()
    },
    giveUp () {
      givenUp = true
      endPause?.()
    },
    get retries () { return retries },
    get failingSince () { return failingSince },
    get lastError () { return lastError }
  }
}
