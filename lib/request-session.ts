/**
 * The session of one request: what its credential led to, and the credential itself, kept where neither JSON nor a log nor
 * `util.inspect` can see it.
 */
import { findCookie } from './session-cookie.js'
import { toSessionEnd, type SessionEnd } from './session-end.js'
import type { Refusal, SessionView } from './session-types.js'
import { looksLikeToken } from './token.js'
import type { RefusalReason } from './vocabulary.js'

/** How the client showed its token. */
export type SessionSource = 'cookie' | 'bearer'

/** Where a request keeps it: known to every part of the suite, whatever name the host gave the decorator. */
export const requestSession: unique symbol = Symbol('fastify-doorman.session')

export class RequestSession {
  /** Null when the request has no valid session; `refusal` says why. */
  readonly session: SessionView | null
  readonly source: SessionSource | null
  readonly #refused: Refusal | null
  readonly #token: string | null

  constructor (session: SessionView | null, refused: Refusal | null, source: SessionSource | null, token: string | null) {
    this.session = session
    this.source = source
    this.#refused = refused
    this.#token = token
  }

  get token (): string | null { return this.#token }
  get refusal (): RefusalReason | null { return this.#refused === null ? null : this.#refused.reason }
  /** The session that the token once opened, and why it does so no more; null where none is known. */
  get end (): SessionEnd | null { return this.#refused === null ? null : toSessionEnd(this.#refused) }
}

/** No credential at all: the same for every such request. */
export const NO_SESSION = new RequestSession(null, { valid: false, reason: 'missing' }, null, null)

/** Something that may carry one: a request. Null: not looked at so far. */
export interface SessionCarrier { [requestSession]?: RequestSession | null }

/** The session of a request, or null: for parts of the suite that do not know the decorator's name. */
export function sessionOf (request: object): SessionView | null {
  return (request as SessionCarrier)[requestSession]?.session ?? null
}

export interface Credential { token: string, source: SessionSource }

/**
 * The credential of a request: `Authorization: Bearer dm_…` where allowed, else the cookie. Nothing else is ever looked at, above
 * all not the URL or the body. A bearer token that is not one of ours is left to the host: it may be its API key.
 */
export function readCredential (headers: { cookie?: string | undefined, authorization?: string | undefined }, cookieName: string, bearer: boolean): Credential | null {
  const { authorization, cookie } = headers
  // What is sent on purpose goes before what the browser sends by itself.
  if (bearer && authorization !== undefined && authorization.slice(0, 7).toLowerCase() === 'bearer ') {
    const token = authorization.slice(7).trim()
    if (looksLikeToken(token)) return { token, source: 'bearer' }
  }
  const token = cookie === undefined ? undefined : findCookie(cookie, cookieName)
  return token === undefined ? null : { token, source: 'cookie' }
}
