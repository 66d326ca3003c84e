/** Everything held about a user: hand it out, or erase it. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { API_KEY } from './access.js'
import { ActivityReply, activityReply } from './activity.js'
import { IpLogReply, ipLogReply } from './ip-logs.js'
import { Data, iso, NullableText, replies, strict, Time, UserId } from './schemas.js'

const tags = ['admin: users']

/** Rows of each kind in one export; `truncated` says when there are more. */
const EXPORT_LIMIT = 10_000

const ExportReply = Type.Object({
  userId: Type.String(),
  exportedAt: Time,
  truncated: Type.Boolean({ description: `True when there are more than ${EXPORT_LIMIT} rows of a kind` }),
  sessions: Type.Array(Type.Object({
    id: Type.String(),
    createdAt: Time,
    lastActiveAt: Time,
    authenticatedAt: Time,
    expiresAt: Time,
    ip: NullableText,
    lastIp: NullableText,
    userAgent: NullableText,
    lastUserAgent: NullableText,
    device: NullableText,
    flagged: Type.Boolean(),
    data: Data
  })),
  endedSessions: Type.Array(Type.Object({ id: Type.String(), reason: Type.String(), endedAt: Time })),
  activity: Type.Array(ActivityReply),
  ipLogs: Type.Array(IpLogReply)
})

/** How long rows that still wait are waited for, ms; past it 503. Both routes may be asked again. */
const FLUSH_WAIT = 5000

export const usersRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/users/:userId/export', {
    config: API_KEY,
    schema: { tags, summary: 'Everything held about a user', params: strict({ userId: UserId }), response: replies({ 200: ExportReply }, 401, 429) }
  }, async request => {
    const { userId } = request.params
    await app.database.flush(FLUSH_WAIT)
    const held = await app.database.storage.exportUser(userId, EXPORT_LIMIT)
    return {
      userId,
      exportedAt: iso(app.database.clock()),
      truncated: held.truncated,
      sessions: held.sessions.map(({ createdAt, lastActiveAt, authenticatedAt, expiresAt, data, ...session }) => ({
        ...session,
        createdAt: iso(createdAt),
        lastActiveAt: iso(lastActiveAt),
        authenticatedAt: iso(authenticatedAt),
        expiresAt: iso(expiresAt),
        data: JSON.parse(data) as Record<string, unknown>
      })),
      endedSessions: held.endedSessions.map(({ endedAt, ...ended }) => ({ ...ended, endedAt: iso(endedAt) })),
      activity: held.activity.map(activityReply),
      ipLogs: held.ipLogs.map(ipLogReply)
    }
  })

  app.delete('/admin/users/:userId', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'End the user\'s sessions and erase everything held about them',
      params: strict({ userId: UserId }),
      response: replies({
        200: Type.Object({ sessions: Type.Integer(), endedSessions: Type.Integer(), activity: Type.Integer(), ipLogs: Type.Integer(), deadLetters: Type.Integer() }, { description: 'Rows erased' })
      }, 401, 429)
    }
  }, async request => {
    const { userId } = request.params
    // Sessions end first, so that no request of theirs writes anew; what then still waits is stored, to be found.
    const live = await app.sessions.removeAll(userId)
    await app.database.flush(FLUSH_WAIT)
    const erased = await app.database.storage.eraseUser(userId)
    // Those sessions were erased as ended ones.
    return { ...erased, sessions: erased.sessions + live, endedSessions: erased.endedSessions - live }
  })
  done()
}
