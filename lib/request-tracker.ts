/**
 * One row for every request, however it ends.
 *
 * A request is opened by the first hook, with a place for its row in the queue, and closed by the response's 'close' event:
 * the one thing Node emits for every response it began, whether it was sent, cut off, or taken over. Requests that no hook
 * ever sees are told by `server-watch.ts` and `frameworkErrors` (see `outside-requests.ts`). A mark on the raw request makes
 * it one row, whoever comes first.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { doormanError, RETRY_AFTER_SECONDS } from '../errors.js'
import type { IpLogRow } from '../storage/storage.js'
import type { AddressWatch } from './address-check.js'
import type { BlockList } from './block-list.js'
import { createRouteConfigReader } from './fastify-internals.js'
import { createHeldPlaces } from './held-places.js'
import { createOutsideRequests, type OutsideRequestsOptions } from './outside-requests.js'
import { clientAt, clientBehind, clientOf, headOf, targetOf } from './request-row.js'
import { sessionOf } from './request-session.js'
import { codeOf, HANDLER_TIMEOUT, isDestroyable, isFetchResponse, kVisit, outcomeOf, statusOf, type SeenMessage, type TrackedReply, type TrackedRequest, type TrackerStats, type Visit } from './visit.js'
import { IP_LOG_OUTCOMES, type IpLogOutcome } from './vocabulary.js'

export type { TrackerStats } from './visit.js'

type Done = (error?: Error) => void

export interface RequestTrackerOptions extends OutsideRequestsOptions {
  /** Null where nothing is ever blocked. */
  blocks: BlockList | null
  /** True where HTTP/1.1 requests without a Host header are to be refused here, because Node was told to let them through. */
  requiresHost: boolean
  /** Whether Fastify's `trustProxy` is set. */
  trustsProxies: boolean
  /** Is shown the requests that will have a row, until it wants to see no more; null where nobody looks. */
  addressWatch: AddressWatch | null
  /** Told of a fault in writing a row, or of a listener's; the request goes on. */
  onError (error: unknown): void
}

/** Told of a reply that is over: its status, ms since the request began, and the request with its `clientAddress` (null: not known). */
export type RequestListener = (status: number, duration: number, request: TrackedRequest) => void

const kPipelined = Symbol('doorman.pipelined')
type PipelineSocket = Socket & { [kPipelined]?: Set<Visit> }

const HOUSEKEEPING_INTERVAL = 1000

export type RequestTracker = ReturnType<typeof createRequestTracker>

export function createRequestTracker (options: RequestTrackerOptions) {
  const { settings, queue, makeRow, blocks, clock, requiresHost, trustsProxies, onError } = options
  const { ignores } = settings
  const committedByDefault = settings.durability === 'committed'
  const places = createHeldPlaces(queue)
  const configOf = createRouteConfigReader<TrackedRequest['routeOptions']['config']>()
  const counters: TrackerStats = { open: 0, ignored: 0, outcomes: Object.fromEntries(IP_LOG_OUTCOMES.map(outcome => [outcome, 0])) as TrackerStats['outcomes'] }
  let { addressWatch } = options
  let keptHouseAt = 0
  const listeners: RequestListener[] = []

  // ------------------------------------------------------------ the beginning

  /** The first hook of a request. Calls `done`, or returns a promise where there is something to wait for. */
  function begin (request: TrackedRequest, reply: TrackedReply, done: Done): Promise<void> | void {
    const raw: SeenMessage = request.raw
    const at = clock()
    // Either way: clocks are set back, too.
    if (Math.abs(at - keptHouseAt) >= HOUSEKEEPING_INTERVAL) keepHouse(at)

    // In HTTP/2 a request has no socket of its own.
    const client = trustsProxies ? clientBehind(request.ips!, raw.socket) : raw.httpVersionMajor === 1 ? clientAt(raw.socket) : clientOf(request.ip, raw.socket)
    const { address } = client
    request.clientAddress = address
    // A host may route a request a second time.
    if (raw[kVisit] !== undefined) return done()
    let verdict: IpLogOutcome | null = null
    if (blocks !== null && address !== null && blocks.match(address, at) !== null) verdict = 'blocked'
    else if (requiresHost && raw.headers.host === undefined && raw.httpVersionMajor === 1 && raw.httpVersionMinor === 1) verdict = 'refused'

    const { url, ipTracking: tracking } = configOf(request)
    if (tracking === false || (ignores !== null && ignores(targetOf(raw), address))) {
      counters.ignored++
      raw[kVisit] = null
      if (listeners.length > 0) tellWhenClosed(reply.raw, request)
      return done(refusal(verdict, reply))
    }
    if (addressWatch !== null && !addressWatch(client, raw, at)) addressWatch = null

    const visit: Visit = {
      raw,
      res: reply.raw,
      client,
      at,
      started: performance.now(),
      request,
      reply,
      route: url ?? null,
      pathless: tracking?.path === 'route',
      committed: tracking?.durability === undefined ? committedByDefault : tracking.durability === 'committed',
      held: false,
      older: null,
      newer: null,
      waiting: false,
      row: null,
      verdict,
      status: null,
      pipelined: null,
      done: false
    }
    raw[kVisit] = visit
    counters.open++
    reply.raw.on('close', responseClosed)
    // The response to an upgrade is made by the host, not by Node, and may be told of its end only with the connection's.
    if (raw.upgrade) reply.raw.on('finish', responseFinished)
    if (reply.raw.socket === null) watchSocket(visit)
    if (!queue.reserve()) return waitForRoom(visit)
    places.hold(visit)
    done(refusal(verdict, reply))
  }

  /** A pipelined response has no socket until its turn comes: if the client leaves before that, it gets none, and no event. */
  function watchSocket (visit: Visit) {
    const socket: PipelineSocket = visit.raw.socket
    // One listener per connection: a client may send hundreds of requests ahead.
    const waiting = socket[kPipelined] ??= socket.once('close', () => {
      for (const visit of waiting) {
        if (visit.res.socket === null) visit.status = 0
        complete(visit)
      }
    }) && new Set<Visit>()
    waiting.add(visit)
    visit.pipelined = waiting
  }

  /** Why a request may not go on, if it may not. */
  function refusal (verdict: IpLogOutcome | null, reply: TrackedReply): Error | undefined {
    if (verdict === null) return undefined
    if (verdict === 'blocked') return doormanError('DOORMAN_ADDRESS_BLOCKED')
    reply.header('connection', 'close')
    return doormanError('DOORMAN_REQUEST_REFUSED', ['The Host header is missing'])
  }

  async function waitForRoom (visit: Visit): Promise<void> {
    visit.waiting = true
    const got = await queue.waitForRoom()
    visit.waiting = false
    if (got) places.hold(visit)
    if (visit.row !== null) places.store(visit, visit.row)
    const error = got || !visit.committed ? refusal(visit.verdict, visit.reply) : notStored(visit)
    if (error !== undefined) throw error
  }

  /** The answer in place of a reply whose row was not stored. Its own row is tried like a queued one. */
  function notStored (visit: Visit, error: unknown = doormanError('DOORMAN_ROW_NOT_STORED')): unknown {
    visit.committed = false
    // Its code, too: where the reply is an error already, Fastify would keep that one's.
    visit.reply.statusCode = 503
    visit.reply.header('retry-after', RETRY_AFTER_SECONDS)
    return error
  }

  /** Things to be done now and then, prompted by requests so that no timer is needed. */
  function keepHouse (now: number) {
    keptHouseAt = now
    blocks?.refresh(now)
    places.giveBackOld(now)
  }

  // ------------------------------------------------------------ the end

  // Nobody but `begin` adds these, and nothing takes the visit away again. They are called by events of the server's own, where an exception
  // would end the process: `tell` and `complete` let none through.
  function responseClosed (this: ServerResponse) {
    const visit = (this.req as SeenMessage)[kVisit]!
    if (listeners.length > 0) tell(this, visit.started, visit.request)
    complete(visit)
  }

  function responseFinished (this: ServerResponse) {
    complete((this.req as SeenMessage)[kVisit]!)
  }

  function tell (res: ServerResponse, started: number, request: TrackedRequest) {
    const duration = performance.now() - started
    for (const listener of listeners) {
      try {
        listener(res.statusCode, duration, request)
      } catch (error) {
        onError(error)
      }
    }
  }

  function tellWhenClosed (res: ServerResponse, request: TrackedRequest) {
    const started = performance.now()
    res.once('close', () => tell(res, started, request))
  }

  /** Makes the row of a request that is over. The second call does nothing. */
  function complete (visit: Visit) {
    if (visit.done) return
    try {
      const outcome = outcomeOf(visit)
      const row = makeVisitRow(visit, visit.status ?? statusOf(visit), outcome)
      finish(visit, outcome)
      if (visit.waiting) visit.row = row
      else places.store(visit, row)
    } catch (error) {
      onError(error)
    }
  }

  function finish (visit: Visit, outcome: IpLogOutcome) {
    visit.done = true
    visit.pipelined?.delete(visit)
    counters.open--
    counters.outcomes[outcome]++
  }

  function makeVisitRow (visit: Visit, status: number, outcome: IpLogOutcome): IpLogRow {
    const session = sessionOf(visit.request)
    const head = headOf(visit.raw)
    if (visit.pathless) head.target = visit.route!
    return makeRow(visit.client, head, {
      at: visit.at,
      duration: performance.now() - visit.started,
      status,
      outcome,
      route: visit.route,
      requestId: visit.request.id,
      sessionId: session === null ? null : session.id,
      userId: session === null ? null : session.userId
    })
  }

  /**
   * The hook before a reply leaves: where the row must be stored first, it is, and the reply waits for the promise. The row
   * then says what is about to be sent.
   */
  function beforeSend (request: TrackedRequest, reply: TrackedReply, payload: unknown, done: Done): Promise<void> | void {
    const visit = (request.raw as SeenMessage)[kVisit]
    if (visit === undefined || visit === null || !visit.committed || visit.done) return done()
    return commit(visit, reply, payload)
  }

  async function commit (visit: Visit, reply: TrackedReply, payload: unknown): Promise<void> {
    const status = isFetchResponse(payload) ? payload.status : reply.statusCode
    const outcome = visit.verdict ?? (status >= 500 ? 'error' : 'replied')
    // From here on it is this row, whatever becomes of the reply; only if it is not even queued there is another.
    visit.done = true
    const row = makeVisitRow(visit, status, outcome)
    try {
      if (visit.held) places.give(visit)
      else if (!await queue.waitForRoom()) throw doormanError('DOORMAN_ROW_NOT_STORED')
      await queue.pushCommitted(row)
      finish(visit, outcome)
    } catch (error) {
      if (isDestroyable(payload)) payload.destroy()
      if (codeOf(error) === 'DOORMAN_ROW_DELAYED') {
        // The row stays queued, so it remains the one of this request, and says what is answered now.
        Object.assign(row, { status: 503, outcome: 'error' })
        finish(visit, 'error')
        reply.statusCode = 503
        reply.header('retry-after', RETRY_AFTER_SECONDS)
        throw error
      }
      visit.done = false
      const answer = notStored(visit, error)
      // The client may have left in the meantime, and the event with it.
      if (reply.raw.destroyed) complete(visit)
      throw answer
    }
  }

  return {
    begin,
    beforeSend,

    /** Marks a request that the server gives up on. */
    timedOut (raw: IncomingMessage): void {
      const visit = (raw as SeenMessage)[kVisit]
      if (visit != null) visit.verdict = 'timeout'
    },

    /** The hook for errors. A handler's timeout shows up there only. */
    failed (request: TrackedRequest, _reply: unknown, error: Error, done: () => void): void {
      const visit = (request.raw as SeenMessage)[kVisit]
      if (visit != null && codeOf(error) === HANDLER_TIMEOUT) visit.verdict = 'timeout'
      done()
    },

    /** Tells of every request that a hook has seen, once it is over; also of those that leave no row. */
    onRequestEnd (listener: RequestListener): void { listeners.push(listener) },

    ...createOutsideRequests(options, counters),

    stats: (): TrackerStats => ({ ...counters, outcomes: { ...counters.outcomes } })
  }
}
