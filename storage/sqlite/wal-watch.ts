/**
 * Watches one file's WAL. A reader that stays on an old snapshot (a forgotten transaction, a long query, in any process) keeps the WAL from
 * being copied back, and it grows for as long as that reader stays. Nobody is stopped by it, but somebody must be told; and once the reader
 * is gone the file is cut, also when nothing is written any more.
 *
 * SQLite does not tell who reads since when. What it tells are two numbers: frames in the WAL, and frames copied back. A WAL of 2000 frames is
 * copied back after each commit as far as no reader needs it, so frames left over are needed by somebody, and for as long as their first one
 * stays the same, somebody has been reading for at least that long.
 *
 * It is copied back here and not within COMMIT, as SQLite would by itself, so that nobody's answer waits for the sync of the file. A WAL that
 * has grown large is left to a thread beside the writer (copy-back.ts), until little of it is left.
 */
import { cutWal, stopAutocheckpoint, walState, type WalState } from './checkpoint.js'
import { JOURNAL_SIZE_LIMIT, WAL_AUTOCHECKPOINT, type Connection } from './connection.js'
import { CopyBack } from './copy-back.js'
import type { WalNotice } from './protocol.js'

/** Frames that wait to be copied back before it is said: 80 MB with pages of 4 kB, ten times what is copied back at once. */
const LIMIT = 20_000
/** Frames that the writer copies back itself, some ten milliseconds of work; more than that go to the thread beside it. */
const HAND_OVER = 4000
/** Between two looks at what stays in a WAL. While another thread copies back they must be frequent: it has only a moment's lead. */
const COMMITS_PER_LOOK = 10
const RECHECK_MS = 1000
/**
 * After so many checkpoints of the writer the connection gives its page cache back. It fills with pages that were written once and are never
 * looked at again (40 MB per file, and then stays), while those in use are read again in an instant: they are in the system's cache.
 */
const CHECKPOINTS_PER_RELEASE = 4

export interface WalWatchOptions {
  connection: Connection
  notify (notice: WalNotice): void
  /** Milliseconds, monotonic. */
  now (): number
  limit?: number | undefined
  recheckMs?: number
}

/** What `stats()` shows of a WAL; see storage/stats.ts. */
export interface WalFigures { walFrames: number, walBacklog: number, oldestReaderMs: number, checkpointMsMax: number }

export class WalWatch {
  #options: WalWatchOptions
  #limit: number
  /** From this many frames on it is copied back; what is left then is held by a reader. */
  #copyFrom: number
  /** A WAL of this many frames is cut; a smaller one is what the next write starts anew in. */
  #cutFrom: number
  #pageSize: number
  /** The most frames since it was cut, which is what its file still has room for: a commit may start it anew before the cut. */
  #grown = 0
  #commits = 0
  #checkpoints = 0
  #timer: NodeJS.Timeout | undefined
  #copyBack: CopyBack
  #handedOver = false
  /** Where copying back stopped, and since when; undefined while no reader is in its way. */
  #held: WalState & { since: number } | undefined
  #reported = false
  #checkpointMsMax = 0

  constructor (options: WalWatchOptions) {
    this.#options = options
    this.#limit = options.limit ?? LIMIT
    this.#pageSize = options.connection.number('page_size')
    const { path, file } = options.connection
    stopAutocheckpoint(options.connection)
    this.#copyBack = new CopyBack({ path, file, everyMs: options.recheckMs ?? RECHECK_MS })
    this.#copyFrom = Math.min(WAL_AUTOCHECKPOINT, this.#limit)
    this.#cutFrom = Math.min(JOURNAL_SIZE_LIMIT / this.#pageSize, this.#limit)
  }

  /** To be called after each commit. Never throws. */
  committed (): void {
    this.#schedule()
    this.#try(() => {
      const { frames, copied } = walState(this.#options.connection)
      if (frames >= this.#copyFrom && copied < frames && !this.#handedOver) {
        this.#look('PASSIVE')
        if (++this.#checkpoints % CHECKPOINTS_PER_RELEASE === 0) this.#options.connection.releaseMemory()
      } else if (++this.#commits % COMMITS_PER_LOOK === 0) this.#look('NOOP')
    })
  }

  /** @throws SQLite's error when it cannot be told */
  figures (): WalFigures {
    const { frames, copied } = this.#look('NOOP')
    return { walFrames: frames, walBacklog: frames - copied, oldestReaderMs: this.#heldMs(), checkpointMsMax: this.#checkpointMsMax }
  }

  /** Resolves when nobody else writes for it any more. */
  async stop (): Promise<void> {
    clearTimeout(this.#timer)
    await this.#copyBack.stop()
  }

  /** One look a second, as long as there is something to look for. It never keeps the thread alive. */
  #schedule (): void {
    this.#timer ??= setTimeout(this.#recheck, this.#options.recheckMs ?? RECHECK_MS).unref()
  }

  /** The reader may be gone while nothing is written any more, so nobody else would copy back. */
  #recheck = (): void => {
    this.#timer = undefined
    this.#try(() => {
      const { frames, copied } = this.#look(this.#handedOver || (this.#held === undefined && this.#grown < this.#cutFrom) ? 'NOOP' : 'PASSIVE')
      // With everything copied back it takes an instant. Refused while somebody reads: then again with the next look.
      if (copied === frames && this.#grown >= this.#cutFrom && cutWal(this.#options.connection)) {
        this.#say('cut', { frames: this.#grown, copied: this.#grown })
        this.#grown = 0
      }
    })
  }

  /** No space, damage: whoever reads or writes next is told; ending the thread for it would help nobody. */
  #try (action: () => void): void {
    try {
      action()
    } catch {
      this.#schedule()
    }
  }

  #look (mode: 'NOOP' | 'PASSIVE'): WalState {
    const started = this.#options.now()
    const state = walState(this.#options.connection, mode)
    if (mode === 'PASSIVE') this.#checkpointMsMax = Math.max(this.#checkpointMsMax, this.#options.now() - started)
    const { frames, copied } = state
    this.#grown = Math.max(this.#grown, frames)
    if (copied === frames || frames < this.#copyFrom) this.#held = undefined
    // Another position, or a WAL that started anew in between: another reader.
    else if (copied !== this.#held?.copied || frames < this.#held.frames) this.#held = { ...state, since: this.#options.now() }
    else this.#held.frames = frames
    if (this.#held !== undefined || this.#grown >= this.#cutFrom) this.#schedule()

    const backlog = frames - copied
    this.#divideWork(backlog)
    if (this.#reported ? backlog < this.#limit / 2 : backlog >= this.#limit) {
      this.#reported = !this.#reported
      this.#say(this.#reported ? 'pinned' : 'released', state)
    }
    return state
  }

  #divideWork (backlog: number): void {
    if (this.#handedOver && backlog < HAND_OVER / 2) {
      this.#handedOver = false
      this.#copyBack.stop()
    } else if (this.#held !== undefined && backlog >= HAND_OVER) {
      this.#handedOver = true
      this.#copyBack.start()
    }
  }

  #heldMs (): number {
    return this.#held === undefined ? 0 : Math.round(this.#options.now() - this.#held.since)
  }

  #say (state: WalNotice['state'], { frames, copied }: WalState): void {
    const { file, path } = this.#options.connection
    this.#options.notify({ state, file, path, walFrames: frames, walBacklog: frames - copied, walBytes: frames * this.#pageSize, oldestReaderMs: this.#heldMs() })
  }
}
