/**
 * Sessions that an open connection hangs on: tells its listeners when one ends. What this process ends is known at once, by its event. What others
 * end, and what times out, is looked for once a second while anybody listens: by the counter of session changes first, so that a quiet second costs
 * one point read. A failing database is asked again in the next second, and never taken for an end. Listening is no use of a session.
 */
import type { SessionLookup } from '../storage/storage.js'
import { endOf, getLatest, type SessionContext } from './session-context.js'
import type { SessionEnd } from './session-end.js'
import type { SessionEvent } from './session-events.js'
import type { SessionView } from './session-types.js'
import { hashToken } from './token.js'

export type LiveEnd = Pick<SessionEnd, 'reason' | 'at'>
export type EndListener = (end: LiveEnd) => unknown

export interface LiveSessions {
  /**
   * Calls the listener once, when the session ends; until then it holds some hundred bytes. A new token for it is no end.
   * @param token by which the reason is found where another process ended the session
   * @returns stops listening
   */
  watch (session: SessionView, token: string, listener: EndListener): () => void
  /** Sessions that are listened to. */
  readonly size: number
  /** Forgets all listeners, without calling them. */
  close (): void
}

/** How often others' changes are looked for, ms. */
const INTERVAL = 1000
/** Sessions that are looked up at a time. */
const BATCH = 50

interface Watched {
  readonly id: string
  readonly tokenHash: string
  readonly listeners: Set<EndListener>
  /** When it would end if it is not used again, as far as is known. */
  due: number
  /** The counter of changes before it was last found alive. Undefined: not looked up so far, and it may have ended since it was validated. */
  seen: number | undefined
}

/** @param onListenerError told of a listener that threw or rejected */
export function createLiveSessions (context: SessionContext, onListenerError: (error: unknown) => void): LiveSessions {
  const { storage, clock, events, options } = context
  const watched = new Map<string, Watched>()
  let timer: NodeJS.Timeout | undefined
  let looking = false
  let closed = false
  let subscribed = false

  function onEnded ({ sessionId, reason, at }: SessionEvent): void {
    const session = watched.get(sessionId!)
    if (session !== undefined) end(session, { reason: reason!, at })
  }

  function start (): void {
    if (timer !== undefined || closed) return
    // Kept from then on: taken back and given anew by a listener, it would be called again for the same end.
    if (!subscribed) events.on('session_ended', onEnded)
    subscribed = true
    timer = setInterval(look, INTERVAL).unref()
  }

  function stop (): void {
    clearInterval(timer)
    timer = undefined
  }

  function forget (session: Watched): void {
    // It may have ended, and have been listened to anew under the same id.
    if (watched.get(session.id) === session) watched.delete(session.id)
    if (watched.size === 0) stop()
  }

  function end (session: Watched, how: LiveEnd): void {
    forget(session)
    for (const listener of session.listeners) {
      try {
        const result = listener(how)
        if (result instanceof Promise) result.catch(onListenerError)
      } catch (error) {
        onListenerError(error)
      }
    }
    session.listeners.clear()
  }

  async function look (): Promise<void> {
    if (looking) return
    looking = true
    try {
      const counter = await storage.changeCounter('sessions')
      const now = clock()
      const due = [...watched.values()].filter(session => session.seen !== counter || session.due <= now)
      for (let i = 0; i < due.length; i += BATCH) await Promise.all(due.slice(i, i + BATCH).map(session => check(session, counter)))
    } catch {
      // The storage says so itself, in its log and its health. What was not looked up is not marked as seen.
    } finally {
      looking = false
    }
  }

  async function check (session: Watched, counter: number): Promise<void> {
    // Before the read: what another process stores during it may keep the session alive beyond it.
    const now = clock()
    const record = await getLatest(context, session.id)
    if (record === null) return end(session, await reasonOf(session.tokenHash))
    const last = endOf(record, options.idleTimeout)
    if (last.at <= now) return end(session, last)
    session.due = last.at
    session.seen = counter
  }

  /** What the token's tombstone says. One that was replaced before, or erased with its user, leaves only that the session is gone. */
  async function reasonOf (tokenHash: string): Promise<LiveEnd> {
    const now = clock()
    const found: SessionLookup | null = await storage.findSession(tokenHash, now)
    return found?.state === 'ended' && found.reason !== 'rotated' ? { reason: found.reason, at: found.endedAt } : { reason: 'revoked', at: now }
  }

  return {
    get size () { return watched.size },
    watch ({ id, idleExpiresAt }, token, listener) {
      let session = watched.get(id)
      if (session === undefined) {
        session = { id, tokenHash: hashToken(token), listeners: new Set(), due: idleExpiresAt, seen: undefined }
        watched.set(id, session)
        start()
      }
      const { listeners } = session
      // Of its own, so that the same function can listen twice, and stop once.
      const own: EndListener = how => listener(how)
      listeners.add(own)
      const found = session
      return () => {
        if (listeners.delete(own) && listeners.size === 0) forget(found)
      }
    },
    close () {
      closed = true
      watched.clear()
      events.off('session_ended', onEnded)
      stop()
    }
  }
}
