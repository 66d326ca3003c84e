/**
 * Places in the queue that requests under way hold for their rows. One that is held for long is given back: streams and web
 * sockets that stay for hours would use up the queue.
 */
import type { IpLogRow } from '../storage/storage.js'
import type { RowQueue } from './row-queue.js'
import type { Visit } from './visit.js'

/** ms. */
const LONGEST_HOLD = 10_000

export interface HeldPlaces {
  /** Notes that a place was taken for a visit. */
  hold (visit: Visit): void
  /** Uses the place, or gives it back: to the caller. */
  give (visit: Visit): void
  /** Pushes a row on its visit's place, or offers it where there is none any more. */
  store (visit: Visit, row: IpLogRow): void
  /** Gives back what has been held for too long. */
  giveBackOld (now: number): void
}

export function createHeldPlaces (queue: RowQueue<IpLogRow>): HeldPlaces {
  // A list by links, in the order of the visits' beginning, or nearly so. A Set costs ten times as much here.
  let oldest: Visit | null = null
  let newest: Visit | null = null

  function give (visit: Visit) {
    const { older, newer } = visit
    if (older === null) oldest = newer
    else older.newer = newer
    if (newer === null) newest = older
    else newer.older = older
    visit.held = false
    visit.older = visit.newer = null
  }

  return {
    hold (visit) {
      visit.held = true
      visit.older = newest
      if (newest === null) oldest = visit
      else newest.newer = visit
      newest = visit
    },
    give,
    store (visit, row) {
      if (!visit.held) {
        queue.offer(row)
        return
      }
      give(visit)
      queue.push(row)
    },
    giveBackOld (now) {
      // Either way: clocks are set back, too, and one visit of the future would keep the places of all that came after it.
      while (oldest !== null && Math.abs(now - oldest.at) >= LONGEST_HOLD) {
        give(oldest)
        queue.release()
      }
    }
  }
}
