/**
 * Everything as one plugin: registers the parts in the order they depend on each other, which is also, backwards, the order
 * in which they close. Any part but the database can be left out with `false`.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AbuseOptions } from '../lib/abuse-options.js'
import type { IpTrackingOptions } from '../lib/ip-tracking-options.js'
import { option, resolveOptions } from '../lib/options.js'
import abuse from './abuse.js'
import activity, { type ActivityOptions } from './activity.js'
import cleanup, { type CleanupOptions } from './cleanup.js'
import database, { type DatabaseOptions } from './database.js'
import ipTracking from './ip-tracking.js'
import metrics, { type MetricsOptions } from './metrics.js'
import replyBatching from './reply-batching.js'
import sessions, { type SessionsPluginOptions } from './sessions.js'

/** Options of each part, as that part alone takes them; `false` leaves it out. */
export interface DoormanOptions {
  database?: DatabaseOptions
  ipTracking?: IpTrackingOptions | false
  sessions?: SessionsPluginOptions | false
  /** Needs `ipTracking`: without that it is left out by itself. */
  abuse?: AbuseOptions | false
  activity?: ActivityOptions | false
  cleanup?: CleanupOptions | false
  /** Default: `{ path: null }`, so that `fastify.metrics` is there but no route. */
  metrics?: MetricsOptions | false
  /** Whether the replies of one turn of the event loop are sent together. Default: true. */
  replyBatching?: boolean
}

const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
const part = <T extends object>(fallback: T) => option.custom<T | false>(fallback, 'an object, or false', value => value === false || isObject(value))

const specs = {
  database: option.custom<DatabaseOptions>({}, 'an object', isObject),
  ipTracking: part<IpTrackingOptions>({}),
  sessions: part<SessionsPluginOptions>({}),
  abuse: part<AbuseOptions>({}),
  activity: part<ActivityOptions>({}),
  cleanup: part<CleanupOptions>({}),
  metrics: part<MetricsOptions>({ path: null }),
  replyBatching: option.boolean(true)
}

async function doorman (app: FastifyInstance, given: DoormanOptions) {
  const options = resolveOptions('doorman', given, specs)
  await app.register(database, options.database)
  if (options.ipTracking !== false) await app.register(ipTracking, options.ipTracking)
  if (options.sessions !== false) await app.register(sessions, options.sessions)
  // These two after the sessions, whose events they hear. What is asked for, but cannot be, is said at boot.
  if (options.abuse !== false && (options.ipTracking !== false || given.abuse !== undefined)) await app.register(abuse, options.abuse)
  if (options.activity !== false) await app.register(activity, options.activity)
  if (options.cleanup !== false) await app.register(cleanup, options.cleanup)
  if (options.metrics !== false) await app.register(metrics, options.metrics)
  if (options.replyBatching) await app.register(replyBatching)
}

export default fp(doorman, { name: 'doorman', fastify: '5.x' })
