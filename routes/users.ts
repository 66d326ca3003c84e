/** Everything held about a user: hand it out, or erase it. */
import { Type, type FastifyPluginCallbackTypebox, type Static } from '@fastify/type-provider-typebox'
import type { DeadLetter, SessionRecord } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { ActivityReply, activityReply } from './activity.js'
import { IpLogReply, ipLogReply } from './ip-logs.js'
import { Data, deviceReply, DeviceReply, iso, NullableText, replies, strict, Time, UserId } from './schemas.js'

const tags = ['admin: users']

/** Rows of each kind in one export; `truncated` says when there are more. */
export const EXPORT_LIMIT = 10_000

/** A session with all that is stored of it but its token's hash. */
export const HeldSession = Type.Object({
  id: Type.String(),
  userId: Type.String(),
  createdAt: Time,
  lastActiveAt: Time,
  authenticatedAt: Time,
  rotatedAt: Time,
  expiresAt: Time,
  ip: NullableText,
  lastIp: NullableText,
  userAgent: NullableText,
  lastUserAgent: NullableText,
  device: NullableText,
  flagged: Type.Boolean(),
  data: Data
})

export const heldSession = ({ createdAt, lastActiveAt, authenticatedAt, rotatedAt, expiresAt, data, ...session }: SessionRecord): Static<typeof HeldSession> => ({
  ...session,
  createdAt: iso(createdAt),
  lastActiveAt: iso(lastActiveAt),
  authenticatedAt: iso(authenticatedAt),
  rotatedAt: iso(rotatedAt),
  expiresAt: iso(expiresAt),
  data: JSON.parse(data) as Record<string, unknown>
})

export const HeldDeadLetter = Type.Object({ id: Type.Integer(), at: Time, kind: Type.String(), userId: NullableText, reason: Type.String(), content: Type.String() })
export const heldDeadLetter = (letter: DeadLetter): Static<typeof HeldDeadLetter> => ({ ...letter, at: iso(letter.at) })

const ExportReply = Type.Object({
  userId: Type.String(),
  exportedAt: Time,
  truncated: Type.Boolean({ description: `True when there are more than ${EXPORT_LIMIT} rows of a kind` }),
  sessions: Type.Array(HeldSession),
  endedSessions: Type.Array(Type.Object({ id: Type.String(), reason: Type.String(), endedAt: Time })),
  devices: Type.Array(DeviceReply),
  activity: Type.Array(ActivityReply),
  ipLogs: Type.Array(IpLogReply),
  deadLetters: Type.Array(HeldDeadLetter, { description: 'Rows of theirs that a constraint refused' })
})

/** How long rows that still wait are waited for, ms; past it 503. Both routes may be asked again. */
export const FLUSH_WAIT = 5000

// Their path has the user's id in it: rows have the route's pattern.
const config = { ...API_KEY, ipTracking: { path: 'route' } } as const

export const usersRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/users/:userId/export', {
    config,
    schema: { tags, summary: 'Everything held about a user', params: strict({ userId: UserId }), response: replies({ 200: ExportReply }, 401, 429) }
  }, async request => {
    const { userId } = request.params
    await app.database.flush(FLUSH_WAIT)
    const held = await app.database.storage.exportUser(userId, EXPORT_LIMIT)
    return {
      userId,
      exportedAt: iso(app.database.clock()),
      truncated: held.truncated,
      sessions: held.sessions.map(heldSession),
      endedSessions: held.endedSessions.map(({ endedAt, ...ended }) => ({ ...ended, endedAt: iso(endedAt) })),
      devices: held.devices.map(deviceReply),
      activity: held.activity.map(activityReply),
      ipLogs: held.ipLogs.map(ipLogReply),
      deadLetters: held.deadLetters.map(heldDeadLetter)
    }
  })

  app.delete('/admin/users/:userId', {
    config,
    schema: {
      tags,
      summary: 'End the user\'s sessions and erase everything held about them',
      params: strict({ userId: UserId }),
      response: replies({
        200: Type.Object({ sessions: Type.Integer(), endedSessions: Type.Integer(), devices: Type.Integer(), activity: Type.Integer(), ipLogs: Type.Integer(), deadLetters: Type.Integer() }, { description: 'Rows erased' })
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
