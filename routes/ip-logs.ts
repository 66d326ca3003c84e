/** The log of requests: read it, count it, and let services in other languages write to it. */
import { Type, type FastifyPluginCallbackTypebox, type Static } from '@fastify/type-provider-typebox'
import { doormanError, show } from '../errors.js'
import { formatDuration, parseDuration } from '../lib/duration.js'
import type { IpLogFilter, StoredIpLog } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { Address, iso, NullableText, pageParams, PageQuery, pageReply, PageReply, range, RangeQuery, replies, strict, Time, time, UserId } from './schemas.js'

const tags = ['admin: request log']
const LIST = 'ip-logs'
const MAX_ITEMS = 500
const SMALLEST_BUCKET = 1000

export const IpLogReply = Type.Object({
  id: Type.Integer(),
  at: Time,
  ip: NullableText,
  ipSource: Type.String({ description: 'Where the address came from: "socket", "forwarded", "rejected", "none" or "reported"' }),
  peerIp: NullableText,
  peerPort: Type.Union([Type.Integer(), Type.Null()]),
  trustedHops: Type.Integer({ description: 'Trusted proxies between the client and the server, at most 255; 0 also where that is not known' }),
  method: Type.String(),
  path: Type.String({ description: 'Without the query' }),
  route: NullableText,
  status: Type.Integer({ description: '0 when none was sent' }),
  durationMs: Type.Number(),
  userAgent: NullableText,
  referer: NullableText,
  sessionId: NullableText,
  userId: NullableText,
  requestId: NullableText,
  outcome: Type.String()
})

export function ipLogReply ({ at, durationUs, ...row }: StoredIpLog): Static<typeof IpLogReply> {
  return { ...row, at: iso(at), durationMs: durationUs / 1000 }
}

const FilterQuery = {
  ip: Type.Optional(Address),
  userId: Type.Optional(UserId),
  sessionId: Type.Optional(Type.String()),
  status: Type.Optional(Type.Integer({ minimum: 0, maximum: 999 })),
  ...RangeQuery
}

type FilterTexts = Omit<IpLogFilter, 'from' | 'to'> & { from?: string, to?: string }

function filterOf ({ ip, userId, sessionId, status, from, to }: FilterTexts): IpLogFilter {
  const given = Object.entries({ ip, userId, sessionId, status }).filter(([, value]) => value !== undefined)
  return { ...Object.fromEntries(given), ...range({ ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }) }
}

const Item = strict({
  requestId: Type.String({ minLength: 1, maxLength: 200, description: 'Unique per request: a repeated report is stored once' }),
  at: Type.Optional(Time),
  ip: Type.Optional(Type.Union([Type.String({ maxLength: 200 }), Type.Null()])),
  method: Type.String({ minLength: 1, maxLength: 40 }),
  path: Type.String({ minLength: 1, maxLength: 8192 }),
  route: Type.Optional(Type.String({ maxLength: 1024 })),
  status: Type.Integer({ minimum: 0, maximum: 999 }),
  durationMs: Type.Optional(Type.Number({ minimum: 0, maximum: 86_400_000 })),
  userAgent: Type.Optional(Type.String({ maxLength: 8192 })),
  referer: Type.Optional(Type.String({ maxLength: 8192 })),
  sessionId: Type.Optional(Type.String({ maxLength: 255 })),
  userId: Type.Optional(UserId)
})

export const ipLogsRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.post('/admin/ip-logs', {
    config: API_KEY,
    schema: {
      tags,
      summary: `Report up to ${MAX_ITEMS} requests of another service`,
      description: '`accepted` less than what was sent: the queue is full; send the rest again later. Items that were stored before are recognised by their `requestId`.',
      body: strict({ items: Type.Array(Item, { minItems: 1, maxItems: MAX_ITEMS }) }),
      response: replies({
        201: Type.Object({ accepted: Type.Integer() }, { description: 'Stored' }),
        202: Type.Object({ accepted: Type.Integer() }, { description: 'Queued' })
      }, 401, 429)
    }
  }, async (request, reply) => {
    const { accepted, committed } = await app.ipTracking.report(request.body.items.map(({ at, ...item }, index) =>
      at === undefined ? item : { ...item, at: time(`items[${index}].at`, at) }))
    reply.code(committed ? 201 : 202)
    return { accepted }
  })

  app.get('/admin/ip-logs', {
    config: API_KEY,
    schema: { tags, summary: 'Requests, newest first', querystring: strict({ ...PageQuery, ...FilterQuery }), response: replies({ 200: PageReply(IpLogReply) }, 401, 429) }
  }, async request => pageReply(LIST, await app.ipTracking.list(filterOf(request.query), pageParams(LIST, request.query)), ipLogReply))

  app.get('/admin/ip-logs/top', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Who asks most, or what is asked for most',
      querystring: strict({
        by: Type.Optional(Type.Union([Type.Literal('ip'), Type.Literal('path'), Type.Literal('userAgent')], { description: 'Default "ip"' })),
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, description: 'Default 10' })),
        ...FilterQuery
      }),
      response: replies({
        200: Type.Object({
          items: Type.Array(Type.Object({ value: NullableText, count: Type.Integer(), errors: Type.Integer({ description: 'Of these, with status 500 or above' }), lastAt: Time }))
        })
      }, 401, 429)
    }
  }, async request => {
    const { by = 'ip', limit = 10 } = request.query
    const entries = await app.ipTracking.top(by, filterOf(request.query), limit)
    return { items: entries.map(entry => ({ ...entry, lastAt: iso(entry.lastAt) })) }
  })

  app.get('/admin/ip-logs/series', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Requests over time; empty spans are left out',
      querystring: strict({
        bucket: Type.Optional(Type.String({ description: 'Length of a span, such as "5m" or "1d"; default "1h"' })),
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description: 'Most spans; default 500' })),
        ...FilterQuery
      }),
      response: replies({
        200: Type.Object({
          bucketMs: Type.Integer(),
          items: Type.Array(Type.Object({ at: Time, count: Type.Integer(), errors: Type.Integer() }))
        })
      }, 401, 429)
    }
  }, async request => {
    const { bucket = '1h', limit = 500 } = request.query
    const bucketMs = parseDuration(bucket) ?? 0
    if (bucketMs < SMALLEST_BUCKET) throw doormanError('DOORMAN_VALUE_INVALID', ['bucket', `a duration such as "5m" or "1h" of at least ${formatDuration(SMALLEST_BUCKET)}`, show(bucket)])
    const points = await app.ipTracking.series(filterOf(request.query), bucketMs, limit)
    return { bucketMs, items: points.map(point => ({ ...point, at: iso(point.at) })) }
  })
  done()
}
