/**
 * The session service: who is logged in, since when, and for how long still. Usable without HTTP. Changes are acknowledged
 * after they are committed; failures of the database reach the caller as DOORMAN_STORAGE_… errors.
 */
import { doormanError, show } from '../errors.js'
import { MAX_DEVICES, type MaybePromise, type Page, type SessionDevice, type SessionRecord, type SessionSelection, type SessionTouch } from '../storage/storage.js'
import { cleanClient } from './client-change.js'
import type { Clock } from './clock.js'
import { describeDevice } from './device.js'
import { parseDuration } from './duration.js'
import { createLiveSessions, type LiveSessions } from './live-sessions.js'
import type { RowQueue } from './row-queue.js'
import { createCounters, endOf, getAlive, noteEnded, toView, type SessionContext, type SessionStorage } from './session-context.js'
import { loginDevice, noteDevice } from './session-devices.js'
import { createSessionEvents, type SessionEventName, type SessionEvents } from './session-events.js'
import { readAddress, readAfter, readData, readExceptId, readGrace, readId, readIp, readLimit, readUserAgent, readUserId } from './session-input.js'
import type { ResolvedSessionOptions } from './session-options.js'
import type { ClientInfo, CreateSession, IssuedSession, ListSessions, RotateSession, SessionStats, SessionView, Validation } from './session-types.js'
import { createSessionId, createToken, hashToken, pooledRandomBytes, type RandomBytes } from './token.js'
import { createTouches } from './touches.js'
import { createValidator } from './session-validation.js'

const UNKNOWN_CLIENT: ClientInfo = { ip: null, userAgent: null }
/** Longest wait of a renewal for a lock, ms: some request, often a mere GET, stands behind it, and its old token is still good. */
const RENEWAL_WAIT = 100
/** For how long no renewal is tried after one has failed, ms, or every request would wait in turn. */
const RENEWAL_PAUSE = 5000

export interface Sessions {
  readonly options: ResolvedSessionOptions
  /**
   * Begins a session. The token is in the answer and nowhere else.
   * @throws DOORMAN_VALUE_INVALID, DOORMAN_SESSION_LIMIT (policy `reject`)
   */
  create (params: CreateSession): Promise<IssuedSession>
  /**
   * Judges a token. With a client, the policy for changed clients applies. Synchronous where the storage reads synchronously.
   * @throws DOORMAN_SESSION_UNAVAILABLE when sessions cannot be read: never taken for "no session"
   */
  validate (token: string | undefined, client?: ClientInfo): MaybePromise<Validation>
  /** Records a use: at most one per `touchInterval` is written, in the background. Brings `session` up to date. */
  touch (session: SessionView, client?: ClientInfo): void
  /** A live session by its public id, or null. @throws DOORMAN_VALUE_INVALID */
  info (id: string): Promise<SessionView | null>
  /**
   * Live sessions, newest first. Pages may be shorter than `limit` before the last one.
   * @throws DOORMAN_VALUE_INVALID, also for a `userId` or `ip` that is there but undefined: it never means "of everybody"
   */
  list (params?: ListSessions): Promise<Page<SessionView>>
  /** What a user has logged in with, last seen first, at most 100. @throws DOORMAN_VALUE_INVALID */
  devices (userId: string): Promise<SessionDevice[]>
  /**
   * Replaces a live token by a new one; the session stays.
   * @throws DOORMAN_SESSION_INVALID when the token is not the current one of a live session
   */
  rotate (token: string, params?: RotateSession): Promise<IssuedSession>
  /**
   * A new token with `renewGrace` for the old one. Waits for a lock for 100 ms at most. Null when another request has just
   * renewed it, when it is not live, or when a renewal of this process has failed in the last 5 s.
   * @throws DOORMAN_STORAGE_… when it cannot be stored now: the token in hand stays good
   */
  renew (token: string, session: SessionView): Promise<IssuedSession | null>
  /** Replaces a session's data. @throws DOORMAN_SESSION_NOT_FOUND, DOORMAN_VALUE_INVALID */
  update (id: string, data: Record<string, unknown>): Promise<SessionView>
  /**
   * Ends a session; with `userId`, only if it is that user's. False when there is none.
   * @throws DOORMAN_VALUE_INVALID, also for a `userId` that is undefined: it never means "whose ever it is"
   */
  remove (id: string, of?: { userId: string }): Promise<boolean>
  /** Ends a user's sessions but one; returns how many. @throws DOORMAN_VALUE_INVALID */
  removeOthers (userId: string, exceptId: string): Promise<number>
  /** Ends all sessions of a user; returns how many. */
  removeAll (userId: string): Promise<number>
  /** Ends every session of everybody; returns how many. */
  removeEverybody (): Promise<number>
  /**
   * Whether the user authenticated less than `maxAge` ago (ms, or such as '15m'; default: the option `freshness`).
   * @throws DOORMAN_VALUE_INVALID
   */
  isFresh (session: SessionView, maxAge?: number | string): boolean
  on: SessionEvents['on']
  off: SessionEvents['off']
  /** Sessions that open connections hang on. */
  readonly live: LiveSessions
  stats (): SessionStats
}

export interface SessionsDependencies {
  storage: SessionStorage
  clock: Clock
  options: ResolvedSessionOptions
  /** Makes the queue that last uses go through. */
  createQueue (commit: (touches: SessionTouch[]) => Promise<unknown>): RowQueue<SessionTouch>
  /** Told of a listener that threw or rejected. */
  onListenerError (error: unknown, event: SessionEventName): void
  /** The form of a canonical address that may be stored. Default: as it is. */
  storedAddress? (address: string): string
  /** Default: Node's cryptographic generator. */
  random?: RandomBytes
}

export function createSessions ({ storage, clock, options, createQueue, onListenerError, storedAddress = address => address, random = pooledRandomBytes() }: SessionsDependencies): Sessions {
  const events = createSessionEvents(onListenerError)
  const touches = createTouches({ store: rows => storage.touchSessions(rows), createQueue })
  const counters = createCounters()
  const context: SessionContext = { storage, clock, random, options, storedAddress, touches, events, counters }
  const { validate, find } = createValidator(context)
  const { idleTimeout } = options
  const limit = options.maxPerUser === null ? null : { max: options.maxPerUser, policy: options.limitPolicy }
  /** Sessions whose token is being renewed by this process. */
  const renewing = new Set<string>()
  let renewalFailedAt = -Infinity

  async function end (selection: SessionSelection): Promise<number> {
    const now = clock()
    const ended = await storage.endSessions(selection, 'revoked', now)
    noteEnded(context, ended, now)
    return ended.length
  }

  /** Changes the token of a live record, unless another has done so first. */
  async function changeToken (token: string, session: SessionView, graceFor: number, reauthenticated: boolean, wait?: number): Promise<IssuedSession | null> {
    const now = clock()
    const next = createToken(random)
    const expiresAt = reauthenticated ? now + options.absoluteTimeout : session.expiresAt
    const changed = await storage.rotateSession({
      sessionId: session.id,
      fromHash: hashToken(token),
      toHash: hashToken(next),
      now,
      graceUntil: now + graceFor,
      reauthenticated: reauthenticated ? { expiresAt } : null,
      ...wait === undefined ? {} : { wait }
    })
    if (!changed) return null
    counters.renewed++
    events.emit('session_renewed', now, session.userId, session.id, { detail: { reauthenticated } })
    const lastActiveAt = Math.max(session.lastActiveAt, now)
    return {
      token: next,
      session: {
        ...session,
        lastActiveAt,
        expiresAt,
        idleExpiresAt: Math.min(lastActiveAt + idleTimeout, expiresAt),
        authenticatedAt: reauthenticated ? now : session.authenticatedAt
      }
    }
  }

  async function info (id: string): Promise<SessionView | null> {
    const current = await getAlive(context, readId(id), clock())
    return current === null ? null : toView(current, idleTimeout)
  }

  return {
    options,
    validate,
    info,
    on: events.on,
    off: events.off,
    live: createLiveSessions(context, error => onListenerError(error, 'session_ended')),

    async create (params) {
      const now = clock()
      const address = readIp(params.ip)
      const ip = address === null ? null : storedAddress(address)
      const userAgent = readUserAgent(params.userAgent, options.userAgentLimit)
      const record: SessionRecord = {
        id: createSessionId(random, now),
        userId: readUserId(params.userId),
        createdAt: now,
        lastActiveAt: now,
        authenticatedAt: now,
        rotatedAt: now,
        expiresAt: now + options.absoluteTimeout,
        ip,
        lastIp: ip,
        userAgent,
        lastUserAgent: userAgent,
        device: describeDevice(userAgent),
        flagged: false,
        data: readData(params.data ?? {}, options.dataLimit)
      }
      const token = createToken(random)
      const client = { ip, userAgent }
      const device = options.devices ? loginDevice(record) : null
      const result = await storage.createSession({ tokenHash: hashToken(token), session: record, limit, device, now, idleBefore: now - idleTimeout })
      if (!result.created) {
        events.emit('excess_sessions_exceeded', now, record.userId, null, { ...client, detail: { ...limit } })
        throw doormanError('DOORMAN_SESSION_LIMIT', [result.live])
      }
      counters.created++
      events.emit('session_created', now, record.userId, record.id, client, address)
      if (result.evicted.length > 0) events.emit('excess_sessions_exceeded', now, record.userId, record.id, { ...client, detail: { ...limit } })
      noteEnded(context, result.evicted, now)
      noteDevice(context, record, result.known)
      return { token, session: toView(record, idleTimeout) }
    },

    touch (session, client) {
      const now = clock()
      const last = Math.max(session.lastActiveAt, touches.lastActiveAt(session.id))
      if (now - last < options.touchInterval) return
      const seen = client === undefined ? UNKNOWN_CLIENT : cleanClient(client, context)
      touches.add({ sessionId: session.id, at: now, ...seen, flagged: false })
      session.lastActiveAt = now
      session.idleExpiresAt = Math.min(now + idleTimeout, session.expiresAt)
      session.lastIp = seen.ip ?? session.lastIp
    },

    async list (params = {}) {
      const { limit = 50, after } = params
      const now = clock()
      // A session whose last use still waits looks idle to the storage. At that use it was live, so what is stored of it
      // is younger than that use less the timeout: asking from there on finds it, to be judged here.
      const idleBefore = Math.min(now, touches.oldest() ?? now) - idleTimeout
      const read = storage.listSessions({
        now,
        idleBefore,
        limit: readLimit(limit),
        // By presence: a filter whose value got lost on the way here must not widen the list to everybody.
        ...'userId' in params ? { userId: readUserId(params.userId) } : {},
        ...'ip' in params ? { ip: storedAddress(readAddress(params.ip)) } : {},
        ...after === undefined ? {} : { after: readAfter(after) }
      })
      return await touches.during(read, ({ items, next }) => ({
        items: items.map(touches.overlay).filter(record => endOf(record, idleTimeout).at > now).map(record => toView(record, idleTimeout)),
        next
      }))
    },

    async devices (userId) {
      return await storage.listSessionDevices(readUserId(userId), MAX_DEVICES)
    },

    async rotate (token, { reauthenticated = false, grace = 0 } = {}) {
      // After a login nothing from before it may open the session, not even for a moment.
      if (reauthenticated && grace !== 0) throw doormanError('DOORMAN_VALUE_INVALID', ['grace', 'left out together with reauthenticated', show(grace)])
      const graceFor = readGrace(grace)
      const record = await find(token)
      const issued = record === null ? null : await changeToken(token, toView(record, idleTimeout), graceFor, reauthenticated)
      if (issued === null) throw doormanError('DOORMAN_SESSION_INVALID')
      return issued
    },

    async renew (token, session) {
      // Of many requests that arrive with the old token one renews it; the others go on with it, in its grace.
      if (renewing.has(session.id)) return null
      const sinceFailure = clock() - renewalFailedAt
      // Negative: the clock was set back, which must not make the pause longer.
      if (sinceFailure >= 0 && sinceFailure < RENEWAL_PAUSE) return null
      renewing.add(session.id)
      try {
        return await changeToken(token, session, options.renewGrace, false, RENEWAL_WAIT).catch((error: unknown) => {
          renewalFailedAt = clock()
          throw error
        })
      } finally {
        renewing.delete(session.id)
      }
    },

    async update (id, data) {
      const text = readData(data, options.dataLimit)
      const session = await info(id)
      if (session === null || !await storage.updateSessionData(id, text)) throw doormanError('DOORMAN_SESSION_NOT_FOUND')
      return { ...session, data: JSON.parse(text) as Record<string, unknown> }
    },

    async remove (id, of) {
      const selection = { id: readId(id) }
      return await end(of === undefined ? selection : { ...selection, userId: readUserId(of.userId) }) > 0
    },
    async removeOthers (userId, exceptId) {
      return await end({ userId: readUserId(userId), exceptId: readExceptId(exceptId) })
    },
    async removeAll (userId) {
      return await end({ userId: readUserId(userId) })
    },
    async removeEverybody () {
      return await end({ all: true })
    },

    isFresh (session, maxAge = options.freshness) {
      const age = parseDuration(maxAge)
      if (age === undefined) throw doormanError('DOORMAN_VALUE_INVALID', ['maxAge', 'a duration in milliseconds or such as "15m"', show(maxAge)])
      return clock() - session.authenticatedAt < age
    },

    stats: () => structuredClone({ ...counters, pendingTouches: touches.size })
  }
}
