/** Login, made by a service that holds an API key, and a user's own list of sessions. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { doormanError } from '../errors.js'
import { API_KEY, SESSION } from './access.js'
import { Address, Data, Empty, pageParams, PageQuery, pageReply, PageReply, replies, sessionReply, SessionReply, strict, UserId } from './schemas.js'

const tags = ['sessions']
const LIST = 'own-sessions'

export interface SessionsRoutesOptions {
  /** How recent a login must be to end sessions, ms; null: any live session may. */
  revokeFreshness: number | null
}

export const sessionsRoutes: FastifyPluginCallbackTypebox<SessionsRoutesOptions> = (app, { revokeFreshness }, done) => {
  const revoking = revokeFreshness === null ? SESSION : { ...SESSION, session: { fresh: revokeFreshness } }

  app.post('/sessions', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Open a session for a user who has just proved who they are',
      body: strict({
        userId: UserId,
        ip: Type.Optional(Address),
        userAgent: Type.Optional(Type.String({ maxLength: 8192 })),
        data: Type.Optional(Data)
      }),
      response: replies({ 201: Type.Object({ token: Type.String({ description: 'Shown once; kept only as a hash' }), session: SessionReply }) }, 401, 409, 429)
    }
  }, async (request, reply) => {
    const { token, session } = await app.sessions.create(request.body)
    app.setSessionCookie(reply, token, session)
    reply.code(201)
    return { token, session: sessionReply(session) }
  })

  app.get('/sessions', {
    config: SESSION,
    schema: { tags, summary: 'The caller\'s own sessions, the current one marked', querystring: strict(PageQuery), response: replies({ 200: PageReply(SessionReply) }, 401) }
  }, async request => {
    const { id, userId } = request.session!
    const page = await app.sessions.list({ userId, ...pageParams(LIST, request.query) })
    return pageReply(LIST, page, session => sessionReply(session, id))
  })

  app.delete('/sessions', {
    config: revoking,
    schema: {
      tags,
      summary: 'End all of the caller\'s sessions, or all but the current one',
      querystring: strict({ except: Type.Optional(Type.Literal('current')) }),
      response: replies({ 200: Type.Object({ ended: Type.Integer() }) }, 401, 403)
    }
  }, async (request, reply) => {
    const { id, userId } = request.session!
    if (request.query.except !== undefined) return { ended: await app.sessions.removeOthers(userId, id) }
    const ended = await app.sessions.removeAll(userId)
    app.clearSessionCookie(reply)
    return { ended }
  })

  app.delete('/sessions/:id', {
    config: revoking,
    schema: { tags, summary: 'End one of the caller\'s own sessions', params: strict({ id: Type.String() }), response: replies({ 204: Empty }, 401, 403, 404) }
  }, async (request, reply) => {
    const { id, userId } = request.session!
    // Another user's session is answered like one that never was.
    if (!await app.sessions.remove(request.params.id, { userId })) throw doormanError('DOORMAN_SESSION_NOT_FOUND')
    if (request.params.id === id) app.clearSessionCookie(reply)
    reply.code(204)
    return null
  })
  done()
}
