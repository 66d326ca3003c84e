/**
 * Schema parts that several routes share, and the one place where rows become replies: times turn into ISO 8601, positions
 * into cursors.
 */
import { Type, type Static, type TSchema } from '@fastify/type-provider-typebox'
import { decodeCursor, encodeCursor, type ListName } from '../lib/cursor.js'
import type { SessionView } from '../lib/session-types.js'
import type { Page, PageParams, SessionDevice } from '../storage/storage.js'
import { doormanError, show } from '../errors.js'

const DEFAULT_LIMIT = 50
const MAX_LIMIT = 500

/** An object that refuses properties it does not know. */
export const strict = <P extends Record<string, TSchema>>(properties: P) => Type.Object(properties, { additionalProperties: false })

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
export const Time = Type.String({ format: 'date-time', description: 'ISO 8601, UTC' })
export const UserId = Type.String({ minLength: 1, maxLength: 255 })
export const Address = Type.String({ minLength: 1, maxLength: 100, description: 'IPv4 or IPv6 address, in any spelling' })
// Not a Record: its pattern for names knows no line breaks, and what has one in its name would silently be left out.
export const Data = Type.Unsafe<Record<string, unknown>>(Type.Object({}, { additionalProperties: true, description: 'The host\'s own data: a JSON object' }))
export const NullableText = Nullable(Type.String())

export const ErrorReply = Type.Object({
  statusCode: Type.Integer(),
  code: Type.String({ description: 'DOORMAN_…: what to test for' }),
  error: Type.String(),
  message: Type.String()
}, { description: 'What went wrong' })

/** The replies a route can give: its own, and the errors by status. */
export const replies = <R extends Record<number, TSchema>>(own: R, ...errors: number[]) =>
  ({ ...Object.fromEntries([400, 503, ...errors].map(status => [status, ErrorReply])), ...own }) as R

export const Empty = Type.Null({ description: 'Done' })

// ---------------------------------------------------------------- pages

export const PageQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT, description: `Most items in the reply (default ${DEFAULT_LIMIT})` })),
  cursor: Type.Optional(Type.String({ description: 'The nextCursor of the page before' }))
}

export const PageReply = <T extends TSchema>(item: T) => Type.Object({
  items: Type.Array(item),
  nextCursor: Nullable(Type.String({ description: 'For the next page; null on the last one' }))
})

/**
 * Page parameters of `list` from a query string.
 * @throws DOORMAN_CURSOR_INVALID
 */
export function pageParams (list: ListName, { limit = DEFAULT_LIMIT, cursor }: { limit?: number, cursor?: string }): PageParams {
  return cursor === undefined ? { limit } : { limit, after: decodeCursor(list, cursor) }
}

export function pageReply<T, R> (list: ListName, page: Page<T>, toReply: (item: T) => R): { items: R[], nextCursor: string | null } {
  return { items: page.items.map(toReply), nextCursor: encodeCursor(list, page.next) }
}

// ---------------------------------------------------------------- times

export const iso = (ms: number) => new Date(ms).toISOString()
export const isoOrNull = (ms: number | null) => ms === null ? null : iso(ms)

/**
 * Milliseconds from an ISO 8601 text.
 * @throws DOORMAN_VALUE_INVALID where the schema's format let a day pass that no calendar has
 */
export function time (name: string, text: string): number {
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) throw doormanError('DOORMAN_VALUE_INVALID', [name, 'a time in ISO 8601', show(text)])
  return ms
}

/** `from` (inclusive) and `to` (exclusive) of a query string. */
export const RangeQuery = { from: Type.Optional(Time), to: Type.Optional(Time) }

export function range ({ from, to }: { from?: string, to?: string }): { from?: number, to?: number } {
  return { ...(from === undefined ? {} : { from: time('from', from) }), ...(to === undefined ? {} : { to: time('to', to) }) }
}

// ---------------------------------------------------------------- sessions

export const SessionReply = Type.Object({
  id: Type.String({ description: 'Public: says nothing about the token' }),
  userId: Type.String(),
  createdAt: Time,
  lastActiveAt: Time,
  idleExpiresAt: Time,
  expiresAt: Time,
  ip: NullableText,
  lastIp: NullableText,
  userAgent: NullableText,
  device: NullableText,
  flagged: Type.Boolean({ description: 'The client changed in a way the policy reports' }),
  current: Type.Optional(Type.Boolean({ description: 'In the caller\'s own list: the session of this request' })),
  data: Data
})

/** A session as it goes out. Built field by field: whatever else a view may hold stays inside. */
export function sessionReply (session: SessionView, currentId?: string): Static<typeof SessionReply> {
  return {
    id: session.id,
    userId: session.userId,
    createdAt: iso(session.createdAt),
    lastActiveAt: iso(session.lastActiveAt),
    idleExpiresAt: iso(session.idleExpiresAt),
    expiresAt: iso(session.expiresAt),
    ip: session.ip,
    lastIp: session.lastIp,
    userAgent: session.userAgent,
    device: session.device,
    flagged: session.flagged,
    ...(currentId === undefined ? {} : { current: session.id === currentId }),
    data: session.data
  }
}

export const DeviceReply = Type.Object({
  device: Nullable(Type.String({ description: 'Family and system, such as "Firefox on Windows"; null where not known' })),
  network: Nullable(Type.String({ description: '/24 or /64; null where not known' })),
  firstSeenAt: Time,
  lastSeenAt: Time,
  sessions: Type.Integer({ description: 'Logins' })
})

export const deviceReply = (seen: SessionDevice): Static<typeof DeviceReply> =>
  ({ ...seen, firstSeenAt: iso(seen.firstSeenAt), lastSeenAt: iso(seen.lastSeenAt) })
