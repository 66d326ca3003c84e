/** A request under way: what is kept of it until its row is made, and how it is judged when it is over. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { IpLogRow } from '../storage/storage.js'
import type { RouteTracking } from './ip-tracking-options.js'
import type { Chain, Client } from './request-row.js'
import type { IpLogOutcome } from './vocabulary.js'

/** What is read of a Fastify request. */
export interface TrackedRequest {
  id: string
  ip: string | undefined
  /** Where `trustProxy` is set: from the connection to the client. */
  ips?: Chain | undefined
  raw: IncomingMessage
  routeOptions: { config: { url?: string | undefined, ipTracking?: RouteTracking, abuse?: boolean } }
  clientAddress: string | null
}
/** What is used of a Fastify reply. */
export interface TrackedReply {
  raw: ServerResponse
  sent: boolean
  statusCode: number
  header (name: string, value: string): unknown
}

/** A request of which a row will be made. */
export interface Visit {
  raw: IncomingMessage
  res: ServerResponse
  client: Client
  /** Milliseconds since the epoch. */
  at: number
  /** On the monotonic clock. */
  started: number
  request: TrackedRequest
  reply: TrackedReply
  route: string | null
  /** Whether the pattern of the route is stored for the path. */
  pathless: boolean
  committed: boolean
  /** Whether a place in the queue is held for the row; those that hold one form a list, oldest first. */
  held: boolean
  older: Visit | null
  newer: Visit | null
  /** Whether a place is being waited for. A row that comes earlier is kept here. */
  waiting: boolean
  row: IpLogRow | null
  /** Why the request is refused by us, or how the parser or a timeout ended it. */
  verdict: IpLogOutcome | null
  /** A status that was sent past the response, by whoever wrote to the socket directly. */
  status: number | null
  /** The connection's requests that were sent ahead, this one among them; null where it was not. */
  pipelined: Set<Visit> | null
  done: boolean
}

/** On a raw request: its visit; null when its row is made already or none is wanted; absent when nobody has seen it. */
export const kVisit = Symbol('doorman.visit')
export type SeenMessage = IncomingMessage & {
  [kVisit]?: Visit | null
  /** Set by Node for requests it leaves to an 'upgrade' listener; its types do not know it. */
  upgrade?: boolean
}

/** Counters since start (`outcomes`, `ignored`) and now (`open`). */
export interface TrackerStats {
  /** Requests that have begun and have no row yet. */
  open: number
  /** Requests that ignore rules or their route leave out. */
  ignored: number
  outcomes: Record<IpLogOutcome, number>
}

// ---------------------------------------------------------------- how it ended

/** Fastify's error for a handler that took too long. */
export const HANDLER_TIMEOUT = 'FST_ERR_HANDLER_TIMEOUT'

/** Whether the whole reply was handed to the system. An injected request has no real socket to hand it to. */
export function isComplete (res: ServerResponse): boolean {
  return res.writableEnded && (res.writableFinished || res.req.socket.destroyed !== true)
}

/** Whether it was the client that ended the connection (or the network), rather than this process. */
export function clientLeft (raw: IncomingMessage): boolean {
  // A stream of HTTP/2 has no socket of its own; `aborted` is not about the client in HTTP/1.
  if (raw.httpVersionMajor === 2) return raw.aborted
  const error = raw.socket.errored
  return raw.socket.readableEnded || (error != null && ('syscall' in error || codeOf(error).startsWith('HPE_')))
}

/** How a request ended whose response is closed. */
export function outcomeOf (visit: Visit): IpLogOutcome {
  const { raw, res, verdict, reply } = visit
  if (verdict === 'timeout' || (res.errored != null && codeOf(res.errored) === HANDLER_TIMEOUT)) return 'timeout'
  if (isComplete(res)) return verdict ?? (res.statusCode >= 500 ? 'error' : 'replied')
  if (isTakenOver(raw, res, reply)) return 'replied'
  return verdict ?? (clientLeft(raw) ? 'aborted' : 'error')
}

/** The status that was sent, 0 where none was. */
export function statusOf ({ raw, res, reply }: Visit): number {
  if (res.headersSent) return res.statusCode
  return isTakenOver(raw, res, reply) ? 101 : 0
}

/** A hijacked reply to an upgrade, such as a web socket: its owner writes to the socket directly. */
const isTakenOver = (raw: IncomingMessage, res: ServerResponse, reply: TrackedReply) =>
  raw.headers.upgrade !== undefined && reply.sent && !res.headersSent

/** The code of an error, as text in any case. */
export const codeOf = (error: unknown): string => String((error as { code?: unknown } | null | undefined)?.code)

/** A stream, or what can be ended like one. */
export const isDestroyable = (payload: unknown): payload is { destroy (): void } =>
  typeof payload === 'object' && payload !== null && 'destroy' in payload && typeof payload.destroy === 'function'

/** A reply given as the platform's own Response. */
export const isFetchResponse = (payload: unknown): payload is { status: number } => Object.prototype.toString.call(payload) === '[object Response]'
