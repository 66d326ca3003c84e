/** Numbers for Prometheus. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { API_KEY, WATCH } from './access.js'
import { replies } from './schemas.js'

export const metricsRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/metrics', {
    config: { ...API_KEY, ...WATCH },
    schema: { tags: ['health'], summary: 'Metrics in the Prometheus text format', produces: ['text/plain'], response: replies({ 200: Type.String() }, 401, 429) }
  }, async (_request, reply) => {
    const text = await app.metrics.render()
    reply.type(app.metrics.contentType)
    return text
  })
  done()
}
