/** Options of the abuse signals: names, defaults, ranges, and what they mean once read. */
import { doormanError, show } from '../errors.js'
import { parseCidr } from './cidr.js'
import { option, resolveOptions, type OptionSpec, type Resolved } from './options.js'

/** The first name is of the OWASP Logging Vocabulary, the others follow its style. */
export const ABUSE_SIGNALS = [
  'malicious_excess_404', // many replies with 404 to one network
  'session_token_guessing', // many different tokens of one network refused: made up, unknown, or of what has ended
  'excess_users_from_address' // sessions of many users begun from one address
] as const
export type AbuseSignal = typeof ABUSE_SIGNALS[number]

/** Durations are milliseconds or text such as '15m'. A limit of null: that signal is not watched for. */
export interface AbuseOptions {
  /** Replies with 404 to one network (/24, /64) within the window that are a signal, 2 to 1 000 000. Default 100. */
  notFoundLimit?: number | null
  /** 1 s to 24 h, like the other windows. Default 1m. */
  notFoundWindow?: number | string
  /** Different tokens of one network refused within the window that are a signal, 2 to 1000. Default 30. */
  tokenLimit?: number | null
  /** Default 1m. */
  tokenWindow?: number | string
  /** Users whose sessions begin from one address within the window that are a signal, 2 to 1000. Default 50. */
  userLimit?: number | null
  /** Default 1h. */
  userWindow?: number | string
  /** Whether a signal blocks where it comes from for a while, and how; `{}` takes the defaults. Default false: signals only. */
  block?: false | AbuseBlockOptions
}

export interface AbuseBlockOptions {
  /** How long a block lasts, 1 m to 24 h. Default 15m. */
  for?: number | string
  /** Which signals block. Default: `malicious_excess_404` and `session_token_guessing`. */
  signals?: readonly AbuseSignal[]
  /** Most automatic blocks of this process in force at once, 1 to 10 000. Default 100. */
  max?: number
  /** Addresses and networks that are never blocked, nor is a network that has one of them in it. Default: none. */
  allow?: readonly string[]
  /** Whether private, link-local and shared (carrier-grade NAT) addresses may be blocked, too; loopback never is. Default false. */
  blockPrivate?: boolean
}

const orNull = <T>(spec: OptionSpec<T>): OptionSpec<T | null> =>
  ({ ...spec, expected: `${spec.expected}, or null`, read: value => value === null ? null : spec.read(value) })
// What is counted one by one is remembered one by one, so there may not be as many of these as of replies.
const limit = (fallback: number, max: number) => orNull(option.integer(fallback, { min: 2, max }))
const window = (fallback: number) => option.duration(fallback, { min: 1000, max: 86_400_000 })
const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)

const specs = {
  notFoundLimit: limit(100, 1_000_000),
  notFoundWindow: window(60_000),
  tokenLimit: limit(30, 1000),
  tokenWindow: window(60_000),
  userLimit: limit(50, 1000),
  userWindow: window(3_600_000),
  block: option.custom<false | AbuseBlockOptions>(false, 'an object, or false', value => value === false || isObject(value))
}

const blockSpecs = {
  for: option.duration(900_000, { min: 60_000, max: 86_400_000 }),
  signals: option.custom<readonly AbuseSignal[]>(ABUSE_SIGNALS.slice(0, 2), `a list of ${ABUSE_SIGNALS.join(', ')}`,
    value => Array.isArray(value) && value.every(name => (ABUSE_SIGNALS as readonly unknown[]).includes(name))),
  max: option.integer(100, { min: 1, max: 10_000 }),
  allow: option.texts([]),
  blockPrivate: option.boolean(false)
}

export type ResolvedAbuseBlock = Resolved<typeof blockSpecs>
export type ResolvedAbuse = Omit<Resolved<typeof specs>, 'block'> & { readonly block: false | ResolvedAbuseBlock }

/** @throws DOORMAN_OPTION_INVALID, DOORMAN_OPTION_UNKNOWN */
export function resolveAbuse (given: unknown): ResolvedAbuse {
  const { block: givenBlock, ...own } = resolveOptions('abuse', given, specs)
  const block = givenBlock === false ? false : resolveOptions('abuse.block', givenBlock, blockSpecs)
  for (const text of block === false ? [] : block.allow) {
    if (parseCidr(text) === null) throw doormanError('DOORMAN_OPTION_INVALID', ['abuse.block.allow', 'a list of addresses and networks such as "192.0.2.0/24"', show(text)])
  }
  return Object.freeze({ ...own, block })
}

/**
 * Checks what a route says in `config.abuse`.
 * @throws DOORMAN_OPTION_INVALID
 */
export function checkRouteAbuse (route: string, given: unknown): void {
  if (given !== undefined && typeof given !== 'boolean') throw doormanError('DOORMAN_OPTION_INVALID', [`config.abuse of ${route}`, 'true or false', show(given)])
}
