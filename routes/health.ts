/**
 * Health for whoever starts and stops the process. `live`: the event loop turns. `ready`: sessions can be read. A database
 * that is locked or full for the moment makes the service degraded, not unready: sessions are still checked, writes wait
 * in the queue, and taking every instance out of service would turn a delay into an outage.
 */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { PUBLIC, WATCH } from './access.js'
import { ErrorReply } from './schemas.js'

const tags = ['health']

const ReadyReply = Type.Object({
  status: Type.Union([Type.Literal('ok'), Type.Literal('degraded'), Type.Literal('unavailable')]),
  reasons: Type.Array(Type.String())
})

export const healthRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/health/live', {
    config: { ...PUBLIC, ...WATCH },
    schema: { tags, summary: 'The process answers', response: { 200: Type.Object({ status: Type.Literal('ok') }) } }
  }, (_request, reply) => {
    reply.send({ status: 'ok' })
  })

  app.get('/health/ready', {
    config: { ...PUBLIC, ...WATCH },
    schema: { tags, summary: 'Sessions can be checked: 200 (also when degraded), else 503', response: { 200: ReadyReply, 503: Type.Union([ReadyReply, ErrorReply]) } }
  }, async (request, reply) => {
    try {
      await app.database.storage.probeSessions()
    } catch (error) {
      request.log.warn({ err: error }, 'sessions cannot be read')
      reply.code(503).header('retry-after', '1')
      return { status: 'unavailable' as const, reasons: ['sessions cannot be read'] }
    }
    const health = app.database.health()
    return { status: health.status, reasons: health.status === 'ok' ? [] : health.reasons }
  })
  done()
}
