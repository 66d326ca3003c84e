/**
 * Notices that somebody else holds a file's write lock for long (a forgotten transaction, a long import, in any program). Operations wait for it,
 * which is what they are for; but whoever looks after the service must be told, before the first of them gives up.
 */
import type { Connection } from './connection.js'
import type { LockNotice } from './protocol.js'

/** ms, and at most half of what operations wait. Far longer than any transaction of a service. */
const LONG = 5000

export interface LockWatchOptions {
  connection: Connection
  notify (notice: LockNotice): void
  /** Milliseconds, monotonic. */
  now (): number
  /** How long operations wait for the lock, ms. */
  busyTimeout: number
}

export class LockWatch {
  /** Whether it was told, and not yet that it is over. */
  reported = false
  #options: LockWatchOptions
  #long: number
  #since: number | undefined

  constructor (options: LockWatchOptions) {
    this.#options = options
    this.#long = Math.min(LONG, options.busyTimeout / 2)
  }

  /** The lock was asked for, and somebody had it. */
  refused (): void {
    const now = this.#options.now()
    this.#since ??= now
    if (!this.reported && now - this.#since >= this.#long) this.#say(true, now - this.#since)
  }

  /** The lock was had. */
  had (): void {
    if (this.#since === undefined) return
    const waited = this.#options.now() - this.#since
    this.#since = undefined
    if (this.reported) this.#say(false, waited)
  }

  #say (locked: boolean, waitedMs: number): void {
    this.reported = locked
    const { file, path } = this.#options.connection
    this.#options.notify({ state: locked ? 'locked' : 'unlocked', file, path, waitedMs: Math.round(waitedMs) })
  }
}
