/**
 * Sessions at the door of HTTP: reads the credential of a request, has it judged, renews it where that is due, refuses the
 * request where the route asks for more, and writes the cookie. Knows requests and replies only by the few things it needs.
 */
import { doormanError } from '../errors.js'
import type { Clock } from './clock.js'
import { isCrossSite, mayChange, type CrossSiteRequest } from './cross-site.js'
import { NO_SESSION, readCredential, RequestSession, requestSession, type Credential, type SessionCarrier } from './request-session.js'
import type { CookieAttributes, SessionCookie } from './session-cookie.js'
import { describeEnd } from './session-end.js'
import type { SessionPolicy } from './session-policy.js'
import type { SessionView, Validation } from './session-types.js'
import type { Sessions } from './sessions.js'

export interface GuardRequest extends SessionCarrier, CrossSiteRequest {
  readonly headers: CrossSiteRequest['headers'] & {
    cookie?: string | undefined
    authorization?: string | undefined
    'user-agent'?: string | undefined
    accept?: string | undefined
  }
  readonly protocol: string
  readonly ip: string | undefined
  /** Canonical address, where the IP tracking is registered. */
  readonly clientAddress?: string | null
}

export interface GuardReply {
  readonly request: GuardRequest
  hasHeader (name: string): boolean
  getHeader (name: string): number | string | string[] | undefined
  header (name: string, value: string | string[]): unknown
  removeHeader (name: string): unknown
}

type Done = (error?: Error) => void

export interface SessionGuard {
  /** Looks at the session of a request, then does what the policy asks. */
  look (request: GuardRequest, reply: GuardReply, policy: SessionPolicy, done: Done): void
  /** The same, where the request may have been looked at before. */
  require (request: GuardRequest, reply: GuardReply, policy: SessionPolicy, done: Done): void
  setCookie (reply: GuardReply, token: string, session: SessionView): void
  clearCookie (reply: GuardReply): void
}

export interface GuardOptions {
  sessions: Sessions
  cookie: SessionCookie
  bearer: boolean
  clock: Clock
  /** Whether a 401 says why the session of the token ended. */
  tellReason: boolean
  /** Origins whose requests may change something with a cookie, besides the request's own; null: all. */
  trustedOrigins: ReadonlySet<string> | null
  /** Whether the request's route takes them from anywhere. Asked only about those that would be refused. */
  allowsCrossSite (request: GuardRequest): boolean
  random (): number
  /** The value of a Set-Cookie header. */
  serialize (name: string, value: string, attributes: CookieAttributes & { expires?: Date }): string
  log: { warn (fields: object, message: string): void }
}

/**
 * A refused token is answered this much later, ms, drawn at random. How long it took to know tells whether the text is no token, was never one, or was
 * one once: some dozen microseconds, which a hundred times as much noise hides. To take exactly as long for each would need a timer for every request,
 * since it has to be set before the work.
 */
const REFUSAL_DELAY = 10
/** A failing database fails for everybody at once: one line a minute, with their number, says as much. */
const LOG_EVERY = 60_000

export function createSessionGuard ({ sessions, cookie, bearer, clock, random, tellReason, trustedOrigins, allowsCrossSite, serialize, log }: GuardOptions): SessionGuard {
  let warned = false
  let renewalsFailed = 0
  let loggedAt = -Infinity

  function look (request: GuardRequest, reply: GuardReply, policy: SessionPolicy, done: Done): void {
    // Without a cookie as well: what such a request gets is not for those who have one.
    varyByCookie(reply)
    const credential = readCredential(request.headers, cookie.name(isHttps(request)), bearer)
    if (credential === null) {
      sessions.validate(undefined) // counted
      request[requestSession] = NO_SESSION
      return settle(request, reply, policy, done)
    }
    keepPrivate(reply)
    let validation
    try {
      validation = sessions.validate(credential.token, clientOf(request))
    } catch (error) {
      return done(error as Error)
    }
    if (validation instanceof Promise) validation.then(result => admit(request, reply, policy, credential, result, done), done)
    else admit(request, reply, policy, credential, validation, done)
  }

  function admit (request: GuardRequest, reply: GuardReply, policy: SessionPolicy, { token, source }: Credential, result: Validation, done: Done): void {
    if (!result.valid) {
      request[requestSession] = new RequestSession(null, result, source, token)
      return settle(request, reply, policy, done)
    }
    // Nobody but a browser sends a cookie by itself. Before anything counts as a use of the session.
    if (source === 'cookie' && mayChange(request) && isForged(request)) return done(doormanError('DOORMAN_CROSS_SITE'))
    const { session, renewalDue } = result
    sessions.touch(session, clientOf(request))
    request[requestSession] = new RequestSession(session, null, source, token)
    // Only a cookie can be replaced behind the client's back, and only by a reply that is sure to carry it.
    if (!renewalDue || source !== 'cookie' || opensStream(request)) return settle(request, reply, policy, done)
    sessions.renew(token, session).then(renewed => {
      if (renewed !== null) setCookie(reply, renewed.token, renewed.session)
      settle(request, reply, policy, done)
    }, error => {
      // The token in hand is still good, and a later request will try again.
      renewalFailed(error, session)
      settle(request, reply, policy, done)
    })
  }

  const isForged = (request: GuardRequest) => trustedOrigins !== null && isCrossSite(request, trustedOrigins) && !allowsCrossSite(request)

  function renewalFailed (error: unknown, session: SessionView): void {
    renewalsFailed++
    const now = clock()
    if (Math.abs(now - loggedAt) < LOG_EVERY) return
    log.warn({ err: error, sessionId: session.id, failures: renewalsFailed }, 'a session could not be renewed; its token stays in use')
    loggedAt = now
    renewalsFailed = 0
  }

  function settle (request: GuardRequest, reply: GuardReply, policy: SessionPolicy, done: Done): void {
    if (!policy.required) return done()
    keepPrivate(reply)
    const { session } = request[requestSession]!
    if (session === null) return refuse(request[requestSession]!, reply, done)
    done(policy.maxAge !== null && !sessions.isFresh(session, policy.maxAge) ? doormanError('DOORMAN_SESSION_NOT_FRESH') : undefined)
  }

  function refuse ({ refusal, end }: RequestSession, reply: GuardReply, done: Done): void {
    // The cookie is not cleared here: a parallel request may just have set a new one, and this reply would remove it.
    if (bearer) reply.header('www-authenticate', 'Bearer')
    const timedOut = refusal === 'idle' || refusal === 'expired'
    const error = doormanError(timedOut ? 'DOORMAN_SESSION_EXPIRED' : 'DOORMAN_SESSION_INVALID')
    // Only to who has a token that was good once. A header, which any error handler leaves alone; the message, which Fastify's own sends.
    if (tellReason && end !== null) {
      reply.header('session-end-reason', end.reason)
      error.message = describeEnd(end.reason)
    }
    if (refusal === 'missing') done(error)
    else setTimeout(done, random() * REFUSAL_DELAY, error)
  }

  function setCookie (reply: GuardReply, token: string, session: SessionView): void {
    const { request } = reply
    const https = isHttps(request)
    if (!https && !warned && cookie.secure !== false) warnAboutHttp(cookie.secure)
    keepPrivate(reply)
    const name = cookie.name(https)
    sendCookie(reply, name, serialize(name, token, cookie.attributes(https, session.expiresAt, clock())))
    // After a logout in the same reply it would take the new cookie, too.
    if (cookie.clearSiteData !== null) reply.removeHeader('clear-site-data')
    // A login or a new token. Where sessions are not looked at, such as a route that logs others in, this one is nobody's.
    const before = request[requestSession]
    if (before) request[requestSession] = new RequestSession(session, null, before.source ?? 'cookie', token)
  }

  function warnAboutHttp (secure: true | 'auto'): void {
    warned = true
    const proxy = 'If TLS ends at a proxy, set Fastify\'s trustProxy to its address.'
    log.warn({ secure }, secure === true
      ? `A session cookie with Secure was set over plain HTTP: browsers drop it, except from localhost. Serve HTTPS. ${proxy} To allow plain HTTP in development, set cookie.secure to "auto" or false.`
      : `A session cookie was set over plain HTTP, without Secure and the __Host- prefix: anybody on the way can read it. Serve HTTPS. ${proxy}`)
  }

  return {
    look,
    setCookie,
    require (request, reply, policy, done) {
      if (request[requestSession]) settle(request, reply, policy, done)
      else look(request, reply, policy, done)
    },
    clearCookie (reply) {
      const https = isHttps(reply.request)
      keepPrivate(reply)
      const name = cookie.name(https)
      sendCookie(reply, name, serialize(name, '', { ...cookie.clearing(https), expires: new Date(0), maxAge: 0 }))
      if (https && cookie.clearSiteData !== null) reply.header('clear-site-data', cookie.clearSiteData)
    }
  }
}

const isHttps = (request: GuardRequest) => request.protocol === 'https'

/** Replies to these are often written past the framework (WebSocket, server-sent events), and the new cookie would go down with that. */
function opensStream ({ headers: { upgrade, accept } }: GuardRequest): boolean {
  return upgrade !== undefined || (accept !== undefined && accept.toLowerCase().includes('text/event-stream'))
}

function clientOf (request: GuardRequest) {
  return {
    ip: request.clientAddress === undefined ? request.ip ?? null : request.clientAddress,
    userAgent: request.headers['user-agent'] ?? ''
  }
}

/** Adds a cookie to a reply. Of one name there is one: a login after a renewal, or a logout after a login, is what counts. */
function sendCookie (reply: GuardReply, name: string, text: string): void {
  const present = reply.getHeader('set-cookie')
  if (present === undefined) {
    reply.header('set-cookie', text)
    return
  }
  const others = [present].flat().filter(other => !String(other).startsWith(`${name}=`)).map(String)
  reply.removeHeader('set-cookie')
  reply.header('set-cookie', others.length === 0 ? text : [...others, text])
}

/** Keeps shared caches away from a reply that depends on the session. What the host says about caching is left alone. */
function keepPrivate (reply: GuardReply): void {
  if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
  varyByCookie(reply)
}

/** Tells caches that the reply depends on the cookie, besides what the host has named. */
function varyByCookie (reply: GuardReply): void {
  const vary = reply.getHeader('vary')
  // Almost every request: nobody has named anything, or this has run before.
  if (vary === 'Cookie') return
  if (vary === undefined || vary === '') reply.header('vary', 'Cookie')
  else if (!NAMES_COOKIE.test(String(vary))) reply.header('vary', `${String(vary)}, Cookie`)
}

/** `Cookie` as an item of a list, or `*`, which covers it. */
const NAMES_COOKIE = /(?:^|,)\s*(?:cookie|\*)\s*(?:,|$)/i
