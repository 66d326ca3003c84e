/**
 * Whether a browser sends a request on behalf of another site. Sources: OWASP CSRF Prevention Cheat Sheet (Fetch Metadata, verifying origin);
 * ASVS 5.0 3.5.1 to 3.5.3; for WebSockets 4.4.2. Knows requests by the few things it needs.
 */
import { doormanError, show } from '../errors.js'
import { option } from './options.js'

export interface CrossSiteRequest {
  readonly method: string
  /** Name and port the client asked for, as a trusted proxy tells them. */
  readonly host: string
  readonly headers: {
    origin?: string | undefined
    'sec-fetch-site'?: string | string[] | undefined
    upgrade?: string | undefined
  }
}

/** An origin in the form browsers send it: scheme and host in lower case, no default port, no slash at the end. */
const isOrigin = (text: unknown) => typeof text === 'string' && URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && new URL(text).origin === text

export const crossSiteSpecs = {
  crossSite: option.oneOf('refuse', ['refuse', 'allow']),
  trustedOrigins: option.custom<readonly string[]>([], 'a list of origins as browsers send them, such as "https://app.example.com"', value => Array.isArray(value) && value.every(isOrigin))
}

/** Whether a request may do more than look: by its method, or because it opens a WebSocket, over which anything may follow. */
export function mayChange ({ method, headers }: CrossSiteRequest): boolean {
  if (method === 'GET') return headers.upgrade !== undefined
  return method !== 'HEAD' && method !== 'OPTIONS' && method !== 'TRACE'
}

/**
 * True where another site caused the request. Clients that are no browsers send neither header, and nobody can make them carry a cookie.
 * @param trusted origins that count as one's own
 */
export function isCrossSite ({ host, headers }: CrossSiteRequest, trusted: ReadonlySet<string>): boolean {
  const { origin } = headers
  if (origin !== undefined && trusted.has(origin)) return false
  const site = headers['sec-fetch-site']
  // `none` is the user: an address typed in, a bookmark.
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  // Hosts are compared, not schemes: behind a TLS proxy that is not trusted the request looks like plain HTTP.
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host)
}

/**
 * Checks `config.crossSite` of a route.
 * @throws DOORMAN_OPTION_INVALID
 */
export function checkRouteCrossSite (route: string, value: unknown): void {
  if (value !== undefined && value !== 'allow') throw doormanError('DOORMAN_OPTION_INVALID', [`config.crossSite of ${route}`, '"allow", or left out', show(value)])
}
