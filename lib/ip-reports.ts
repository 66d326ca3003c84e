/** Requests that other services report: checked, then made into rows like our own. */
import { doormanError, show } from '../errors.js'
import type { IpLogRow } from '../storage/storage.js'
import { normaliseAddress } from './address.js'
import { LIMITS, type Client, type RowMaker } from './request-row.js'
import { readUserId } from './session-input.js'
import { clean } from './text.js'

/** A request another service served. */
export interface ReportedRequest {
  /** Unique per request: the same one reported again is stored once. 1 to 200 characters. */
  requestId?: string
  /** When it began, ms since the epoch; at most 5 minutes ahead of this clock. Default: now. */
  at?: number
  /** In any spelling; null or left out where the service does not know it. */
  ip?: string | null
  method: string
  /** A query is left out. */
  path: string
  /** Route pattern. */
  route?: string
  /** 0 to 999; 0 where none was sent. */
  status: number
  durationMs?: number
  userAgent?: string
  referer?: string
  sessionId?: string
  userId?: string
}

/** Clocks of two machines may differ; more than this is a mistake, and would stay in the log beyond its retention. */
const MAX_AHEAD = 300_000
const MAX_DURATION = 86_400_000

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const isIntegerWithin = (min: number, max: number) => (value: unknown) => Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
const isDuration = (value: unknown) => typeof value === 'number' && value >= 0 && value <= MAX_DURATION
const isTextUpTo = (max: number) => (value: unknown) => isText(value) && clean(value, max) === value

const REQUIRED = {
  method: [isText, 'a non-empty string'],
  path: [isText, 'a non-empty string'],
  status: [isIntegerWithin(0, 999), 'an integer from 0 to 999']
} as const
const OPTIONAL = {
  // These identify something: shortened or cleaned they would identify something else.
  requestId: [isTextUpTo(LIMITS.requestId), `a string of 1 to ${LIMITS.requestId} characters without control characters`],
  sessionId: [isTextUpTo(LIMITS.sessionId), `a string of 1 to ${LIMITS.sessionId} characters without control characters`],
  route: [isText, 'a non-empty string'],
  userAgent: [(value: unknown) => typeof value === 'string', 'a string'],
  referer: [(value: unknown) => typeof value === 'string', 'a string'],
  durationMs: [isDuration, `a number from 0 to ${MAX_DURATION}`]
} as const

function invalid (index: number, name: string, expected: string, got: unknown): Error {
  return doormanError('DOORMAN_VALUE_INVALID', [`items[${index}]${name === '' ? '' : `.${name}`}`, expected, show(got)])
}

/**
 * Makes the row of one reported request.
 * @param index its position, for messages
 * @throws DOORMAN_VALUE_INVALID
 */
export function readReport (item: ReportedRequest, index: number, now: number, makeRow: RowMaker): IpLogRow {
  if (typeof item !== 'object' || item === null) throw invalid(index, '', 'an object', item)
  const values: Record<string, unknown> = { ...item }
  for (const [name, [accepts, expected]] of Object.entries(REQUIRED)) {
    if (!accepts(values[name])) throw invalid(index, name, expected, values[name])
  }
  for (const [name, [accepts, expected]] of Object.entries(OPTIONAL)) {
    if (values[name] !== undefined && !accepts(values[name])) throw invalid(index, name, expected, values[name])
  }
  const { at = now, requestId } = item
  if (!isIntegerWithin(0, now + MAX_AHEAD)(at)) throw invalid(index, 'at', 'a time in ms since the epoch, at most 5 minutes ahead', at)
  const row = makeRow(reportedClient(item.ip, index), { method: item.method, target: item.path, userAgent: item.userAgent, referer: item.referer }, {
    at,
    duration: item.durationMs ?? 0,
    status: item.status,
    outcome: 'reported',
    route: item.route ?? null,
    requestId: requestId ?? null,
    sessionId: item.sessionId ?? null,
    userId: item.userId === undefined ? null : readUserId(item.userId, `items[${index}].userId`)
  })
  return requestId === undefined ? row : { ...row, idempotencyKey: requestId }
}

function reportedClient (ip: unknown, index: number): Client {
  const address = typeof ip === 'string' ? normaliseAddress(ip) : null
  if (address === null && ip !== undefined && ip !== null) throw invalid(index, 'ip', 'an IPv4 or IPv6 address', ip)
  return { address, source: 'reported', peer: null, peerPort: null, trustedHops: 0 }
}
