/**
 * Signals of abuse: bursts of 404, tokens tried, many users from one address; on demand a temporary block. Decorates `fastify.abuse`. Needs the IP
 * tracking; logins are watched where the sessions plugin is registered before. Hooks: onRoute, onClose. The work is in `lib/abuse.ts`.
 */
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { checkRouteAbuse, resolveAbuse, type AbuseOptions } from '../lib/abuse-options.js'
import { createAbuse, type Abuse } from '../lib/abuse.js'
// For `fastify.ipTracking`. Not as types only: see plugins/access.ts.
import './ip-tracking.js'
import type {} from './database.js'
import type {} from './sessions.js'

declare module 'fastify' {
  interface FastifyInstance { abuse: Abuse }
  interface FastifyContextConfig {
    /** `false`: requests of this route count for no signal, such as look-ups whose usual answer is 404; not those passed on with `reply.callNotFound()`. */
    abuse?: boolean
  }
}

const NAME = 'doorman-abuse'

export default fp<AbuseOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('abuse')) throw doormanError('DOORMAN_ALREADY_REGISTERED', [NAME])
  const { ipTracking, database, log } = fastify
  const { anonymize, anonymizeNetwork, blocks } = ipTracking
  const { service, requestEnded, sessionCreated } = createAbuse({ options: resolveAbuse(given), blocks, clock: database.clock, anonymize, anonymizeNetwork, log })
  fastify.decorate('abuse', service)
  fastify.addHook('onRoute', ({ method, url, config }) => checkRouteAbuse(`${String(method)} ${url}`, config?.abuse))
  ipTracking.onRequestEnd((status, _duration, request) => requestEnded(status, request))

  if (!fastify.hasDecorator('sessions')) return
  const { sessions } = fastify
  sessions.on('session_created', sessionCreated)
  fastify.addHook('onClose', (_instance, done) => {
    sessions.off('session_created', sessionCreated)
    done()
  })
}, { name: NAME, fastify: '5.x', dependencies: ['doorman-database', 'doorman-ip-tracking'] })
