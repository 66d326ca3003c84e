/**
 * Sessions that were looked up lately, so that a check costs no read of the file. Exact all the same:
 *
 * - An entry counts only while the counter of session changes is what it was before the session was read. Triggers raise it in the
 *   transaction of every end, new token, change of data, whoever makes it. The counter is read at most once a millisecond, so a
 *   revocation by another process is honoured within a millisecond of its COMMIT; one of this process at once (`recheck`).
 * - Last uses do not raise the counter: they would empty the cache all the time. Those of this process take their session out
 *   (`forget`); those of others are seen because an entry is used for a second only, and because a session that looks idle by
 *   what is remembered is read again before it is refused (`idleBefore`).
 * - Only live sessions are remembered. What is refused is always read.
 */
import type { SessionLookup, TokenHash } from '../storage.js'

type LiveSession = Extract<SessionLookup, { state: 'live' | 'grace' }>
interface Entry { readonly key: TokenHash, readonly found: LiveSession, readonly counter: number, readonly readAt: number }

/** How often the counter is looked at, ms. */
const CHECK_MS = 1
/** How long an entry is used, ms. */
const MAX_AGE_MS = 1000
/** Entries per generation; at most twice as many are kept, about a kilobyte each. */
const SIZE = 4000

export interface SessionCacheOptions {
  /** The file's own answers. Both may throw; then nothing is remembered. */
  read (tokenHash: TokenHash, now: number): SessionLookup | null
  counter (): number
  /** Milliseconds, monotonic. */
  monotonic (): number
  size?: number
}

export class SessionCache {
  #options: SessionCacheOptions
  #size: number
  // Two generations instead of a list in order of use: when the young one is full the old one is dropped whole.
  #young = new Map<string, Entry>()
  #old = new Map<string, Entry>()
  /** The key of each session's entry: last uses know the session, not the token. */
  #keys = new Map<string, string>()
  #counter = NaN
  #checkedAt = -Infinity

  constructor (options: SessionCacheOptions) {
    this.#options = options
    this.#size = options.size ?? SIZE
  }

  /**
   * What a token leads to, where that is remembered and the counter was looked at within this millisecond; undefined where `find` must look.
   * The usual case, apart from the others so that it costs nothing but itself. Never throws.
   */
  remembered (key: TokenHash, idleBefore: number): SessionLookup | undefined {
    const time = this.#options.monotonic()
    return time - this.#checkedAt < CHECK_MS ? this.#recall(key, time, idleBefore) : undefined
  }

  /** What a token leads to. A session remembered that was last used at or before `idleBefore` is read again. */
  find (key: TokenHash, now: number, idleBefore: number): SessionLookup | null {
    const time = this.#options.monotonic()
    if (time - this.#checkedAt >= CHECK_MS) {
      this.#counter = this.#options.counter()
      this.#checkedAt = time
    }
    const remembered = this.#recall(key, time, idleBefore)
    if (remembered !== undefined) return remembered
    const found = this.#options.read(key, now)
    if (found?.state === 'live') this.#remember({ key, found, counter: this.#counter, readAt: time })
    return found
  }

  #recall (key: TokenHash, time: number, idleBefore: number): LiveSession | undefined {
    const entry = this.#young.get(key) ?? this.#old.get(key)
    return entry !== undefined && entry.counter === this.#counter && time - entry.readAt < MAX_AGE_MS && entry.found.session.lastActiveAt > idleBefore ? entry.found : undefined
  }

  /** This process changed sessions: the next check looks at the counter, however soon it comes. */
  recheck (): void {
    this.#checkedAt = -Infinity
  }

  /** This process stored a use of the session. */
  forget (sessionId: string): void {
    const key = this.#keys.get(sessionId)
    if (key === undefined) return
    this.#young.delete(key)
    this.#old.delete(key)
    this.#keys.delete(sessionId)
  }

  #remember (entry: Entry): void {
    if (this.#young.size >= this.#size && !this.#young.has(entry.key)) {
      for (const { key, found } of this.#old.values()) {
        if (!this.#young.has(key) && this.#keys.get(found.session.id) === key) this.#keys.delete(found.session.id)
      }
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(entry.key, entry)
    this.#keys.set(entry.found.session.id, entry.key)
  }
}
