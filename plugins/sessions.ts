/**
 * Sessions for routes: decorates `fastify.sessions` (the service), `request.session` and its companions, `fastify.requireSession`,
 * `fastify.requireFresh`, and what sets and clears the cookie. Needs the database plugin. Hooks: onRoute, onRequest.
 */
import { serialize } from 'cookie'
import type { FastifyRequest, FastifyReply, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError, show } from '../errors.js'
import { parseDuration } from '../lib/duration.js'
import { createRouteConfigReader } from '../lib/fastify-internals.js'
import { option, resolveOptions } from '../lib/options.js'
import { requestSession, sessionOf, type RequestSession, type SessionSource } from '../lib/request-session.js'
import { createRowQueue } from '../lib/row-queue.js'
import { createSessionCookie, type SessionCookieOptions } from '../lib/session-cookie.js'
import { createSessionGuard } from '../lib/session-guard.js'
import { resolveSessionOptions, sessionOptionSpecs, type SessionOptions } from '../lib/session-options.js'
import { createPolicyReader, NOT_LOOKED_AT, OPTIONAL, REQUIRED, type RouteSession } from '../lib/session-policy.js'
import type { SessionView } from '../lib/session-types.js'
import { createSessions, type Sessions } from '../lib/sessions.js'
import type { RefusalReason } from '../lib/vocabulary.js'
import type { SessionTouch } from '../storage/storage.js'
import type {} from './database.js'

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
    /** The token the session came with, for `fastify.sessions.rotate`. Never logged or serialised. */
    readonly sessionToken: string | null
    /** How the token came: by cookie or as a bearer token. */
    readonly sessionSource: SessionSource | null
    [requestSession]: RequestSession | null
  }
  interface FastifyContextConfig {
    /** What this route asks of the session. */
    session?: RouteSession
  }
}

/** Options of the `sessions` plugin, besides those of the service. */
export interface SessionsPluginOptions extends SessionOptions {
  /** Name of `request.session`, for hosts where another plugin has it. Default 'session'. */
  decoratorName?: string
  cookie?: SessionCookieOptions
  /** Whether tokens are accepted as `Authorization: Bearer dm_…`. Default true. */
  bearer?: boolean
  /** Whether the session is looked at on routes that do not say so in `config.session`. Default true. */
  autoValidate?: boolean
}

const specs = {
  decoratorName: option.text('session', /^[a-z_$][\w$]*$/i, 'a name such as "session"'),
  cookie: option.custom<SessionCookieOptions>({}, 'an object', () => true),
  bearer: option.boolean(true),
  autoValidate: option.boolean(true)
}
// One row per session and touch interval waits at most, so this is the number of sessions that may be in use while the database is locked.
const TOUCHES = { name: 'touches', limit: 100_000, batchSize: 500, linger: 100, wait: 0 }

export default fp<SessionsPluginOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('sessions')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-sessions'])
  // Read together first, so that an unknown name is reported with all names there are.
  const { decoratorName, cookie: cookieOptions, bearer, autoValidate } = resolveOptions('sessions', given, { ...sessionOptionSpecs, ...specs })
  const serviceOptions = Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(sessionOptionSpecs, name)))
  const options = resolveSessionOptions(serviceOptions)
  const cookie = createSessionCookie(cookieOptions, 'sessions.cookie')
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
  const guard = createSessionGuard({ sessions, cookie, bearer, clock, serialize, log: fastify.log })
  const configOf = createRouteConfigReader<FastifyRequest['routeOptions']['config']>()
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
  fastify.decorateRequest('sessionToken', { getter () { return this[requestSession]?.token ?? null } })
  fastify.decorateRequest('sessionSource', { getter () { return this[requestSession]?.source ?? null } })

  fastify.addHook('onRoute', route => { policyOf(route.config, `${String(route.method)} ${route.url}`) })
  fastify.addHook('onRequest', (request, reply, done) => {
    const policy = policyOf(configOf(request), 'this route')
    if (policy.look) guard.look(request, reply, policy, done)
    else done()
  })
}, { name: 'doorman-sessions', fastify: '5.x', dependencies: ['doorman-database'] })
