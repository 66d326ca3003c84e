/**
 * Whether a token is worth anything, now. Both timeouts are judged here and nowhere else: the cleanup only removes what
 * this would refuse anyway. Fails closed: when sessions cannot be read the answer is an error, never "no session".
 *
 * Answers synchronously where the storage does, because this runs in every request.
 */
import { doormanError } from '../errors.js'
import type { MaybePromise, SessionLookup, SessionRecord } from '../storage/storage.js'
import { cleanClient, clientChanges, type ClientChange } from './client-change.js'
import { endOf, getAlive, noteEnded, toView, type SessionContext } from './session-context.js'
import type { SessionEvent, SessionEventName } from './session-events.js'
import type { ClientInfo, Refusal, Validation } from './session-types.js'
import { hashToken, isToken } from './token.js'

const unavailable = (cause: unknown): never => {
  throw doormanError('DOORMAN_SESSION_UNAVAILABLE', [], cause)
}

// Refusals that say nothing but their reason are made once: floods of junk should cost nothing.
const MISSING: Refusal = Object.freeze({ valid: false, reason: 'missing' })
const MALFORMED: Refusal = Object.freeze({ valid: false, reason: 'malformed' })
const UNKNOWN: Refusal = Object.freeze({ valid: false, reason: 'unknown' })

// Sessions whose end by time was reported already; forgotten whole when full, which at worst reports one twice.
const REPORTED_LIMIT = 10_000
/** A replaced token that comes within this time of its replacement, ms, is of a request that was under way: no reuse, whatever `renewGrace` is. */
const UNDER_WAY = 10_000

type Ended = Omit<Extract<SessionLookup, { state: 'ended' }>, 'state'>

export interface Validator {
  validate (token: string | undefined, client?: ClientInfo): MaybePromise<Validation>
  /** The live record a token leads to, timeouts judged; null for any refusal. */
  find (token: string): MaybePromise<SessionRecord | null>
}

export function createValidator (context: SessionContext): Validator {
  const { storage, clock, options, touches, events, counters } = context
  const reported = new Set<string>()
  const leeway = Math.max(options.renewGrace, UNDER_WAY)

  function refuse (refusal: Refusal): Refusal {
    counters.refused[refusal.reason]++
    return refusal
  }

  /** Asks the storage; `judge` runs at once where it answers at once. */
  function lookUp<T> (token: string, now: number, judge: (found: SessionLookup | null, now: number) => MaybePromise<T>): MaybePromise<T> {
    let found: MaybePromise<SessionLookup | null>
    try {
      found = storage.findSession(hashToken(token), now, now - options.idleTimeout)
    } catch (error) {
      return unavailable(error)
    }
    if (!(found instanceof Promise)) return judge(found, now)
    return touches.during(found.catch(unavailable), found => judge(found, now))
  }

  function report (event: SessionEventName, { sessionId, userId, reason }: Ended, now: number, client: ClientInfo | undefined, detail: SessionEvent['detail'] = {}): void {
    events.emit(event, now, userId, sessionId, { reason, ip: client?.ip ?? null, userAgent: client?.userAgent ?? null, detail })
  }

  const refuseEnded = ({ sessionId, userId, reason, endedAt }: Ended): Refusal => refuse({ valid: false, reason, at: endedAt, sessionId, userId })

  function onEnded (ended: Ended, now: number, client: ClientInfo | undefined): MaybePromise<Validation> {
    const reuse = ended.reason === 'rotated' && now - ended.endedAt > leeway
    report('session_use_after_expire', ended, now, client, reuse ? { reuse } : {})
    return reuse && options.tokenReuse === 'end' ? endFamily(ended, now).then(refuseEnded, unavailable) : refuseEnded(ended)
  }

  /**
   * Ends the session of which an old token came back, whatever its token is now. Looked at first, so that a token that goes on coming back costs no
   * write. Of many at once, in whatever processes, one ends it.
   */
  async function endFamily (ended: Ended, now: number): Promise<Ended> {
    if (await getAlive(context, ended.sessionId, now) === null) return ended
    const family = await storage.endSessions({ id: ended.sessionId }, 'reused', now)
    noteEnded(context, family, now)
    return family.length === 0 ? ended : { ...ended, reason: 'reused', endedAt: now }
  }

  /** The first refusal of a session that has timed out tells that it has; the later ones are uses after that. */
  function timeoutEvent (sessionId: string): SessionEventName {
    if (reported.has(sessionId)) return 'session_use_after_expire'
    if (reported.size >= REPORTED_LIMIT) reported.clear()
    reported.add(sessionId)
    return 'session_expired'
  }

  function judge (found: SessionLookup | null, now: number, client: ClientInfo | undefined): MaybePromise<Validation> {
    if (found === null) return refuse(UNKNOWN)
    if (found.state === 'ended') return onEnded(found, now, client)
    const record = touches.overlay(found.session)
    const end = endOf(record, options.idleTimeout)
    if (end.at <= now) {
      const ended: Ended = { sessionId: record.id, userId: record.userId, reason: end.reason, endedAt: end.at }
      report(timeoutEvent(record.id), ended, now, client)
      return refuseEnded(ended)
    }
    if (client !== undefined && options.clientChange !== 'off') {
      const changed = changedClient(record, client)
      if (changed !== null) return onChange(changed, found.state, record, now)
    }
    return accept(found.state, record, now)
  }

  function accept (state: 'live' | 'grace', record: SessionRecord, now: number): Validation {
    const renewalDue = state === 'live' && options.renewAfter !== null && now - record.rotatedAt >= options.renewAfter
    return { valid: true, session: toView(record, options.idleTimeout), state, renewalDue }
  }

  function changedClient (record: SessionRecord, client: ClientInfo): { changes: ClientChange[], seen: ClientInfo } | null {
    // The same text as last time is the same client: that is nearly every request, and costs two comparisons.
    if (client.ip === record.lastIp && client.userAgent === record.lastUserAgent) return null
    const seen = cleanClient(client, context)
    const changes = clientChanges({ ip: record.lastIp, userAgent: record.lastUserAgent }, seen)
    return changes.length === 0 ? null : { changes, seen }
  }

  function onChange ({ changes, seen }: { changes: ClientChange[], seen: ClientInfo }, state: 'live' | 'grace', record: SessionRecord, now: number): MaybePromise<Validation> {
    events.emit('session_client_changed', now, record.userId, record.id, { ...seen, detail: { changes, policy: options.clientChange } })
    if (options.clientChange === 'flag') {
      // Recorded at once, whatever the touch interval: the next request of this client must not be reported again.
      touches.add({ sessionId: record.id, at: now, ...seen, flagged: true })
      return accept(state, { ...touches.overlay(record), flagged: true }, now)
    }
    return storage.endSessions({ id: record.id }, 'client-changed', now).then(ended => {
      noteEnded(context, ended, now)
      return refuse({ valid: false, reason: 'client-changed', at: now, sessionId: record.id, userId: record.userId })
    }, unavailable)
  }

  return {
    validate (token, client) {
      if (token === undefined) return refuse(MISSING)
      if (!isToken(token)) return refuse(MALFORMED)
      return lookUp(token, clock(), (found, now) => judge(found, now, client))
    },
    find (token) {
      if (!isToken(token)) return null
      return lookUp(token, clock(), (found, now) => {
        if (found?.state !== 'live') return null
        const record = touches.overlay(found.session)
        return endOf(record, options.idleTimeout).at <= now ? null : record
      })
    }
  }
}
