/**
 * The session cookie: its options and the rules browsers have for them, its attributes for a reply, and finding it in a
 * request. Over HTTPS it has the `__Host-` prefix by default, with which browsers accept it only from this very host and
 * only with `Secure`; over plain HTTP that would lose it silently, so there it goes without both.
 */
import { doormanError } from '../errors.js'
import { option, resolveOptions } from './options.js'

export interface SessionCookieOptions {
  /** Default `__Host-sid`; `__Secure-sid` with a `domain` or another `path`; `sid` where `secure` is false. */
  name?: string | null
  /** `true`: always `Secure`. `false`: never. `'auto'`: where the request came by HTTPS. Default 'auto'. */
  secure?: boolean | 'auto'
  /** Default 'lax'. `'none'` needs `secure: true`. */
  sameSite?: 'lax' | 'strict' | 'none'
  /** At most 1024 characters of ASCII without spaces and semicolons, as in a URL: other characters percent-encoded. Default '/'. */
  path?: string
  /** Also for the subdomains of this domain. Default null: this host only. */
  domain?: string | null
  /**
   * What the browser is told to forget of this site when the cookie is cleared (ASVS 5.0 14.3.1): a `Clear-Site-Data` header with these, `true`
   * for cookies, storage and cache. Only over HTTPS: browsers ignore it elsewhere. `cookies` are those of the whole registrable domain. Default false.
   */
  clearSiteData?: boolean | readonly SiteData[]
}

const SITE_DATA = ['cookies', 'storage', 'cache', 'executionContexts'] as const
/** Kinds of data a browser keeps of a site, as `Clear-Site-Data` names them. */
export type SiteData = typeof SITE_DATA[number]

/** Attributes as `reply.setCookie` takes them: each one is stated, so that no default of the host's slips in. */
export interface CookieAttributes {
  path: string
  domain?: string
  httpOnly: true
  secure: boolean
  sameSite: 'lax' | 'strict' | 'none'
  signed: false
  partitioned: false
  /** Seconds. */
  maxAge?: number
}

export interface SessionCookie {
  readonly secure: boolean | 'auto'
  /** The name it has in a request or reply, by whether that goes over HTTPS. */
  name (https: boolean): string
  /** Attributes for setting it. It lives as long as the session can at most: `expiresAt`, and 400 days as browsers cap it. */
  attributes (https: boolean, expiresAt: number, now: number): CookieAttributes
  /** Attributes for clearing it: the same, or browsers would keep it. */
  clearing (https: boolean): CookieAttributes
  /** Value of the `Clear-Site-Data` header that goes with clearing it; null: none. */
  readonly clearSiteData: string | null
}

const MAX_AGE = 400 * 86_400
// Set to undefined, they undo what the host made the default of its own cookies.
const UNSET: object = { domain: undefined, priority: undefined, encode: undefined, expires: undefined }

const isSiteData = (value: unknown) => typeof value === 'boolean' || (Array.isArray(value) && value.length > 0 && value.every(item => (SITE_DATA as readonly unknown[]).includes(item)))

// Name and token are 152 bytes at most, of the 4096 that browsers take (ASVS 5.0 3.3.5); an attribute of more than 1024 they pass over (RFC 6265bis 5.6).
const specs = {
  name: option.text(null, /^(?!__(?:Host|Secure)-$)[!#$%&'*+\-.^_`|~\w]{1,100}$/i, 'a cookie name of 1 to 100 characters, more than a prefix'),
  secure: option.custom<boolean | 'auto'>('auto', 'true, false or "auto"', value => typeof value === 'boolean' || value === 'auto'),
  sameSite: option.oneOf('lax', ['lax', 'strict', 'none']),
  path: option.text('/', /^\/[!-:<-~]{0,1023}$/, 'a path of at most 1024 characters that starts with "/", in ASCII without spaces and semicolons'),
  domain: option.text(null, /^(?=.{1,253}$)[a-z0-9-]+(\.[a-z0-9-]+)*$/i, 'a domain name such as "example.com"'),
  clearSiteData: option.custom<boolean | readonly SiteData[]>(false, `true, false or a list of ${SITE_DATA.join(', ')}`, isSiteData)
}

const PREFIX = /^__(?:Host|Secure)-/i
const HOST_PREFIX = /^__Host-/i

/**
 * Checks cookie options, alone and together.
 * @throws DOORMAN_OPTION_UNKNOWN, DOORMAN_OPTION_INVALID
 */
export function createSessionCookie (given: unknown, owner: string): SessionCookie {
  const { name, secure, sameSite, path, domain, clearSiteData } = resolveOptions(owner, given, specs)
  const refuse = (option: string, expected: string, got: string) => { throw doormanError('DOORMAN_OPTION_INVALID', [`${owner}.${option}`, expected, got]) }
  const prefix = domain === null && path === '/' ? '__Host-' : '__Secure-'
  const secureName = name ?? (secure === false ? 'sid' : `${prefix}sid`)
  if (PREFIX.test(secureName) && secure === false) refuse('secure', `true or "auto" with the cookie name ${secureName}: browsers accept that name only with Secure`, 'false')
  if (HOST_PREFIX.test(secureName) && domain !== null) refuse('domain', `left out with the cookie name ${secureName}: browsers accept that name only without a domain`, domain)
  if (HOST_PREFIX.test(secureName) && path !== '/') refuse('path', `"/" with the cookie name ${secureName}: browsers accept that name only for the whole host`, path)
  if (sameSite === 'none' && secure !== true) refuse('sameSite', '"lax" or "strict" unless secure is true: browsers accept "none" only with Secure', 'none')
  // A prefixed name is refused by browsers over plain HTTP, so in `auto` mode the cookie is called differently there.
  const plainName = secure === 'auto' ? secureName.replace(PREFIX, '') : secureName

  const isSecure = (https: boolean) => secure === 'auto' ? https : secure
  const fixed = (https: boolean): CookieAttributes => Object.freeze({
    ...UNSET,
    path,
    ...domain === null ? {} : { domain },
    httpOnly: true,
    secure: isSecure(https),
    sameSite,
    signed: false,
    partitioned: false
  })
  const overHttps = fixed(true)
  const overHttp = fixed(false)
  const clearing = (https: boolean) => https ? overHttps : overHttp
  const forgotten = clearSiteData === true ? SITE_DATA.slice(0, 3) : clearSiteData === false ? [] : clearSiteData
  return {
    secure,
    clearSiteData: forgotten.length === 0 ? null : forgotten.map(kind => `"${kind}"`).join(', '),
    name: https => https ? secureName : plainName,
    clearing,
    attributes: (https, expiresAt, now) => ({ ...clearing(https), maxAge: Math.min(Math.floor((expiresAt - now) / 1000), MAX_AGE) })
  }
}

const SEMICOLON = 59
const SPACE = 32
const TAB = 9

/**
 * Finds one cookie in a Cookie header without parsing the others. Undefined: not there. Empty: there more than once, which no
 * browser does with one cookie of ours: somebody may have planted a second one, and which is the right one cannot be known.
 */
export function findCookie (header: string, name: string): string | undefined {
  const start = `${name}=`
  let found: string | undefined
  for (let at = header.indexOf(start); at !== -1; at = header.indexOf(start, at + start.length)) {
    let before = at - 1
    while (before >= 0 && (header.charCodeAt(before) === SPACE || header.charCodeAt(before) === TAB)) before--
    // The end of a longer name, or text inside of a value.
    if (before >= 0 && header.charCodeAt(before) !== SEMICOLON) continue
    if (found !== undefined) return ''
    const from = at + start.length
    const end = header.indexOf(';', from)
    found = (end === -1 ? header.slice(from) : header.slice(from, end)).trimEnd()
  }
  return found
}
