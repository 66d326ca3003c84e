/**
 * Connections that end with their session: decorates `request.onSessionEnd` and `reply.endWithSession`. A part of the sessions plugin.
 * Hooks: onClose.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { doormanError } from '../errors.js'
import { endStream } from '../lib/end-stream.js'
import type { EndListener } from '../lib/live-sessions.js'
import { requestSession } from '../lib/request-session.js'
import type { Sessions } from '../lib/sessions.js'

/**
 * Calls the listener once, when the session of this request ends: at once where this process ends it, within about a second where another one does
 * or where it times out. Listening is no use of it. Stops when its result is called, and by itself when the connection closes.
 * @throws DOORMAN_SESSION_INVALID without a session
 */
export type OnSessionEnd = (listener: EndListener) => () => void

/**
 * Ends this reply when the session of its request does: for a stream, or what is written to `reply.raw` after `reply.hijack()`.
 * @throws DOORMAN_SESSION_INVALID without a session
 */
export type EndWithSession = () => void

export function decorateLive (fastify: FastifyInstance, { live }: Sessions): void {
  function watch (request: FastifyRequest, listener: EndListener): () => void {
    const { session = null, token = null } = request[requestSession] ?? {}
    if (session === null) throw doormanError('DOORMAN_SESSION_INVALID')
    return live.watch(session, token!, listener)
  }

  fastify.decorateRequest('onSessionEnd', function (this: FastifyRequest, listener: EndListener) {
    const { socket } = this.raw
    const forget = watch(this, end => {
      stop()
      return listener(end)
    })
    socket.once('close', stop)
    function stop () {
      socket.off('close', stop)
      forget()
    }
    return stop
  })
  fastify.decorateReply('endWithSession', function (this: FastifyReply) {
    endStream(this.raw, end => watch(this.request, end))
  })
  fastify.addHook('onClose', (_instance, done) => {
    live.close()
    done()
  })
}
