/**
 * Numbers for Prometheus: the database, its queues, the cleanup, sessions and addresses where those plugins are there,
 * requests, the event loop, memory. Decorates `fastify.metrics`; hook: onResponse, without the IP tracking only. The names are in `lib/metrics.ts`.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError, show } from '../errors.js'
import type { AddressFinding } from '../lib/address-check.js'
import { abuseMetrics, addressMetrics, cleanupMetrics, databaseMetrics, eventLoopMetrics, processMetrics, requestMetrics, sessionMetrics, trackerMetrics } from '../lib/metrics.js'
import type { AbuseStats } from '../lib/abuse.js'
import { option, resolveOptions } from '../lib/options.js'
import { createHistogram, PROMETHEUS_CONTENT_TYPE, renderMetrics, type MetricFamily } from '../lib/prometheus.js'
import type { RequestListener, TrackerStats } from '../lib/request-tracker.js'
import type { SessionStats } from '../lib/session-types.js'
import type {} from './database.js'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Metrics
  }
}

export interface MetricsOptions {
  /** Where the text is served; null: no route. Default '/metrics'. */
  path?: string | null
  /** onRequest hook(s) that protect the route. Must be given where there is one: `false` leaves it open to everybody. */
  guard?: onRequestHookHandler | readonly onRequestHookHandler[] | false
}

const isFunction = (value: unknown) => typeof value === 'function'
const isGuard = (value: unknown) => value === false || isFunction(value) || (Array.isArray(value) && value.length > 0 && value.every(isFunction))
const GUARD = 'an onRequest hook, a list of them, or false (the route is then open to everybody)'

const specs = {
  path: option.custom<string | null>('/metrics', 'a path that starts with "/", or null', value => value === null || (typeof value === 'string' && value.startsWith('/'))),
  guard: option.custom<MetricsOptions['guard'] | null>(null, GUARD, isGuard)
}

/** Bounds of the histogram of request durations; those that Prometheus clients use by default. */
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** What `fastify.metrics` offers. */
export interface Metrics {
  /** Everything in the Prometheus text format. Never rejects because the database is unwell: its numbers are then missing. */
  render (): Promise<string>
  /** Content type of that text. */
  readonly contentType: string
}

/** Plugins that may be there or not, in whatever order they are registered. */
interface Others {
  abuse?: { stats (): AbuseStats }
  sessions?: { stats (): SessionStats }
  ipTracking?: { stats (): TrackerStats, check (): AddressFinding[], onRequestEnd (listener: RequestListener): void }
}

async function metrics (fastify: FastifyInstance, given: MetricsOptions) {
  if (fastify.hasDecorator('metrics')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-metrics'])
  const { path, guard } = resolveOptions('metrics', given, specs)
  if (path !== null && guard === null) throw doormanError('DOORMAN_OPTION_INVALID', ['metrics.guard', GUARD, show(given.guard)])

  const startedAt = fastify.database.clock() - process.uptime() * 1000

  // By the first digit of the status, whatever it is: a hijacked reply may have sent any.
  const requests = Array.from({ length: 10 }, () => createHistogram(REQUEST_SECONDS))
  const observe = (status: number, ms: number) => requests[Math.trunc(status / 100)]!.observe(ms / 1000)
  const { ipTracking: tracking } = fastify as Others
  // The IP tracking watches every request already; a hook of our own would make Fastify do so once more.
  if (tracking !== undefined) {
    tracking.onRequestEnd(observe)
  } else {
    fastify.addHook('onResponse', (request: FastifyRequest, reply: FastifyReply, done: () => void) => {
      observe(reply.statusCode, reply.elapsedTime)
      done()
    })
  }

  async function database (): Promise<MetricFamily[]> {
    try {
      return databaseMetrics(await fastify.database.stats())
    } catch (err) {
      fastify.log.warn({ err }, 'The database did not tell its numbers; they are missing in the metrics')
      return databaseMetrics(null)
    }
  }

  async function render (): Promise<string> {
    const { abuse, sessions, ipTracking } = fastify as Others
    return renderMetrics([
      ...await database(),
      ...cleanupMetrics(fastify.database.lastCleanup),
      ...(sessions === undefined ? [] : sessionMetrics(sessions.stats())),
      ...(ipTracking === undefined ? [] : [...trackerMetrics(ipTracking.stats()), ...addressMetrics(ipTracking.check())]),
      ...(abuse === undefined ? [] : abuseMetrics(abuse.stats())),
      ...requestMetrics(requests),
      ...eventLoopMetrics(fastify.database.eventLoopDelay),
      ...processMetrics(process.memoryUsage(), startedAt)
    ])
  }
  fastify.decorate('metrics', { render, contentType: PROMETHEUS_CONTENT_TYPE })

  if (path === null) return
  fastify.get(path, { onRequest: guard === false ? [] : [guard].flat() as onRequestHookHandler[] }, async (request, reply) => {
    reply.type(PROMETHEUS_CONTENT_TYPE)
    return render()
  })
}

export default fp(metrics, { name: 'doorman-metrics', fastify: '5.x', dependencies: ['doorman-database'] })
