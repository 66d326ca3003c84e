/**
 * Watches one file's WAL. A reader that stays on an old snapshot (a forgotten transaction, a long query, in any process) keeps the WAL from
 * being copied back, and it grows for as long as that reader stays. Nobody is stopped by it, but somebody must be told.
 */
import type { Connection } from './connection.js'
import type { Notice } from './protocol.js'

/** Frames that wait to be copied back before it is said: 80 MB with pages of 4 kB, 20 times what an autocheckpoint leaves. */
const LIMIT = 20_000
/** A probe costs some microseconds. */
const COMMITS_PER_PROBE = 100
const RECHECK_MS = 1000

export interface WalWatchOptions {
  connection: Connection
  notify (notice: Notice): void
  limit?: number | undefined
  recheckMs?: number
}

export class WalWatch {
  #connection: Connection
  #notify: WalWatchOptions['notify']
  #limit: number
  #recheckMs: number
  #commits = 0
  #timer: NodeJS.Timeout | undefined

  constructor ({ connection, notify, limit = LIMIT, recheckMs = RECHECK_MS }: WalWatchOptions) {
    this.#connection = connection
    this.#notify = notify
    this.#limit = limit
    this.#recheckMs = recheckMs
  }

  /** To be called after each commit. */
  committed (): void {
    if (this.#timer !== undefined || ++this.#commits % COMMITS_PER_PROBE !== 0) return
    const backlog = this.#backlog('NOOP')
    if (backlog < this.#limit) return
    this.#say(backlog, true)
    this.#timer = setInterval(this.#recheck, this.#recheckMs)
    this.#timer.unref()
  }

  stop (): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** PASSIVE copies back what it may and waits for nobody: the reader may be gone while nothing is written any more. */
  #recheck = (): void => {
    const backlog = this.#backlog('PASSIVE')
    if (backlog >= this.#limit / 2) return
    this.stop()
    this.#say(backlog, false)
  }

  #backlog (mode: 'NOOP' | 'PASSIVE'): number {
    const [{ log, checkpointed }] = this.#connection.db.pragma(`wal_checkpoint(${mode})`) as [{ log: number, checkpointed: number }]
    return log - checkpointed
  }

  #say (walBacklog: number, stuck: boolean): void {
    this.#notify({ file: this.#connection.file, walBacklog, stuck })
  }
}
