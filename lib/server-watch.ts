/**
 * What happens at an HTTP server before or beside Fastify: requests refused by Node's parser, by its limits or by Fastify
 * before any hook, CONNECT, upgrades. Each is told to the tracker; nothing a host's own listeners do is changed.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from './clock.js'
import type { RequestTracker } from './request-tracker.js'
import { clientLeft, isComplete, kVisit, type SeenMessage } from './visit.js'
import type { IpLogOutcome } from './vocabulary.js'

/** On a socket: the request that came last. When its body is unfinished, a parse error is about it. */
const kLast = Symbol('doorman.last')
type SeenSocket = Socket & { [kLast]?: IncomingMessage }

interface ParseError extends Error { code?: string, rawPacket?: Buffer }

const REQUEST_LINE = /^(?:\r?\n)*([\w!#$%&'*+.^`|~-]{1,64}) +([^ \r\n]{1,4000})[ \r\n]/
// Enough for the line above.
const LINE_BYTES = 5000
const NO_LINE = { method: '', target: '' }

export interface ServerWatch {
  /** Watches a server. HTTP/2 servers have no parser and no such limits: only their requests are watched. */
  add (server: Server): void
  /**
   * Watches takeovers where the host has listeners for them, and secondary servers (`localhost` binds two). Call when the
   * server listens: a listener of ours where there is no other would change what Node does.
   */
  listening (server: Server, others: readonly Server[]): void
  /** Removes every listener. */
  close (): void
}

export function createServerWatch (tracker: RequestTracker, clock: Clock): ServerWatch {
  const undo: (() => void)[] = []

  function listen (server: Server, event: string, listener: (...args: never[]) => void, first = false) {
    const untyped = listener as (...args: unknown[]) => void
    if (first) server.prependListener(event, untyped)
    else server.on(event, untyped)
    undo.push(() => { server.removeListener(event, untyped) })
  }

  // ------------------------------------------------------------ requests

  /** Runs after Fastify's own listener: a request that no hook has seen by then was answered, or waits in front of one. */
  function requested (raw: SeenMessage, res: ServerResponse) {
    (raw.socket as SeenSocket)[kLast] = raw
    if (raw[kVisit] === undefined) unseen(raw, res)
  }

  function unseen (raw: SeenMessage, res: ServerResponse) {
    if (res.writableEnded) return tracker.outside(raw, res.statusCode, outcomeOf(res.statusCode))
    const since = { at: clock(), started: performance.now() }
    res.once('close', () => {
      if (raw[kVisit] !== undefined) return
      if (isComplete(res)) tracker.outside(raw, res.statusCode, outcomeOf(res.statusCode), since)
      else tracker.outside(raw, res.headersSent ? res.statusCode : 0, clientLeft(raw) ? 'aborted' : 'error', since)
    })
  }

  // ------------------------------------------------------------ refusals of the parser

  function clientError (error: ParseError, socket: SeenSocket) {
    const status = refusalStatus(error)
    if (status === null) return
    const last: SeenMessage | undefined = socket[kLast]
    if (last !== undefined && !last.complete) {
      const visit = last[kVisit]
      // Answered before its body broke: it has its row.
      if (visit == null || visit.done) return
      if (!visit.res.headersSent) visit.status = status
      // A client that stopped in the middle was not refused, it left.
      if (status === 408) visit.verdict = 'timeout'
      else if (error.code !== 'HPE_INVALID_EOF_STATE') visit.verdict = 'refused'
      return
    }
    // Connections without a single byte, opened ahead by browsers or by scanners, are no requests.
    if (socket.bytesRead > 0) tracker.unparsed(socket, status, last === undefined ? requestLine(error, socket) : NO_LINE)
  }

  /** The first line of the packet, where it is the first of the connection and so the beginning of the bad request. */
  function requestLine ({ rawPacket }: ParseError, socket: Socket) {
    if (rawPacket === undefined || rawPacket.length !== socket.bytesRead) return NO_LINE
    const [, method = '', target = ''] = REQUEST_LINE.exec(rawPacket.toString('latin1', 0, LINE_BYTES)) ?? []
    return { method, target }
  }

  // ------------------------------------------------------------ limits and takeovers

  /** `Expect` with anything but 100-continue. Node answers 417 where nobody listens; so do we where nobody else does. */
  function checkExpectation (this: Server, raw: SeenMessage, res: ServerResponse) {
    if (this.listenerCount('checkExpectation') === 1) {
      res.writeHead(417)
      res.end()
    }
    if (raw[kVisit] === undefined) unseen(raw, res)
  }

  /** More requests than `maxRequestsPerSocket`: Node answers 503 right after this event. */
  function dropRequest (raw: IncomingMessage) {
    tracker.outside(raw, 503, 'refused')
  }

  /** Node closes the connection of a CONNECT where nobody listens; so do we where nobody else does. */
  function connect (this: Server, raw: IncomingMessage, socket: Socket) {
    if (this.listenerCount('connect') === 1) socket.destroy()
    takenOver(raw, socket, 200)
  }

  function upgrade (raw: IncomingMessage, socket: Socket) {
    takenOver(raw, socket, 101)
  }

  /** Runs after the host's listeners. What they write to the socket is theirs: the status is the one that fits. */
  function takenOver (raw: SeenMessage, socket: Socket, status: number) {
    if (raw[kVisit] !== undefined) return
    if (socket.destroyed || socket.writableEnded) tracker.outside(raw, 0, 'refused')
    else tracker.outside(raw, status, 'replied')
  }

  function add (server: Server) {
    listen(server, 'request', requested)
    if (!isHttp1(server)) return
    // First, because Fastify's listener destroys the socket, and the address is gone with it.
    listen(server, 'clientError', clientError, true)
    addHttp1(server)
  }

  function addHttp1 (server: Server) {
    listen(server, 'connection', learnAddress)
    listen(server, 'checkExpectation', checkExpectation)
    listen(server, 'dropRequest', dropRequest)
    listen(server, 'connect', connect)
  }

  return {
    add,
    listening (server, others) {
      for (const other of others) {
        listen(other, 'request', requested)
        // No parser, no such listeners.
        if (!isHttp1(other)) continue
        addHttp1(other)
        // The plugin has turned it off on the main server, or the host has.
        other.requireHostHeader = false
        // Fastify answers parse errors on its main server only, and there we see them as well.
        listen(other, 'clientError', (error: Error, socket: Socket) => { server.emit('clientError', error, socket) })
      }
      if (server.listenerCount('upgrade') > 0) listen(server, 'upgrade', upgrade)
      if (server.listenerCount('checkContinue') > 0) listen(server, 'checkContinue', requested)
    },
    close () {
      for (const remove of undo.splice(0)) remove()
    }
  }
}

/** Only servers of HTTP/1 have the setting; Node's types have it for none. */
export const isHttp1 = (server: object): server is { requireHostHeader: boolean } => 'requireHostHeader' in server

/** Node keeps a peer's address from the first time it is asked for; a client that is gone again cannot be asked. */
function learnAddress (socket: Socket) {
  Reflect.get(socket, 'remoteAddress')
}

/** The status that a client is sent for an error of the parser; null for resets, TLS errors and errors of a reply. */
export function refusalStatus ({ code = '' }: { code?: string }): number | null {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 408
  if (code === 'HPE_HEADER_OVERFLOW') return 431
  return code.startsWith('HPE_') ? 400 : null
}

const outcomeOf = (status: number): IpLogOutcome => status >= 400 ? 'refused' : 'replied'
