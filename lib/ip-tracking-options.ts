/** Options of IP tracking: names, defaults, ranges, and what they mean once read. */
import { doormanError, show } from '../errors.js'
import { ANONYMIZATIONS, type Anonymization } from './anonymizer.js'
import { createCidrSet, parseCidr } from './cidr.js'
import { option, resolveOptions } from './options.js'
import { pathOf } from './text.js'

export const DURABILITIES = ['queued', 'committed'] as const
/**
 * - `queued`: a row is in the bounded queue when its reply goes out. Logging never fails a request.
 * - `committed`: the reply waits until its row is stored, and becomes 503 where that fails.
 */
export type Durability = typeof DURABILITIES[number]

export interface IpTrackingOptions {
  /** Default: `queued`. */
  durability?: Durability
  /** Applied before anything is stored. Default: `none`. */
  anonymization?: Anonymization
  /** Requests that leave no row. Default: none. */
  ignore?: IgnoreRules
  /** Whether blocked addresses are refused with 403. Default: true. */
  blocking?: boolean
  /** Longest user agent stored, in code points, 1 to 4096. Default: 500. */
  userAgentLimit?: number
  /** Whether it is looked at where addresses come from, and said once what is wrong with that. Default: true. */
  addressCheck?: boolean
}

export interface IgnoreRules {
  /** Paths without query, exact (`/health`) or ending in `*` (`/assets/*`). */
  paths?: readonly string[]
  /** Addresses and networks, such as `10.0.0.0/8`. */
  addresses?: readonly string[]
}

const PATHS = ['full', 'route'] as const
/**
 * `false`: requests of the route leave no row. An object: what is different for them. `path: 'route'`: the pattern of the route is stored for the
 * path, where that holds something that should not be kept, such as `/users/:name` or `/reset/:token`.
 */
export type RouteTracking = false | { durability?: Durability, path?: typeof PATHS[number] }

export interface ResolvedIpTracking {
  durability: Durability
  anonymization: Anonymization
  blocking: boolean
  userAgentLimit: number
  addressCheck: boolean
  /** Null where nothing is ignored. */
  ignores: ((target: string, address: string | null) => boolean) | null
}

const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)

/** @throws DOORMAN_OPTION_INVALID, DOORMAN_OPTION_UNKNOWN */
export function resolveIpTracking (given: unknown): ResolvedIpTracking {
  const { ignore, ...options } = resolveOptions('ipTracking', given, {
    durability: option.oneOf('queued', DURABILITIES),
    anonymization: option.oneOf('none', ANONYMIZATIONS),
    ignore: option.custom<IgnoreRules>({}, 'an object with paths and addresses', isObject),
    blocking: option.boolean(true),
    userAgentLimit: option.integer(500, { min: 1, max: 4096 }),
    addressCheck: option.boolean(true)
  })
  return { ...options, ignores: readIgnore(ignore) }
}

function readIgnore (given: IgnoreRules): ResolvedIpTracking['ignores'] {
  const rules = resolveOptions('ipTracking.ignore', given, {
    paths: option.texts([], /^\/[^*?#]*\*?$/, 'a list of paths such as "/health" or "/assets/*"'),
    addresses: option.texts([])
  })
  if (rules.paths.length + rules.addresses.length === 0) return null
  const exact = new Set(rules.paths.filter(path => !path.endsWith('*')))
  const prefixes = rules.paths.filter(path => path.endsWith('*')).map(path => path.slice(0, -1))
  const networks = createCidrSet<true>()
  for (const text of rules.addresses) {
    const cidr = parseCidr(text)
    if (cidr === null) throw doormanError('DOORMAN_OPTION_INVALID', ['ipTracking.ignore.addresses', 'a list of addresses and networks such as "10.0.0.0/8"', show(text)])
    networks.add(cidr, true)
  }
  return (target, address) => {
    if (networks.size > 0 && address !== null && networks.find(address).length > 0) return true
    if (rules.paths.length === 0) return false
    const path = pathOf(target)
    return exact.has(path) || prefixes.some(prefix => path.startsWith(prefix))
  }
}

/**
 * Checks what a route says in `config.ipTracking`.
 * @throws DOORMAN_OPTION_INVALID, DOORMAN_OPTION_UNKNOWN
 */
export function checkRouteTracking (route: string, given: unknown): void {
  if (given === undefined || given === false) return
  if (!isObject(given)) throw doormanError('DOORMAN_OPTION_INVALID', [`config.ipTracking of ${route}`, 'false or an object', show(given)])
  resolveOptions(`config.ipTracking of ${route}`, given, { durability: option.oneOf('queued', DURABILITIES), path: option.oneOf('full', PATHS) })
}
