/**
 * What Fastify knows but does not say: which servers it listens on, and how `trustProxy` tells a client's address from a
 * request that no hook has seen. Both are kept under symbols. Where a release has them no more, less is known and nothing
 * fails: the tests of IP tracking notice.
 */
import type { IncomingMessage, Server } from 'node:http'

const internals = (fastify: object, name: string): unknown[] =>
  Object.getOwnPropertySymbols(fastify).filter(symbol => symbol.description === `fastify.${name}`).map(symbol => (fastify as Record<symbol, unknown>)[symbol])

/** The servers beside the main one; listening on `localhost` makes one per address family. */
export const secondaryServers = (fastify: object): Server[] => internals(fastify, 'serverBindings').flat() as Server[]

/** How an instance takes a client's address. */
export interface ClientAddresses {
  /** Whether `trustProxy` is set. */
  trustsProxies: boolean
  /** The address of a raw request, as `request.ip` would give it. */
  addressOf (raw: IncomingMessage): string | undefined
}

const FALLBACK = { prototype: { get ip () { return (this as unknown as { raw: IncomingMessage }).raw.socket.remoteAddress } } }

export function clientAddresses (fastify: object): ClientAddresses {
  // The class of this instance's requests; its `ip` needs nothing but `raw`.
  const [{ prototype } = FALLBACK] = internals(fastify, 'Request') as { prototype: object }[]
  let getters = 0
  for (let level: object | null = prototype; level !== null; level = Object.getPrototypeOf(level) as object | null) getters += Number(Object.hasOwn(level, 'ip'))
  return {
    // Fastify puts a second getter in front of its own.
    trustsProxies: getters > 1,
    addressOf: raw => (Object.assign(Object.create(prototype) as object, { raw }) as { ip?: string }).ip
  }
}
