/**
 * What Fastify knows but does not say, or not without cost: which servers it listens on, how `trustProxy` tells a client's address from a
 * request that no hook has seen, and a route's `config` without a new `routeOptions` for it. All are kept under symbols. Where a release has them no more, less is known and nothing
 * fails: the tests of IP tracking notice.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Chain } from './request-row.js'

const internals = (fastify: object, name: string): unknown[] =>
  Object.getOwnPropertySymbols(fastify).filter(symbol => symbol.description === `fastify.${name}`).map(symbol => (fastify as Record<symbol, unknown>)[symbol])

/** The servers beside the main one; listening on `localhost` makes one per address family. */
export const secondaryServers = (fastify: object): Server[] => internals(fastify, 'serverBindings').flat() as Server[]

/** How an instance takes a client's address. */
export interface ClientAddresses {
  /** Whether `trustProxy` is set. */
  trustsProxies: boolean
  /** What it is set to, where that can be seen. */
  trustProxy: unknown
  /** From the connection of a raw request to its client, as `request.ips` would give it. */
  chainOf (raw: IncomingMessage): Chain
}

const FALLBACK = { prototype: { get ip () { return (this as unknown as { raw: IncomingMessage }).raw.socket.remoteAddress } } }

export function clientAddresses (fastify: object): ClientAddresses {
  // The class of this instance's requests; its `ip` and `ips` need nothing but `raw`. Without `trustProxy` it has no `ips`.
  const [{ prototype } = FALLBACK] = internals(fastify, 'Request') as { prototype: object }[]
  const trustsProxies = 'ips' in prototype
  return {
    trustsProxies,
    trustProxy: optionsOf(fastify)?.['trustProxy'],
    chainOf (raw) {
      const request = Object.assign(Object.create(prototype) as object, { raw }) as { ip?: string, ips?: Chain }
      return request.ips ?? [request.ip]
    }
  }
}

/** What Fastify was called with; only the root instance has it. */
function optionsOf (fastify: object): Record<string, unknown> | undefined {
  const [options] = internals(fastify, 'options') as Record<string, unknown>[]
  const parent = Object.getPrototypeOf(fastify) as object | null
  return options ?? (parent === null ? undefined : optionsOf(parent))
}

/** What a route was given as `config`, and what Fastify adds to it. */
export interface RouteConfig { url?: string | undefined, method?: string | string[] | undefined }

/**
 * Makes what reads the `config` of a request's route. `request.routeOptions` is an object of twelve fields, made anew with each look, which is
 * too much for a hook that runs in every request.
 */
export function createRouteConfigReader<Config extends RouteConfig> (): (request: { routeOptions: { config: Config } }) => Config {
  /** Null where this release of Fastify has none. */
  let context: symbol | null | undefined
  return request => {
    if (context === undefined) context = Object.getOwnPropertySymbols(request).find(symbol => symbol.description === 'fastify.context') ?? null
    return context === null ? request.routeOptions.config : (request as unknown as Record<symbol, { config: Config }>)[context]!.config
  }
}
