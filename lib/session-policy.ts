/** What a route asks of the session: the value of `config.session`, read once per route. */
import { doormanError, show } from '../errors.js'
import { parseDuration } from './duration.js'

/**
 * - `'required'`: without a valid session the reply is 401.
 * - `'optional'`: `request.session` is the session or null.
 * - `false`: the request's session is not looked at.
 * - `{ fresh: '15m' }`: required, and 403 unless the user authenticated less than that ago (`true`: the option `freshness`).
 */
export type RouteSession = 'required' | 'optional' | false | { fresh: number | string | true }

export interface SessionPolicy {
  /** Whether the request's session is looked at. */
  look: boolean
  required: boolean
  /** Oldest login that will do, ms; null: any. */
  maxAge: number | null
}

export const NOT_LOOKED_AT: SessionPolicy = Object.freeze({ look: false, required: false, maxAge: null })
export const OPTIONAL: SessionPolicy = Object.freeze({ look: true, required: false, maxAge: null })
export const REQUIRED: SessionPolicy = Object.freeze({ look: true, required: true, maxAge: null })

export interface PolicyReader {
  /**
   * The policy of a route, by its `config`.
   * @param route names it in errors
   * @throws DOORMAN_OPTION_INVALID
   */
  (config: { readonly session?: unknown } | undefined, route: string): SessionPolicy
}

const EXPECTED = '"required", "optional", false or { fresh: "15m" }'

/** @param unstated for routes that say nothing; @param freshness for `{ fresh: true }`, ms */
export function createPolicyReader (unstated: SessionPolicy, freshness: number): PolicyReader {
  // Fastify keeps one config object per route, so reading it costs one lookup per request.
  const policies = new WeakMap<object, SessionPolicy>()

  function read (value: unknown, route: string): SessionPolicy {
    if (value === undefined) return unstated
    if (value === 'required') return REQUIRED
    if (value === 'optional') return OPTIONAL
    if (value === false) return NOT_LOOKED_AT
    if (typeof value !== 'object' || value === null || Object.keys(value).join() !== 'fresh') {
      throw doormanError('DOORMAN_OPTION_INVALID', [`config.session of ${route}`, EXPECTED, show(value)])
    }
    const { fresh } = value as { fresh: unknown }
    const maxAge = fresh === true ? freshness : parseDuration(fresh)
    if (maxAge === undefined || maxAge === 0) {
      throw doormanError('DOORMAN_OPTION_INVALID', [`config.session.fresh of ${route}`, 'true, or a duration in milliseconds or such as "15m"', show(fresh)])
    }
    return Object.freeze({ look: true, required: true, maxAge })
  }

  return (config, route) => {
    if (config === undefined) return unstated
    let policy = policies.get(config)
    if (policy === undefined) {
      policy = read(config.session, route)
      policies.set(config, policy)
    }
    return policy
  }
}
