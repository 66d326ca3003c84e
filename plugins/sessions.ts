/**
 * Sessions for routes: decorates `fastify.sessions` (the service), `request.session` and its companions, `fastify.requireSession`,
 * `fastify.requireFresh`, what sets and clears the cookie, and what ends with a session (live-sessions.ts). Needs the database plugin.
 * Hooks: onRoute, onRequest, onClose.
 */
import { serialize } from 'cookie'
import type { FastifyRequest, FastifyReply, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError, show } from '../errors.js'
import { checkRouteCrossSite } from '../lib/cross-site.js'
import { parseDuration } from '../lib/duration.js'
import { createRouteConfigReader } from '../lib/fastify-internals.js'
import { requestSession, sessionOf, type RequestSession, type SessionSource } from '../lib/request-session.js'
import { createRowQueue } from '../lib/row-queue.js'
import { createSessionCookie } from '../lib/session-cookie.js'
import type { SessionEnd } from '../lib/session-end.js'
import { createSessionGuard } from '../lib/session-guard.js'
import { resolveSessionsPlugin, type SessionsPluginOptions } from '../lib/session-plugin-options.js'
import { createPolicyReader, NOT_LOOKED_AT, OPTIONAL, REQUIRED, type RouteSession } from '../lib/session-policy.js'
import type { SessionView } from '../lib/session-types.js'
import { createSessions, type Sessions } from '../lib/sessions.js'
import type { RefusalReason } from '../lib/vocabulary.js'
import type { SessionTouch } from '../storage/storage.js'
import type {} from './database.js'
import { decorateLive, type EndWithSession, type OnSessionEnd } from './live-sessions.js'

export type { SessionsPluginOptions } from '../lib/session-plugin-options.js'
export type SetSessionCookie = (reply: FastifyReply, token: string, session: SessionView) => void
export type ClearSessionCookie = (reply: FastifyReply) => void

declare module 'fastify' {
  interface FastifyInstance {
    sessions: Sessions
    /** A hook (onRequest to preHandler): 401 without a valid session. */
    requireSession: onRequestHookHandler
    /** Makes a hook: 401 without a valid session, 403 unless the login is younger than `maxAge` (default: the option `freshness`). */
    requireFresh (maxAge?: number | string): onRequestHookHandler
    /** Sends the token of a session as cookie. The request counts as having this session from now on. */
    setSessionCookie: SetSessionCookie
    /** Makes the browser forget the cookie. Does not end the session: see `fastify.sessions.remove`. */
    clearSessionCookie: ClearSessionCookie
  }
  interface FastifyRequest {
    /** The session of this request, or null. The option `decoratorName` changes the name. */
    readonly session: SessionView | null
    /** Why the session is null; null when there is one, or when it was not looked at. Not for clients. */
    readonly sessionRefusal: RefusalReason | null
    /** The end of the session that the request's token once opened; null where there is a session, or none is known. For the host to tell its user. */
    readonly sessionEnd: SessionEnd | null
    /** The token the session came with, for `fastify.sessions.rotate`. Never logged or serialised. */
    readonly sessionToken: string | null
    /** How the token came: by cookie or as a bearer token. */
    readonly sessionSource: SessionSource | null
    /** Calls a listener when this session ends; returns what stops it. Throws DOORMAN_SESSION_INVALID without a session. */
    onSessionEnd: OnSessionEnd
    [requestSession]: RequestSession | null
  }
  interface FastifyReply {
    /** Ends this reply, a stream or hijacked, when the session of its request ends. Throws DOORMAN_SESSION_INVALID without a session. */
    endWithSession: EndWithSession
  }
  interface FastifyContextConfig {
    /** What this route asks of the session. */
    session?: RouteSession
    /** `'allow'`: changes with a cookie may come from any site, whatever the option `crossSite` says. */
    crossSite?: 'allow'
  }
}

// One row per session and touch interval waits at most, so this is the number of sessions that may be in use while the database is locked.
const TOUCHES = { name: 'touches', limit: 100_000, batchSize: 500, linger: 100, wait: 0 }

export default fp<SessionsPluginOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('sessions')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-sessions'])
  const { options, own } = resolveSessionsPlugin(given)
  const { decoratorName, bearer, autoValidate } = own
  const cookie = createSessionCookie(own.cookie, 'sessions.cookie')
  if (fastify.hasRequestDecorator(decoratorName)) {
    throw doormanError('DOORMAN_OPTION_INVALID', ['sessions.decoratorName', 'a name that no other plugin has given to requests', show(decoratorName)])
  }

  const { database } = fastify
  const { storage, clock, random } = database
  database.sessionTimeouts.add(options.idleTimeout)
  const sessions = createSessions({
    storage,
    clock,
    options,
    createQueue (commit) {
      const queue = createRowQueue<SessionTouch>({ ...TOUCHES, commit, clock, random })
      database.registerQueue(TOUCHES.name, queue)
      return queue
    },
    // Asked at each use: the IP tracking may be registered later, or not at all.
    storedAddress: address => (fastify as { ipTracking?: { anonymize (address: string): string } }).ipTracking?.anonymize(address) ?? address,
    onListenerError: (error, event) => fastify.log.error({ err: error, event }, 'a listener of a session event failed')
  })
  const configOf = createRouteConfigReader<FastifyRequest['routeOptions']['config']>()
  const guard = createSessionGuard({
    sessions,
    cookie,
    bearer,
    clock,
    random,
    tellReason: own.tellReason,
    trustedOrigins: own.crossSite === 'allow' ? null : new Set(own.trustedOrigins),
    allowsCrossSite: request => configOf(request as FastifyRequest).crossSite === 'allow',
    serialize,
    log: fastify.log
  })
  const policyOf = createPolicyReader(autoValidate ? OPTIONAL : NOT_LOOKED_AT, options.freshness)

  fastify.decorate('sessions', sessions)
  fastify.decorate<onRequestHookHandler>('requireSession', (request, reply, done) => guard.require(request, reply, REQUIRED, done))
  fastify.decorate('requireFresh', (maxAge: number | string = options.freshness) => {
    const age = parseDuration(maxAge)
    if (age === undefined) throw doormanError('DOORMAN_VALUE_INVALID', ['maxAge', 'a duration in milliseconds or such as "15m"', show(maxAge)])
    const policy = { ...REQUIRED, maxAge: age }
    const hook: onRequestHookHandler = (request, reply, done) => guard.require(request, reply, policy, done)
    return hook
  })
  fastify.decorate('setSessionCookie', guard.setCookie)
  fastify.decorate('clearSessionCookie', guard.clearCookie)

  fastify.decorateRequest(requestSession, null)
  fastify.decorateRequest(decoratorName, { getter (this: FastifyRequest) { return sessionOf(this) } })
  fastify.decorateRequest('sessionRefusal', { getter () { return this[requestSession]?.refusal ?? null } })
  fastify.decorateRequest('sessionEnd', { getter () { return this[requestSession]?.end ?? null } })
  fastify.decorateRequest('sessionToken', { getter () { return this[requestSession]?.token ?? null } })
  fastify.decorateRequest('sessionSource', { getter () { return this[requestSession]?.source ?? null } })

  decorateLive(fastify, sessions)

  fastify.addHook('onRoute', ({ config, method, url }) => {
    const route = `${String(method)} ${url}`
    policyOf(config, route)
    checkRouteCrossSite(route, config?.crossSite)
  })
  fastify.addHook('onRequest', (request, reply, done) => {
    const policy = policyOf(configOf(request), 'this route')
    if (policy.look) guard.look(request, reply, policy, done)
    else done()
  })
}, { name: 'doorman-sessions', fastify: '5.x', dependencies: ['doorman-database'] })
