/** Options of the sessions plugin: those of the service, and those of what it does with requests and replies. */
import { crossSiteSpecs } from './cross-site.js'
import { option, resolveOptions, type Resolved } from './options.js'
import type { SessionCookieOptions } from './session-cookie.js'
import { resolveSessionOptions, sessionOptionSpecs, type ResolvedSessionOptions, type SessionOptions } from './session-options.js'

/** Options of the `sessions` plugin, besides those of the service. */
export interface SessionsPluginOptions extends SessionOptions {
  /** Name of `request.session`, for hosts where another plugin has it. Default 'session'. */
  decoratorName?: string
  cookie?: SessionCookieOptions
  /** Whether tokens are accepted as `Authorization: Bearer dm_…`. Default true. */
  bearer?: boolean
  /** Whether the session is looked at on routes that do not say so in `config.session`. Default true. */
  autoValidate?: boolean
  /**
   * What becomes of requests with a session's cookie that other sites make a browser send and that may change something (any method but GET, HEAD,
   * OPTIONS, TRACE; opening a WebSocket): 403 DOORMAN_CROSS_SITE, or nothing. Default 'refuse'.
   */
  crossSite?: 'refuse' | 'allow'
  /** Origins that may all the same, as browsers send them: `['https://app.example.com']`. Default []. */
  trustedOrigins?: readonly string[]
  /** Whether a 401 says why the session ended, to who has a token that was good once: in its message and the header `session-end-reason`. Default false. */
  tellReason?: boolean
}

const specs = {
  decoratorName: option.text('session', /^[a-z_$][\w$]*$/i, 'a name such as "session"'),
  cookie: option.custom<SessionCookieOptions>({}, 'an object', () => true),
  bearer: option.boolean(true),
  autoValidate: option.boolean(true),
  tellReason: option.boolean(false),
  ...crossSiteSpecs
}

/**
 * Checks the options, besides those of the cookie.
 * @throws DOORMAN_OPTION_UNKNOWN, DOORMAN_OPTION_INVALID
 */
export function resolveSessionsPlugin (given: SessionsPluginOptions): { options: ResolvedSessionOptions, own: Resolved<typeof specs> } {
  // Read together first, so that an unknown name is reported with all names there are.
  const own = resolveOptions('sessions', given, { ...sessionOptionSpecs, ...specs })
  const ofService = Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(sessionOptionSpecs, name)))
  return { options: resolveSessionOptions(ofService), own }
}
