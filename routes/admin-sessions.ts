/** Sessions seen by a service or an operator: check a token, find sessions, end them. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { doormanError } from '../errors.js'
import { API_KEY } from './access.js'
import { Address, deviceReply, DeviceReply, Empty, iso, pageParams, PageQuery, pageReply, PageReply, replies, sessionReply, SessionReply, strict, Time, UserId } from './schemas.js'

const tags = ['admin: sessions']
// The path has the user's id in it: rows have the route's pattern.
const ofUser = { ...API_KEY, ipTracking: { path: 'route' } } as const
const LIST = 'sessions'

export const adminSessionsRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.post('/admin/sessions/introspect', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Is this token a live session?',
      description: 'As in RFC 7662, for services in other languages. With `ip` (and best also `userAgent`) of the user\'s request it counts as a use of the session, and the policy for changed clients applies.',
      body: strict({
        token: Type.String({ maxLength: 4096 }),
        ip: Type.Optional(Address),
        userAgent: Type.Optional(Type.String({ maxLength: 8192 }))
      }),
      response: replies({
        200: Type.Object({
          active: Type.Boolean(),
          session: Type.Optional(SessionReply),
          reason: Type.Optional(Type.String({ description: 'Why not, for the service; a user should not be told more than that the session has ended' })),
          endedAt: Type.Optional(Time)
        })
      }, 401, 429)
    }
  }, async request => {
    const { token, ip, userAgent } = request.body
    const client = ip === undefined ? undefined : { ip, userAgent: userAgent ?? null }
    const result = await app.sessions.validate(token, client)
    if (!result.valid) return { active: false, reason: result.reason, ...(result.at === undefined ? {} : { endedAt: iso(result.at) }) }
    if (client !== undefined) app.sessions.touch(result.session, client)
    return { active: true, session: sessionReply(result.session) }
  })

  app.get('/admin/sessions', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Live sessions, newest first',
      querystring: strict({ ...PageQuery, userId: Type.Optional(UserId), ip: Type.Optional(Address) }),
      response: replies({ 200: PageReply(SessionReply) }, 401, 429)
    }
  }, async request => {
    const { limit, cursor, ...filter } = request.query
    const page = await app.sessions.list({ ...filter, ...pageParams(LIST, request.query) })
    return pageReply(LIST, page, session => sessionReply(session))
  })

  app.get('/admin/users/:userId/devices', {
    config: ofUser,
    schema: {
      tags,
      summary: 'What a user has logged in with, last seen first',
      description: 'Devices in networks, at most 100. One that was not seen for longer than `DEVICE_RETENTION` is forgotten.',
      params: strict({ userId: UserId }),
      response: replies({ 200: Type.Object({ items: Type.Array(DeviceReply), nextCursor: Type.Null({ description: 'The list is always complete' }) }) }, 401, 429)
    }
  }, async request => ({ items: (await app.sessions.devices(request.params.userId)).map(deviceReply), nextCursor: null }))

  app.delete('/admin/sessions/:id', {
    config: API_KEY,
    schema: { tags, summary: 'End a session', params: strict({ id: Type.String() }), response: replies({ 204: Empty }, 401, 404, 429) }
  }, async (request, reply) => {
    if (!await app.sessions.remove(request.params.id)) throw doormanError('DOORMAN_SESSION_NOT_FOUND')
    reply.code(204)
    return null
  })

  app.delete('/admin/users/:userId/sessions', {
    config: ofUser,
    schema: { tags, summary: 'End all sessions of a user', params: strict({ userId: UserId }), response: replies({ 200: Type.Object({ ended: Type.Integer() }) }, 401, 429) }
  }, async request => ({ ended: await app.sessions.removeAll(request.params.userId) }))
  done()
}
