/** The right to run one job, held by one process at a time among those that share a database. */
import { setTimeout as delay } from 'node:timers/promises'
import { doormanError } from '../errors.js'
import type { Storage } from '../storage/storage.js'
import type { Clock } from './clock.js'

export interface LeaseOptions {
  storage: Pick<Storage, 'acquireLease' | 'releaseLease'>
  name: string
  /** Unique among all processes on the database. */
  holder: string
  /** How long the lease of a process that died keeps the others away, ms. */
  ttl: number
  clock: Clock
}

export interface Lease {
  /** True when it was free and the last completed run ended `since` ms ago or earlier. */
  acquire (since: number): Promise<boolean>
  /** Asks again while another process holds it, at most `wait` ms, each time only if `goOn` says so. Ignores earlier runs. */
  waitFor (wait: number, goOn: () => boolean): Promise<boolean>
  /** Renews it when a third of its time is over. Rejects with DOORMAN_CLEANUP_RUNNING when another process has it by now. */
  keep (): Promise<void>
  /** Gives it back. `completed`: the others may count this as their run, too. */
  release (completed: boolean): Promise<void>
}

/** How often `waitFor` asks, ms. */
const POLL = 100
/** No completed run is later than this. */
const ALWAYS = Number.MAX_SAFE_INTEGER

export function createLease ({ storage, name, holder, ttl, clock }: LeaseOptions): Lease {
  let renewAt = 0

  async function take (lastRunBefore: number): Promise<boolean> {
    const now = clock()
    renewAt = now + ttl / 3
    return storage.acquireLease({ name, holder, now, until: now + ttl, lastRunBefore })
  }

  return {
    acquire: since => take(clock() - since),
    async waitFor (wait, goOn) {
      for (let waited = 0; goOn(); waited += POLL) {
        if (await take(ALWAYS)) return true
        if (waited >= wait) return false
        await delay(POLL)
      }
      return false
    },
    async keep () {
      // It is lost only to a process that stood still for longer than the lease lasts.
      if (clock() >= renewAt && !await take(ALWAYS)) throw doormanError('DOORMAN_CLEANUP_RUNNING')
    },
    release: completed => storage.releaseLease(name, holder, completed ? clock() : null)
  }
}
