/**
 * What is known of a request becomes the row that is stored: strings cleaned and bounded, the address in the form that may
 * be stored, nothing of the query, of headers with secrets, or of bodies.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { MAX_TRUSTED_HOPS, type IpLogRow } from '../storage/storage.js'
import { normaliseAddress } from './address.js'
import type { Anonymizer } from './anonymizer.js'
import { clean, cleanHeader, originOf, pathOf } from './text.js'
import { hideTokens } from './token.js'
import type { IpLogOutcome, IpSource } from './vocabulary.js'

/** Bounds of stored strings, in code points. User agents have an option. */
export const LIMITS = { method: 32, path: 1000, route: 500, referer: 300, requestId: 200, userId: 255, sessionId: 200 } as const

/** Who a request comes from, as far as is known. Addresses are canonical and not anonymised. */
export interface Client {
  address: string | null
  source: IpSource
  /** The other end of the connection where it is not the client: a proxy. */
  peer: string | null
  peerPort: number | null
  /** Trusted proxies between the client and us, 0 to MAX_TRUSTED_HOPS. */
  trustedHops: number
}

/**
 * Works out the client.
 * @param told the address as the server was told it: the socket's, or the one of a trusted proxy's header
 * @param hops proxies that were trusted on the way to it
 */
export function clientOf (told: string | undefined, socket: Socket, hops = 0): Client {
  const { remoteAddress: peerText, remotePort: peerPort = null } = socket
  if (told === undefined) return { address: null, source: 'none', peer: null, peerPort, trustedHops: 0 }
  const address = normaliseAddress(told)
  if (told === peerText) return { address, source: address === null ? 'none' : 'socket', peer: null, peerPort, trustedHops: 0 }
  const peer = peerText === undefined ? null : normaliseAddress(peerText)
  return { address, source: address === null ? 'rejected' : 'forwarded', peer: peer === address ? null : peer, peerPort, trustedHops: Math.min(hops, MAX_TRUSTED_HOPS) }
}

const kClient = Symbol('doorman.client')

/** The client at the other end of a connection: the same object for all of its requests, which nobody changes. */
export function clientAt (socket: Socket & { [kClient]?: Client }): Client {
  const known = socket[kClient]
  if (known !== undefined) return known
  const client = clientOf(socket.remoteAddress, socket)
  // Only what cannot change: one that is gone already has no address.
  if (client.address !== null) socket[kClient] = client
  return client
}

/** Addresses from the connection to the client, all but the last trusted: Fastify's `request.ips`. Undefined is a peer without one. */
export type Chain = readonly (string | undefined)[]

/** The client at the end of a chain. */
export function clientBehind (chain: Chain, socket: Socket): Client {
  const hops = chain.length - 1
  return clientOf(chain[hops], socket, hops)
}

/** What a row says beside the client and the request itself. Times in ms; `duration` may be fractional. */
export interface RowFacts {
  at: number
  duration: number
  status: number
  outcome: IpLogOutcome
  route: string | null
  requestId: string | null
  sessionId: string | null
  userId: string | null
}

/** The parts of a request that are read here; a request the parser refused has no more than a line, if that. */
export interface RequestHead {
  method: string
  /** The request target as it was sent. */
  target: string
  userAgent: string | undefined
  referer: string | undefined
}

/** Servers that rewrite URLs keep the one that was asked for. */
type WithOriginal = IncomingMessage & { originalUrl?: string }

/** The request target a client sent. */
export const targetOf = (raw: IncomingMessage): string => (raw as WithOriginal).originalUrl ?? raw.url!

export function headOf (raw: IncomingMessage): RequestHead {
  return { method: raw.method!, target: targetOf(raw), userAgent: raw.headers['user-agent'], referer: raw.headers.referer }
}

export interface RowMaker {
  (client: Client, head: RequestHead, facts: RowFacts): IpLogRow
}

/**
 * Makes rows.
 * @param userAgentLimit longest user agent that is stored, in code points
 */
export function createRowMaker (anonymizer: Anonymizer, userAgentLimit: number): RowMaker {
  const anonymous = anonymizer.mode !== 'none'
  const stored = (address: string | null) => address === null ? null : anonymizer.apply(address)

  return (client, head, facts) => ({
    kind: 'ip',
    at: facts.at,
    ip: stored(client.address),
    ipSource: client.source,
    peerIp: stored(client.peer),
    // With the exact time, a port finds a subscriber behind carrier-grade NAT.
    peerPort: anonymous ? null : client.peerPort,
    trustedHops: client.trustedHops,
    method: clean(head.method, LIMITS.method),
    path: clean(hideTokens(pathOf(head.target)), LIMITS.path),
    route: facts.route === null ? null : clean(facts.route, LIMITS.route),
    status: facts.status,
    durationUs: Math.max(0, Math.round(facts.duration * 1000)),
    userAgent: head.userAgent === undefined ? null : cleanHeader(head.userAgent, userAgentLimit),
    referer: head.referer === undefined ? null : originOf(head.referer, LIMITS.referer),
    sessionId: facts.sessionId,
    userId: facts.userId,
    requestId: facts.requestId === null ? null : clean(facts.requestId, LIMITS.requestId),
    outcome: facts.outcome
  })
}
