/**
 * Where a PostgreSQL database is: the URL, several hosts and all, read into what the driver is told. The password is in `password` and
 * nowhere else; `name` and `hosts` are for messages.
 *
 * `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETER=…`. Parameters have the names and meanings of libpq, and a few are ours
 * (see `parameters`). What is left out is what the driver takes: PGUSER, PGPASSWORD and the like.
 */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { doormanError, show } from '../../errors.js'

export interface Host { host: string, port: number }

export interface PostgresLocation {
  hosts: Host[]
  /** Undefined: as the driver decides. */
  user: string | undefined
  password: string | undefined
  database: string | undefined
  tls: ConnectionOptions | false
  applicationName: string
  /** How long one attempt to connect to one host may take, ms. */
  connectTimeout: number
  /** Connections of this process at most. */
  connections: number
  /** Longest run of a statement, ms; null: 30 s, or the lock wait where that is longer. */
  statementTimeout: number | null
  /** Further settings for the server, as libpq's `options`. */
  options: string | undefined
  /** Only a server that can be written to is used. */
  writable: boolean
  /** A pooler stands between (PgBouncer in transaction mode): nothing is set or prepared beyond a transaction. */
  pooled: boolean
  /** For messages: the database's name, and its hosts. */
  name: string
  where: string
}

const DEFAULT_PORT = 5432
const SCHEME = /^postgres(?:ql)?:\/\//
/** Scheme, user, password, hosts, path, query. Hosts may be several, which the URL class of the language does not know. */
const SHAPE = /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?([^@/?#]*)(?:\/([^?#/]*))?(?:\?([^#]*))?$/

/** True for a URL that asks for PostgreSQL, well-formed or not. */
export const isPostgresUrl = (url: string): boolean => SCHEME.test(url)

/** A URL with its password masked, for messages. What is not well-formed may have it anywhere before the last @. */
export const maskPassword = (url: string): string => url.replace(/^(\w+:\/\/)[^]*@/, '$1***@').replace(/([?&](?:ssl)?password=)[^&]*/g, '$1***')

const invalid = (expected: string, got: string) => doormanError('DOORMAN_DATABASE_URL_INVALID', [expected, got])

const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const
const TARGETS = ['any', 'read-write', 'primary'] as const
const KNOWN = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'application_name', 'connect_timeout', 'options', 'target_session_attrs', 'host', 'connections', 'statement_timeout', 'pgbouncer']

/**
 * Reads a URL. Files it names (certificates) are read as well.
 * @throws DOORMAN_DATABASE_URL_INVALID, with the parameter that is wrong, never with the password
 */
export function readPostgresUrl (url: string): PostgresLocation {
  const [, user, password, authority, path, query = ''] = SHAPE.exec(url) ?? []
  if (authority === undefined) throw invalid('postgres://USER:PASSWORD@HOST:PORT/DATABASE, with what is special in user and password percent-encoded', show(maskPassword(url)))
  const given = new Map(new URLSearchParams(query))
  const unknown = [...given.keys()].find(name => !KNOWN.includes(name))
  if (unknown !== undefined) throw invalid(`without parameters other than ${KNOWN.join(', ')}`, show(unknown))

  const oneOf = <const T extends string>(name: string, values: readonly T[], fallback: T): T => {
    const value = given.get(name) ?? fallback
    return values.find(known => known === value) ?? refuse(name, `one of ${values.join(', ')}`)
  }
  const integer = (name: string, min: number, max: number): number | undefined => {
    const text = given.get(name)
    if (text === undefined) return undefined
    return /^\d{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : refuse(name, `an integer from ${min} to ${max}`)
  }
  const refuse = (name: string, expected: string): never => { throw invalid(`with ${expected} as ${name}`, show(given.get(name))) }

  const hosts = readHosts(given.get('host') ?? authority)
  const name = decode(path) ?? decode(user) ?? ''
  return {
    hosts,
    user: decode(user),
    password: decode(password),
    database: decode(path),
    tls: readTls(oneOf('sslmode', SSL_MODES, 'disable'), given),
    applicationName: given.get('application_name') ?? 'fastify-doorman',
    connectTimeout: (integer('connect_timeout', 1, 600) ?? 10) * 1000,
    connections: integer('connections', 1, 1000) ?? 10,
    statementTimeout: integer('statement_timeout', 100, 86_400_000) ?? null,
    options: given.get('options'),
    writable: oneOf('target_session_attrs', TARGETS, 'read-write') !== 'any',
    pooled: oneOf('pgbouncer', ['true', 'false'], 'false') === 'true',
    name,
    where: hosts.map(({ host, port }) => host.startsWith('/') ? host : `${host.includes(':') ? `[${host}]` : host}:${port}`).join(', ')
  }
}

function readHosts (list: string): Host[] {
  return list.split(',').map(entry => {
    const [, bracketed, plain, port] = /^(?:\[([\da-fA-F:.]+)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(entry) ?? []
    const host = bracketed ?? decode(plain)
    const number = Number(port ?? DEFAULT_PORT)
    if ((bracketed ?? plain) === undefined || number < 1 || number > 65_535) throw invalid('with hosts as HOST:PORT, separated by commas', show(entry))
    return { host: host ?? 'localhost', port: number }
  })
}

/** Undefined for a part that is missing or empty. */
function decode (text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    // Not shown: it may be the password.
    throw invalid('percent-encoded where a part holds %, @, :, / or ?', 'a % without two digits behind it')
  }
}

/** As libpq: `require` encrypts and asks nothing, unless a root certificate is given. */
function readTls (mode: typeof SSL_MODES[number], given: ReadonlyMap<string, string>): ConnectionOptions | false {
  if (mode === 'disable') return false
  const file = (name: string) => {
    const path = given.get(name)
    if (path === undefined) return undefined
    try {
      return readFileSync(path)
    } catch (error) {
      throw invalid(`with a file that can be read as ${name}`, `${show(path)} (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const [ca, cert, key] = ['sslrootcert', 'sslcert', 'sslkey'].map(file)
  return {
    rejectUnauthorized: mode !== 'require' || ca !== undefined,
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key })
  }
}
