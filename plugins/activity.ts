/**
 * The users' trail: decorates `fastify.activity` and `request.recordActivity`. Where the sessions plugin is registered before,
 * logins and what else happens to sessions are recorded. Hooks: onClose.
 */
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { createActivity, recordSessionEvents, type Activity } from '../lib/activity.js'
import { option, resolveOptions } from '../lib/options.js'
import { sessionOf } from '../lib/request-session.js'
import type {} from './database.js'
import type {} from './ip-tracking.js'

declare module 'fastify' {
  interface FastifyInstance { activity: Activity }
  interface FastifyRequest {
    /**
     * Records something the user of this request's session did.
     * @throws DOORMAN_SESSION_INVALID without a session, DOORMAN_VALUE_INVALID
     */
    recordActivity (action: string, detail?: Record<string, unknown>): void
  }
}

/** Options of the `activity` plugin. */
export interface ActivityOptions {
  /** Whether what happens to sessions is recorded. Default: true. */
  sessionEvents?: boolean
}

const NAME = 'doorman-activity'

export default fp<ActivityOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('activity')) throw doormanError('DOORMAN_ALREADY_REGISTERED', [NAME])
  const { sessionEvents } = resolveOptions('activity', given, { sessionEvents: option.boolean(true) })
  const { storage, log: queue, clock } = fastify.database
  const activity = createActivity({
    storage,
    queue,
    clock,
    // Asked at each use: the IP tracking may be registered later, or not at all.
    storedAddress: address => fastify.hasDecorator('ipTracking') ? fastify.ipTracking.anonymize(address) : address
  })
  fastify.decorate('activity', activity)
  fastify.decorateRequest('recordActivity', function (this: FastifyRequest, action: string, detail?: Record<string, unknown>) {
    const session = sessionOf(this)
    if (session === null) throw doormanError('DOORMAN_SESSION_INVALID')
    activity.record({ userId: session.userId, sessionId: session.id, action, ip: this.clientAddress ?? null, detail: detail ?? null })
  })
  if (!sessionEvents || !fastify.hasDecorator('sessions')) return
  const stop = recordSessionEvents(activity, fastify.sessions)
  fastify.addHook('onClose', (_instance, done) => {
    stop()
    done()
  })
}, { name: NAME, fastify: '5.x', dependencies: ['doorman-database'] })
