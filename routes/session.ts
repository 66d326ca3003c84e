/** The session of this request: look at it, change its data, give it a new token, end it. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type {} from '../plugins/access.js'
import { SESSION } from './access.js'
import { Data, Empty, replies, sessionReply, SessionReply, strict } from './schemas.js'

const tags = ['session']

export const sessionRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/session', {
    config: SESSION,
    schema: { tags, summary: 'The session of this request; using it keeps it alive', response: replies({ 200: SessionReply }, 401) }
  }, (request, reply) => {
    reply.send(sessionReply(request.session!))
  })

  app.patch('/session', {
    config: SESSION,
    schema: { tags, summary: 'Replace the data of the session', body: strict({ data: Data }), response: replies({ 200: SessionReply }, 401, 403) }
  }, async request => sessionReply(await app.sessions.update(request.session!.id, request.body.data)))

  app.post('/session/rotate', {
    config: SESSION,
    schema: {
      tags,
      summary: 'A new token for the same session; the old one is dead',
      response: replies({ 200: Type.Object({ token: Type.Optional(Type.String({ description: 'Only where the old one came as a bearer token; a cookie is set anew instead' })), session: SessionReply }) }, 401, 403)
    }
  }, async (request, reply) => {
    const { token, session } = await app.sessions.rotate(request.sessionToken!)
    if (request.sessionSource === 'bearer') return { token, session: sessionReply(session) }
    // A token that lives in an HttpOnly cookie must not become readable for a script by way of this reply.
    app.setSessionCookie(reply, token, session)
    return { session: sessionReply(session) }
  })

  app.delete('/session', {
    config: SESSION,
    schema: { tags, summary: 'Log out', response: replies({ 204: Empty }, 401, 403) }
  }, async (request, reply) => {
    await app.sessions.remove(request.session!.id)
    app.clearSessionCookie(reply)
    reply.code(204)
    return null
  })
  done()
}
