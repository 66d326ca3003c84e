/** Rows of requests that no hook sees: refused by Fastify before any, refused by the parser, or taken over by the host. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { doormanError } from '../errors.js'
import type { IpLogRow } from '../storage/storage.js'
import type { Clock } from './clock.js'
import type { ResolvedIpTracking } from './ip-tracking-options.js'
import { clientBehind, clientOf, headOf, targetOf, type Chain, type RowMaker } from './request-row.js'
import type { RowQueue } from './row-queue.js'
import { kVisit, type SeenMessage, type TrackerStats } from './visit.js'
import type { IpLogOutcome } from './vocabulary.js'

/** When a request began: ms since the epoch, and on the monotonic clock. */
export interface Beginning { at: number, started: number }

export interface OutsideRequests {
  /**
   * Records a request that Fastify refuses before any hook, for `frameworkErrors`. Where rows are stored before replies
   * go out, the promise resolves then, and rejects with DOORMAN_ROW_NOT_STORED.
   */
  refuse (raw: IncomingMessage, id: string, status: number): Promise<void> | undefined
  /** Records a request that ended, or went elsewhere, without any hook. */
  outside (raw: IncomingMessage, status: number, outcome: IpLogOutcome, since?: Beginning): void
  /** Records what the parser refused: all that is known is the other end, and a line if it could be read. */
  unparsed (socket: Socket, status: number, line: { method: string, target: string }): void
}

export interface OutsideRequestsOptions {
  settings: ResolvedIpTracking
  queue: RowQueue<IpLogRow>
  makeRow: RowMaker
  clock: Clock
  /** From the connection of a raw request to its client, as Fastify's `trustProxy` has it. */
  chainOf (raw: IncomingMessage): Chain
}

/** @param counters raised with every row */
export function createOutsideRequests ({ settings, queue, makeRow, clock, chainOf }: OutsideRequestsOptions, counters: TrackerStats): OutsideRequests {
  const { ignores, durability } = settings

  /** Undefined where none is wanted. */
  function rowOf (raw: SeenMessage, requestId: string | null, status: number, outcome: IpLogOutcome, since?: Beginning): IpLogRow | undefined {
    raw[kVisit] = null
    const client = clientBehind(chainOf(raw), raw.socket)
    if (ignores !== null && ignores(targetOf(raw), client.address)) {
      counters.ignored++
      return undefined
    }
    counters.outcomes[outcome]++
    const duration = since === undefined ? 0 : performance.now() - since.started
    return makeRow(client, headOf(raw), { at: since?.at ?? clock(), duration, status, outcome, route: null, requestId, sessionId: null, userId: null })
  }

  async function commit (row: IpLogRow): Promise<void> {
    if (!await queue.waitForRoom()) throw doormanError('DOORMAN_ROW_NOT_STORED')
    await queue.pushCommitted(row)
  }

  return {
    refuse (raw, id, status) {
      const row = rowOf(raw, id, status, 'refused')
      if (row === undefined) return undefined
      if (durability === 'committed') return commit(row)
      queue.offer(row)
      return undefined
    },
    outside (raw, status, outcome, since) {
      const row = rowOf(raw, null, status, outcome, since)
      if (row !== undefined) queue.offer(row)
    },
    unparsed (socket, status, line) {
      counters.outcomes.refused++
      const facts = { at: clock(), duration: 0, status, outcome: 'refused' as const, route: null, requestId: null, sessionId: null, userId: null }
      queue.offer(makeRow(clientOf(socket.remoteAddress, socket), { ...line, userAgent: undefined, referer: undefined }, facts))
    }
  }
}
