/**
 * Who may use which route of the standalone API. Every route says so in `config.access`; one that does not stops the
 * start. Checks API keys here and has sessions checked by the session plugin. Hooks: onRoute, onRequest.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { network } from '../lib/address.js'
import { createApiKeys } from '../lib/api-keys.js'
import type { Clock } from '../lib/clock.js'
import { createFailureLimiter } from '../lib/failure-limiter.js'
import { PUBLIC } from '../routes/access.js'
// For `request.clientAddress`. Not as types only: the emitted declarations would lose it, and with it what it adds to Fastify's.
import './ip-tracking.js'
import type {} from './sessions.js'

export type Access = 'public' | 'session' | 'apiKey'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may use this route of the standalone API. */
    access?: Access
  }
}

export interface AccessOptions {
  apiKeys: readonly string[]
  /** Folders of routes that other plugins add and that anybody may read. A route that says otherwise itself is believed. */
  publicFolders: readonly string[]
  clock: Clock
}

const ACCESS: readonly unknown[] = ['public', 'session', 'apiKey'] satisfies Access[]

// A client that was set up with a wrong key tries again and again: after 20 failures a minute it is told to stop.
const FAILURES = { max: 20, window: 60_000, capacity: 10_000 }

function access (app: FastifyInstance, { apiKeys, publicFolders, clock }: AccessOptions, done: () => void): void {
  const keys = createApiKeys(apiKeys)
  const limiter = createFailureLimiter({ ...FAILURES, clock })

  app.addHook('onRoute', route => {
    const inPublicFolder = () => publicFolders.some(folder => route.url === folder || route.url.startsWith(`${folder}/`))
    if (route.config?.access === undefined && inPublicFolder()) route.config = { ...route.config, ...PUBLIC }
    if (!ACCESS.includes(route.config?.access)) throw doormanError('DOORMAN_ROUTE_UNGUARDED', [String(route.method), route.url])
  })

  app.addHook('onRequest', (request, reply, next) => {
    const { access } = request.routeOptions.config
    // Without one there is no route: the reply will be 404.
    if (access === undefined || access === 'public') return next()
    reply.header('cache-control', 'no-store')
    if (access === 'session') {
      // Demanded here as well: a host's route may have said nothing in `config.session`.
      return app.requireSession(request, reply, next)
    }
    const key = bearer(request)
    if (key !== undefined && keys.has(key)) return next()
    // Only failures are limited. A right key always passes: otherwise one misconfigured client could lock out every
    // other one behind the same address, and keys of 32 characters and more cannot be found by trying.
    const wait = limiter.fail(network(request.clientAddress ?? 'unknown'))
    if (wait === 0) return next(doormanError('DOORMAN_API_KEY_INVALID'))
    const seconds = Math.ceil(wait / 1000)
    reply.header('retry-after', seconds)
    next(doormanError('DOORMAN_RATE_LIMITED', [`${seconds} s`]))
  })
  done()
}

/** The credential of an `Authorization: Bearer` header. */
function bearer (request: FastifyRequest): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
}

export default fp(access, { name: 'doorman-access', fastify: '5.x', dependencies: ['doorman-sessions', 'doorman-ip-tracking'] })
