/** What users did. */
import { Type, type FastifyPluginCallbackTypebox, type Static } from '@fastify/type-provider-typebox'
import { ACTION } from '../lib/activity.js'
import type { StoredActivity } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { Address, Data, iso, Nullable, NullableText, pageParams, PageQuery, pageReply, PageReply, range, RangeQuery, replies, strict, Time, UserId } from './schemas.js'

const tags = ['admin: activity']
const LIST = 'activity'

export const ActivityReply = Type.Object({
  id: Type.Integer(),
  at: Time,
  userId: Type.String(),
  sessionId: NullableText,
  action: Type.String(),
  ip: NullableText,
  detail: Nullable(Data)
})

export function activityReply (row: StoredActivity): Static<typeof ActivityReply> {
  return { ...row, at: iso(row.at), detail: row.detail === null ? null : JSON.parse(row.detail) as Record<string, unknown> }
}

const SessionId = Type.String({ minLength: 1, maxLength: 255 })
const Action = Type.String({ pattern: ACTION.source, description: 'A word of at most 64 letters, digits, "_", ".", ":" and "-" that begins with a letter' })

export const activityRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/activity', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Activity, newest first',
      querystring: strict({ ...PageQuery, userId: Type.Optional(UserId), sessionId: Type.Optional(SessionId), action: Type.Optional(Action), ...RangeQuery }),
      response: replies({ 200: PageReply(ActivityReply) }, 401, 429)
    }
  }, async request => {
    const { limit, cursor, from, to, ...filter } = request.query
    const page = await app.activity.list({ ...filter, ...range(request.query) }, pageParams(LIST, request.query))
    return pageReply(LIST, page, activityReply)
  })

  app.post('/admin/activity', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Record something a user did',
      body: strict({ userId: UserId, action: Action, sessionId: Type.Optional(SessionId), ip: Type.Optional(Address), detail: Type.Optional(Data) }),
      response: replies({ 202: Type.Object({ accepted: Type.Literal(1) }) }, 401, 429)
    }
  }, (request, reply) => {
    app.activity.record(request.body)
    reply.code(202).send({ accepted: 1 })
  })
  done()
}
