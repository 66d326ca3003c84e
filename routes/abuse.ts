/** Signals of abuse, as this process has counted them. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type {} from '../plugins/abuse.js'
import { API_KEY } from './access.js'
import { iso, replies, strict, Time } from './schemas.js'

const AbuseReply = Type.Object({
  signal: Type.String(),
  network: Type.String({ description: 'In the form that may be stored' }),
  address: Type.String({ description: 'The one that reached the limit' }),
  count: Type.Integer({ description: 'In the window that ends now' }),
  limit: Type.Integer(),
  windowMs: Type.Integer(),
  since: Time
})

export const abuseRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/abuse', {
    config: API_KEY,
    schema: {
      tags: ['admin: abuse'],
      summary: 'Networks that were signalled within the window, of this process',
      querystring: strict({}),
      response: replies({
        200: Type.Object({
          items: Type.Array(AbuseReply, { description: 'The latest first, at most 100' }),
          blocks: Type.Integer({ description: 'Automatic blocks of this process in force' })
        })
      }, 401, 429)
    }
  }, () => ({
    items: app.abuse.signalled().map(({ name, at, network, address, count, limit, window }) => ({ signal: name, network, address, count, limit, windowMs: window, since: iso(at) })),
    blocks: app.abuse.blocksInForce()
  }))
  done()
}
