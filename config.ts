/**
 * Configuration of the standalone API: environment variables and the `.env` file in, one frozen object out.
 *
 * `variables` is the only place where a variable is declared. `.env.example` and the table in docs/configuration.md are
 * held equal to it by a test. This is the one file that reads `process.env`.
 */
import { readFileSync } from 'node:fs'
import { isIP, isIPv4 } from 'node:net'
import { parse } from 'dotenv'
import { doormanError, show } from './errors.js'
import { parseCidr } from './lib/cidr.js'
import { formatDuration, parseDuration } from './lib/duration.js'
import { nearest } from './lib/options.js'
import { PRESET_LIMITS, PRESETS } from './lib/session-presets.js'

/** Why a reader does not take a text, where the variable's own `expected` is not enough. */
class Refusal {
  constructor (readonly got: string, readonly why = '') {}
}

/** One variable. `fallback` is text, read like any other, so that default and value cannot differ in meaning. */
export interface Variable<T> {
  name: string
  fallback: string
  description: string
  expected: string
  /** Returns undefined (or a Refusal) for a text it does not accept. */
  read (text: string): T | undefined | Refusal
}

type Declaration = Pick<Variable<unknown>, 'name' | 'fallback' | 'description'>

const duration = (min: number, max: number, declared: Declaration): Variable<number> => ({
  ...declared,
  expected: `a duration with its unit, such as 30s, 15m, 24h or 7d, of at least ${formatDuration(min)} and at most ${formatDuration(max)}`,
  read: text => {
    const ms = parseDuration(text)
    return ms !== undefined && ms >= min && ms <= max ? ms : undefined
  }
})

const oneOf = <const T extends string>(values: readonly T[], declared: Declaration): Variable<T> => ({
  ...declared,
  expected: `one of ${values.join(', ')}`,
  read: text => values.find(value => value === text)
})

/** A word that stands for null, or what `inner` reads. */
const orWord = <T>(word: string, inner: Variable<T>): Variable<T | null> => ({
  ...inner,
  expected: `${word}, or ${inner.expected}`,
  read: text => text === word ? null : inner.read(text)
})

const integer = (min: number, max: number, declared: Declaration): Variable<number> => ({
  ...declared,
  expected: `an integer from ${min} to ${max}`,
  read: text => /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined
})

const pattern = (shape: RegExp, expected: string, declared: Declaration): Variable<string> => ({
  ...declared,
  expected,
  read: text => shape.test(text) ? text : undefined
})

const SECOND = 1000
const MINUTE = 60 * SECOND
const DAY = 24 * 60 * MINUTE
const YEAR = 365 * DAY
/** Browsers keep a cookie no longer. */
const LONGEST_SESSION = 400 * DAY

/** Every variable the API reads, by the name of its field in `Config`. */
export const variables = {
  host: pattern(/^[\w.:%-]+$/, 'a host name or an address without brackets and port', {
    name: 'HOST', fallback: '127.0.0.1', description: 'Address to listen on. Anything but a loopback address needs `API_KEYS`.'
  }),
  port: integer(0, 65_535, {
    name: 'PORT', fallback: '3000', description: 'Port to listen on; 0 takes a free one.'
  }),
  logLevel: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    name: 'LOG_LEVEL', fallback: 'info', description: 'Least level that is logged (JSON lines on standard output): `fatal`, `error`, `warn`, `info`, `debug`, `trace` or `silent`.'
  }),
  databaseUrl: {
    name: 'DATABASE_URL',
    fallback: 'file:./data/doorman.db',
    description: 'Where the data is kept: a file of SQLite (the log file lies beside it, with `-log` in its name; missing folders are made), or a PostgreSQL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.',
    expected: 'a file URL such as file:./data/doorman.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE',
    // It may hold a password, which is not for a message. The engine itself reads what is behind the scheme.
    read: text => /^(?:file:(?!:memory:)[^?#]*[^?#/\\]|postgres(?:ql)?:\/\/\S+)$/.test(text) ? text : new Refusal(show(text.replace(/:\/\/[^]*@/, '://***@')))
  } satisfies Variable<string>,
  apiKeys: {
    name: 'API_KEYS',
    fallback: '',
    description: 'Keys for the administrative routes, separated by commas, each of at least 32 characters. None set: one is made at every start and printed once.',
    expected: 'a comma-separated list of keys of at least 32 visible ASCII characters each',
    read: readApiKeys
  } satisfies Variable<readonly string[]>,
  trustProxy: {
    name: 'TRUST_PROXY',
    fallback: 'off',
    description: 'Whose `X-Forwarded-For` is believed: `off`, or the proxies as a comma-separated list of addresses, CIDRs and the names `loopback`, `linklocal`, `uniquelocal`.',
    expected: 'off, or a comma-separated list of addresses, CIDRs and the names loopback, linklocal, uniquelocal',
    read: readTrustProxy
  } satisfies Variable<false | readonly string[]>,
  cookieSecure: {
    ...oneOf(['auto', 'true', 'false'], {
      name: 'COOKIE_SECURE', fallback: 'auto', description: 'Whether the session cookie is for HTTPS only: `auto` (as the request came in), `true` or `false`.'
    }),
    read: text => text === 'auto' ? text : text === 'true' ? true : text === 'false' ? false : undefined
  } satisfies Variable<boolean | 'auto'>,
  sessionPreset: orWord('none', oneOf(PRESETS, {
    name: 'SESSION_PRESET', fallback: 'none', description: 'Timeouts and freshness by an assurance level of NIST SP 800-63B-4: `aal1`, `aal2`, `aal3`, or `none`. `SESSION_IDLE_TIMEOUT` and `SESSION_ABSOLUTE_TIMEOUT` may then be shorter, not longer; unset, they are the level\'s.'
  })),
  sessionIdleTimeout: duration(SECOND, LONGEST_SESSION, {
    name: 'SESSION_IDLE_TIMEOUT', fallback: '24h', description: 'A session that was not used for this long is over.'
  }),
  sessionAbsoluteTimeout: duration(SECOND, LONGEST_SESSION, {
    name: 'SESSION_ABSOLUTE_TIMEOUT', fallback: '30d', description: 'A session is over this long after login, however busy it is. At least `SESSION_IDLE_TIMEOUT`.'
  }),
  sessionMaxPerUser: orWord('unlimited', integer(1, 100_000, {
    name: 'SESSION_MAX_PER_USER', fallback: 'unlimited', description: 'Live sessions a user may have: a number, or `unlimited`.'
  })),
  sessionLimitPolicy: oneOf(['evict-oldest', 'evict-idle', 'reject'], {
    name: 'SESSION_LIMIT_POLICY', fallback: 'evict-oldest', description: 'What a login beyond `SESSION_MAX_PER_USER` does: `evict-oldest`, `evict-idle` (the one unused for longest) or `reject`.'
  }),
  sessionClientChange: oneOf(['off', 'flag', 'revoke'], {
    name: 'SESSION_CLIENT_CHANGE', fallback: 'flag', description: 'What happens to a session whose address network and kind of browser change: `off`, `flag` (mark it and report it) or `revoke`.'
  }),
  sessionRevokeFreshness: orWord('off', duration(SECOND, LONGEST_SESSION, {
    name: 'SESSION_REVOKE_FRESHNESS', fallback: '15m', description: 'How recent a login must be to end sessions through `DELETE /sessions`: a duration, or `off`.'
  })),
  abuseBlock: orWord('off', duration(MINUTE, DAY, {
    name: 'ABUSE_BLOCK', fallback: 'off', description: 'How long a network is blocked by itself that guesses tokens or asks for much that is not there: a duration, or `off`.'
  })),
  abuseAllow: {
    name: 'ABUSE_ALLOW',
    fallback: '',
    description: 'Addresses and CIDRs that `ABUSE_BLOCK` never blocks, separated by commas. Loopback and private ones never are.',
    expected: 'a comma-separated list of addresses and CIDRs',
    read: readCidrs
  } satisfies Variable<readonly string[]>,
  ipLogRetention: duration(MINUTE, 10 * YEAR, {
    name: 'IP_LOG_RETENTION', fallback: '30d', description: 'How long rows of the request log are kept.'
  }),
  ipTruncateAfter: orWord('off', duration(60 * MINUTE, 10 * YEAR, {
    name: 'IP_TRUNCATE_AFTER', fallback: 'off', description: 'Age at which stored addresses lose their host (/24 of IPv4, /48 of IPv6): a duration shorter than `IP_LOG_RETENTION`, or `off`.'
  })),
  activityRetention: duration(MINUTE, 10 * YEAR, {
    name: 'ACTIVITY_RETENTION', fallback: '7d', description: 'How long rows of the user activity are kept.'
  }),
  deviceRetention: duration(MINUTE, 10 * YEAR, {
    name: 'DEVICE_RETENTION', fallback: '180d', description: 'How long a device of a user is known after the last login with it.'
  }),
  cleanupInterval: duration(SECOND, 7 * DAY, {
    name: 'CLEANUP_INTERVAL', fallback: '1h', description: 'Time between two runs of the cleanup.'
  }),
  ipAnonymization: oneOf(['none', 'truncate', 'hash'], {
    name: 'IP_ANONYMIZATION', fallback: 'none', description: 'What is stored of an address: `none` (all of it), `truncate` (/24 or /48) or `hash` (with a key that changes daily).'
  }),
  ipLogDurability: oneOf(['queued', 'committed'], {
    name: 'IP_LOG_DURABILITY', fallback: 'queued', description: '`queued`: replies do not wait for their row of the request log. `committed`: they do.'
  }),
  busyTimeout: duration(0, 10 * MINUTE, {
    name: 'BUSY_TIMEOUT', fallback: '30s', description: 'How long a write waits for a lock that another process holds.'
  }),
  closeTimeout: duration(100, 10 * MINUTE, {
    name: 'CLOSE_TIMEOUT', fallback: '10s', description: 'How long a stop may take: the first half for open requests, the second for what waits to be stored.'
  })
}

type ValueOf<V> = V extends { read (text: string): infer R } ? Exclude<R, undefined | Refusal> : never

/** The configuration; every field is present, the object is frozen. Durations are in milliseconds. */
export type Config = { readonly [K in keyof typeof variables]: ValueOf<typeof variables[K]> } & {
  /** Names that look like misspelt variables. Not an error: they may belong to somebody else. */
  readonly warnings: readonly string[]
}

export interface LoadOptions {
  /** The file with further variables, relative to the working directory; null reads none. The environment wins. Default `.env`. */
  file?: string | null
}

/**
 * Reads the configuration. An empty value counts as not set; in the environment it leaves the one of the file in force.
 * @throws DOORMAN_CONFIG_INVALID naming the variable, what was expected and what came
 */
export function loadConfig (env: Readonly<Record<string, string | undefined>> = process.env, { file = '.env' }: LoadOptions = {}): Config {
  const fromFile: Record<string, string> = file === null ? {} : readEnvFile(file)
  // An empty variable is not set, so it hides nothing either.
  const textOf = (name: string) => env[name]?.trim() || fromFile[name]
  const read = Object.fromEntries(Object.entries(variables).map(([field, variable]) => [field, readVariable(variable, textOf(variable.name))])) as unknown as Config
  const config = { ...read, ...withinPreset(read, name => Boolean(textOf(name)?.trim())) }
  if (config.apiKeys.length === 0 && !isLoopback(config.host)) {
    throw doormanError('DOORMAN_CONFIG_INVALID', ['API_KEYS', `set when HOST is not a loopback address (it is ${show(config.host)}): a key made at start is only for trying things out`, 'none'])
  }
  if (config.sessionAbsoluteTimeout < config.sessionIdleTimeout) {
    throw doormanError('DOORMAN_CONFIG_INVALID', ['SESSION_ABSOLUTE_TIMEOUT', `at least SESSION_IDLE_TIMEOUT (${formatDuration(config.sessionIdleTimeout)})`, formatDuration(config.sessionAbsoluteTimeout)])
  }
  if (config.ipTruncateAfter !== null && config.ipTruncateAfter >= config.ipLogRetention) {
    throw doormanError('DOORMAN_CONFIG_INVALID', ['IP_TRUNCATE_AFTER', `shorter than IP_LOG_RETENTION (${formatDuration(config.ipLogRetention)})`, formatDuration(config.ipTruncateAfter)])
  }
  return Object.freeze({ ...config, warnings: Object.freeze(misspellings(fromFile, env)) })
}

/** What a preset makes of timeouts: a variable that is not set has the level's value, one that is set may not be longer. */
function withinPreset (config: Config, isSet: (name: string) => boolean): Partial<Config> {
  const { sessionPreset: preset, sessionRevokeFreshness } = config
  if (preset === null) return {}
  const { idleTimeout, absoluteTimeout, freshness } = PRESET_LIMITS[preset]
  const within = (field: 'sessionIdleTimeout' | 'sessionAbsoluteTimeout', most: number) => {
    const { name } = variables[field]
    if (config[field] > most && isSet(name)) throw doormanError('DOORMAN_CONFIG_INVALID', [name, `at most ${formatDuration(most)} with SESSION_PRESET=${preset}, or left out`, formatDuration(config[field])])
    return Math.min(config[field], most)
  }
  return {
    sessionIdleTimeout: within('sessionIdleTimeout', idleTimeout),
    sessionAbsoluteTimeout: within('sessionAbsoluteTimeout', absoluteTimeout),
    sessionRevokeFreshness: isSet(variables.sessionRevokeFreshness.name) ? sessionRevokeFreshness : freshness
  }
}

function readVariable (variable: Variable<unknown>, given: string | undefined): unknown {
  const text = given?.trim() || variable.fallback
  const value = variable.read(text)
  if (value !== undefined && !(value instanceof Refusal)) return typeof value === 'object' ? Object.freeze(value) : value
  const { got, why } = value instanceof Refusal ? value : new Refusal(show(text))
  throw doormanError('DOORMAN_CONFIG_INVALID', [variable.name, variable.expected + why, got])
}

function readEnvFile (file: string): Record<string, string> {
  try {
    return parse(readFileSync(file))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return {}
    throw doormanError('DOORMAN_CONFIG_INVALID', [file, 'a file that can be read', String(code)], error)
  }
}

/** The texts of keys never appear in a message, only their position and length. */
function readApiKeys (text: string): readonly string[] | Refusal {
  const keys = text.split(',').map(key => key.trim()).filter(key => key !== '')
  for (const [index, key] of keys.entries()) {
    if (key.length < 32) return new Refusal(`${key.length} characters as key ${index + 1}`)
    if (!/^[\x21-\x7e]+$/.test(key)) return new Refusal(`other characters in key ${index + 1}`)
  }
  return [...new Set(keys)]
}

function readCidrs (text: string): readonly string[] | Refusal {
  const entries = text.split(',').map(entry => entry.trim()).filter(entry => entry !== '')
  const wrong = entries.find(entry => parseCidr(entry) === null)
  return wrong === undefined ? entries : new Refusal(show(wrong))
}

const PROXY_NAMES = ['loopback', 'linklocal', 'uniquelocal']

function readTrustProxy (text: string): false | readonly string[] | Refusal {
  if (text === 'off') return false
  if (/^\d+$/.test(text)) return new Refusal(show(text), ' (not a number of hops: Fastify ignores one since 5.12.1, and every client would be logged as the proxy)')
  if (text === 'true') return new Refusal(show(text), ' (trusting everybody takes the left-most X-Forwarded-For entry, which any client can write)')
  const entries = text.split(',').map(entry => entry.trim())
  for (const entry of entries) {
    const [address = '', prefix, ...rest] = entry.split('/')
    const bits = isIPv4(address) ? 32 : 128
    if (PROXY_NAMES.includes(entry)) continue
    if (isIP(address) === 0 || rest.length > 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) || Number(prefix ?? bits) > bits) return new Refusal(show(entry))
    if (Number(prefix ?? bits) === 0) return new Refusal(show(entry), ' (a network of everybody would let any client choose its address)')
  }
  return entries
}

/** True for a host that only this machine can reach. */
export function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** The environment is full of others' names, so there only our prefixes count; in our own file every name does. */
function misspellings (fromFile: Record<string, string>, env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.values(variables).map(variable => variable.name)
  const suspects = new Set([...Object.keys(fromFile), ...Object.keys(env).filter(name => /^(ABUSE|SESSION|IP|ACTIVITY|CLEANUP|COOKIE|TRUST|BUSY)_/.test(name))])
  return [...suspects].filter(name => !known.includes(name)).flatMap(name => {
    const near = nearest(name, known)
    return near === undefined ? [] : [`${name} is not a variable of fastify-doorman; did you mean ${near}?`]
  })
}
