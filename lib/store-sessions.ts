/**
 * Sessions of other frameworks on our storage: what `session-store.ts` wraps in callbacks. Works with the storage alone.
 */
import { doormanError, show } from '../errors.js'
import type { MaybePromise, SessionLookup, SessionRecord } from '../storage/storage.js'
import type { Clock } from './clock.js'
import { endOf, type SessionStorage } from './session-context.js'
import { readData, readUserId } from './session-input.js'
import type { ResolvedSessionOptions } from './session-options.js'
import { createSessionId, hashToken, type RandomBytes } from './token.js'

/** A session as the frameworks write and read it. */
export interface StoreSession {
  cookie: {
    /** Milliseconds the session lives after each use, when the cookie was given a `maxAge`. */
    originalMaxAge?: number | null
    expires?: Date | string | null
    [attribute: string]: unknown
  }
  [key: string]: unknown
}

/** Whose sessions are before anybody has logged in. */
export const ANONYMOUS = 'anonymous'

// Longer than any framework's ids, short enough to hash at once.
const MAX_SID = 1024

export interface StoreSessions {
  get (sid: string): MaybePromise<StoreSession | null>
  set (sid: string, session: object): Promise<void>
  destroy (sid: string): Promise<void>
  touch (sid: string): Promise<void>
}

export interface StoreSessionsOptions {
  storage: SessionStorage
  clock: Clock
  random: RandomBytes
  options: ResolvedSessionOptions
  userId (session: StoreSession): string | null | undefined
  /** Told of uses that could not be written. */
  onError (error: unknown): void
}

/** What a save stores: the session as text, and whose it is. */
interface Written { text: string, owner: string }

export function createStoreSessions ({ storage, clock, random, options, userId, onError }: StoreSessionsOptions): StoreSessions {
  const { idleTimeout, absoluteTimeout, touchInterval, dataLimit } = options
  /** Sessions with a use on its way to the storage. */
  const touching = new Set<string>()

  // Never equal to the hash of one of our own tokens, whatever ids the framework makes.
  const hashSid = (sid: string) => hashToken(`sid:${sid}`)

  function find (sid: string, now: number): MaybePromise<SessionLookup | null> {
    return typeof sid === 'string' && sid.length <= MAX_SID ? storage.findSession(hashSid(sid), now, now - idleTimeout) : null
  }

  function read (found: SessionLookup | null, now: number): StoreSession | null {
    if (found?.state !== 'live' || endOf(found.session, idleTimeout).at <= now) return null
    const session = JSON.parse(found.session.data) as StoreSession
    const { originalMaxAge, expires } = session.cookie
    // A cookie with a maxAge ends that long after the last use, so its end need not be written at every use.
    const end = typeof originalMaxAge === 'number' ? found.session.lastActiveAt + originalMaxAge : Date.parse(String(expires))
    if (end <= now) return null
    if (typeof originalMaxAge === 'number') session.cookie.expires = new Date(end).toISOString()
    return session
  }

  /** The session as JSON text, without its id (it would be a key to the session) and without what follows from its last use. */
  function write (given: object): Written {
    const { sessionId: _, encryptedSessionId: __, ...session } = JSON.parse(JSON.stringify(given)) as StoreSession
    if (typeof session.cookie !== 'object' || session.cookie === null) throw doormanError('DOORMAN_VALUE_INVALID', ['session.cookie', 'an object', show(session.cookie)])
    if (typeof session.cookie.originalMaxAge === 'number') delete session.cookie.expires
    const owner = userId(session) ?? null
    return { text: readData(session, dataLimit), owner: owner === null ? ANONYMOUS : readUserId(owner) }
  }

  function noteUse (record: SessionRecord, now: number): void {
    const { originalMaxAge } = (JSON.parse(record.data) as StoreSession).cookie
    // A cookie that ends soon needs its uses written more often.
    const interval = typeof originalMaxAge === 'number' ? Math.min(touchInterval, originalMaxAge / 10) : touchInterval
    if (now - record.lastActiveAt < interval || touching.has(record.id)) return
    touching.add(record.id)
    storage.touchSessions([{ sessionId: record.id, at: now, ip: null, userAgent: null, flagged: false }])
      .catch(onError)
      .finally(() => touching.delete(record.id))
  }

  /** A session of ours for the same id of theirs, from now on: the first save of an id, and the login of its user. */
  function begin (sid: string, { text, owner }: Written, now: number, replaces: string | undefined): Promise<unknown> {
    const session: SessionRecord = {
      id: createSessionId(random, now),
      userId: owner,
      createdAt: now,
      lastActiveAt: now,
      authenticatedAt: now,
      rotatedAt: now,
      expiresAt: now + absoluteTimeout,
      ip: null,
      lastIp: null,
      userAgent: null,
      lastUserAgent: null,
      device: null,
      flagged: false,
      data: text
    }
    return storage.createSession({ tokenHash: hashSid(sid), session, limit: null, now, idleBefore: now - idleTimeout, ...(replaces === undefined ? {} : { replaces }) })
  }

  /** @param failed what came of an attempt on the record of that id: worth another one if a parallel request has changed it since */
  async function save (sid: string, written: Written, now: number, failed?: { id: string | undefined, error: unknown }): Promise<void> {
    const found = await find(sid, now)
    // Ended while the request was under way: it stays ended.
    if (found?.state === 'ended') return
    const record = found?.session
    if (failed !== undefined && failed.id === record?.id) throw failed.error
    const { text, owner } = written
    if (record === undefined || (record.userId === ANONYMOUS && owner !== ANONYMOUS)) {
      // A login begins a session of its own, with its own id, start and end: what was handed out before it leads nowhere.
      await begin(sid, written, now, record?.id).catch((error: unknown) => save(sid, written, now, { id: record?.id, error }))
      return
    }
    if (record.userId !== owner) {
      throw doormanError('DOORMAN_VALUE_INVALID', ['userId', 'the user this session id belongs to: call regenerate() before another one logs in, or this one logs out', 'another'])
    }
    // A save that changes nothing, as with `rolling` or `resave`, is a use.
    if (text !== record.data && !await storage.updateSessionData(record.id, text)) return await save(sid, written, now)
    noteUse(record, now)
  }

  return {
    get (sid) {
      const now = clock()
      const found = find(sid, now)
      return found instanceof Promise ? found.then(found => read(found, now)) : read(found, now)
    },

    async set (sid, session) {
      if (typeof sid !== 'string' || sid === '' || sid.length > MAX_SID) throw doormanError('DOORMAN_VALUE_INVALID', ['sid', `a string of 1 to ${MAX_SID} characters`, typeof sid])
      await save(sid, write(session), clock())
    },

    async destroy (sid) {
      const now = clock()
      for (;;) {
        const found = await find(sid, now)
        if (found?.state !== 'live') return
        // None ended: a login took its place, and is what there is to end now.
        if ((await storage.endSessions({ id: found.session.id }, 'revoked', now)).length > 0) return
      }
    },

    async touch (sid) {
      const now = clock()
      const found = await find(sid, now)
      if (found?.state === 'live') noteUse(found.session, now)
    }
  }
}
