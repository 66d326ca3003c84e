/**
 * Logs who comes to the door: one row for every request, however it ends, and refuses blocked addresses. Decorates
 * `fastify.ipTracking` and `request.clientAddress`. Hooks: onRoute, onRequest, onError, onSend, onTimeout, onListen, onClose.
 *
 * Register it first after the database: requests that another plugin's onRequest hook answers before are known by less.
 */
import type { Server } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { createAddressCheck } from '../lib/address-check.js'
import { createAnonymizer } from '../lib/anonymizer.js'
import { createBlockList } from '../lib/block-list.js'
import { clientAddresses, secondaryServers } from '../lib/fastify-internals.js'
import { createIpTracking, type IpTracking } from '../lib/ip-tracking.js'
import { checkRouteTracking, resolveIpTracking, type IpTrackingOptions, type RouteTracking } from '../lib/ip-tracking-options.js'
import { createRowMaker } from '../lib/request-row.js'
import { createRequestTracker, type RequestTracker } from '../lib/request-tracker.js'
import { createServerWatch, isHttp1 } from '../lib/server-watch.js'
import type {} from './database.js'

declare module 'fastify' {
  interface FastifyInstance { ipTracking: IpTracking }
  interface FastifyRequest {
    /** The client's address in canonical form, not anonymised; null where it gave none that is valid. */
    clientAddress: string | null
  }
  interface FastifyContextConfig {
    /** `false`: requests of this route leave no row. `{ durability }`: when their rows are stored; `{ path: 'route' }`: without their path. */
    ipTracking?: RouteTracking
  }
}

const NAME = 'doorman-ip-tracking'
const kTracker = Symbol('doorman.tracker')
type Tracked = FastifyInstance & { [kTracker]?: RequestTracker }

async function ipTracking (fastify: FastifyInstance, given: IpTrackingOptions) {
  if (fastify.hasDecorator('ipTracking')) throw doormanError('DOORMAN_ALREADY_REGISTERED', [NAME])
  const settings = resolveIpTracking(given)
  const { storage, log: queue, clock, random } = fastify.database
  const anonymizer = createAnonymizer({ mode: settings.anonymization, clock })
  const makeRow = createRowMaker(anonymizer, settings.userAgentLimit)
  const blocks = createBlockList({ storage, clock, random, onError: err => fastify.log.warn({ err }, 'blocked addresses could not be read again: those known stay in force') })
  await blocks.load()

  // Child instances inherit the server: what happens at it belongs to the root.
  const isRoot = Object.hasOwn(fastify, 'server')
  const server = fastify.server as Server
  const requiresHost = isRoot && isHttp1(server) && server.requireHostHeader
  const addresses = clientAddresses(fastify)
  const check = settings.addressCheck
    ? createAddressCheck({ addresses, shown: anonymizer.apply, clock, tell: ({ code, message, fix }) => fastify.log.warn({ code }, `${message}. ${fix}`) })
    : null

  const tracker = createRequestTracker({
    settings,
    queue,
    makeRow,
    blocks: settings.blocking ? blocks : null,
    clock,
    chainOf: addresses.chainOf,
    trustsProxies: addresses.trustsProxies,
    requiresHost,
    addressWatch: check === null ? null : check.watch,
    onError: err => fastify.log.error({ err }, 'what follows a request failed')
  })
  const watch = createServerWatch(tracker, clock)

  fastify.decorate('ipTracking', createIpTracking({ storage, queue, blocks, anonymizer, makeRow, durability: settings.durability, clock, onRequestEnd: tracker.onRequestEnd, check: () => check === null ? [] : check.findings(), stats: tracker.stats }))
  fastify.decorate(kTracker, tracker)
  fastify.decorateRequest('clientAddress', null)

  fastify.addHook('onRoute', route => {
    const { method, url, config } = route
    checkRouteTracking(`${method} ${url}`, config?.ipTracking)
    const tracking = config?.ipTracking
    if (settings.durability !== 'committed' && tracking !== undefined && tracking !== false && tracking.durability === 'committed') {
      route.onSend = [tracker.beforeSend, route.onSend ?? []].flat()
    }
  })
  fastify.addHook('onRequest', tracker.begin)
  fastify.addHook('onError', tracker.failed)
  // Each hook costs every request something: this one is there only where a row may have to be stored before a reply.
  if (settings.durability === 'committed') fastify.addHook('onSend', tracker.beforeSend)
  if (fastify.initialConfig.connectionTimeout !== 0) {
    fastify.addHook('onTimeout', (request, _reply, done) => {
      tracker.timedOut(request.raw)
      done()
    })
  }
  if (isRoot) {
    // Node would answer these itself, without any event.
    if (isHttp1(server)) server.requireHostHeader = false
    watch.add(server)
    fastify.addHook('onListen', done => {
      watch.listening(server, secondaryServers(fastify))
      done()
    })
  }
  fastify.addHook('onClose', (_instance, done) => {
    watch.close()
    anonymizer.close()
    done()
  })
}

/**
 * For Fastify's `frameworkErrors` option: records requests that Fastify refuses before any hook, with the address a trusted
 * proxy tells, then sends the usual reply. Without it they are recorded as well, but with no request id.
 */
export function frameworkErrors (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { [kTracker]: tracker } = request.server as Tracked
  const stored = tracker?.refuse(request.raw, request.id, error.statusCode ?? 500)
  if (stored === undefined) reply.send(error)
  else stored.then(() => reply.send(error), failure => reply.send(failure))
}

export default fp(ipTracking, { name: NAME, fastify: '5.x', dependencies: ['doorman-database'] })
