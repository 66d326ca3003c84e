/**
 * The standalone API as a Fastify instance that does not listen yet: the suite's plugins, security headers, documentation
 * and routes, in the order they depend on each other. Owns nothing global and reads no environment (`loadConfig` does). Also for
 * programs that add routes of their own; each route then has to say who may use it (`config.access`).
 */
import helmet from '@fastify/helmet'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Config } from './config.js'
import { normaliseAddress } from './lib/address.js'
import { systemClock, type Clock } from './lib/clock.js'
import { hideTokens } from './lib/token.js'
import { VERSION } from './lib/version.js'
import access from './plugins/access.js'
import doorman from './plugins/doorman.js'
import { frameworkErrors } from './plugins/ip-tracking.js'
import { errorHandler, notFoundHandler, refusedByFramework, refusedByParser, schemaErrorFormatter } from './routes/errors.js'
import { routes } from './routes/index.js'

export { loadConfig, type Config } from './config.js'
// With these come the types of what the plugins add to Fastify's own.
export type { Access } from './plugins/access.js'
export type { DoormanOptions } from './plugins/doorman.js'

/** What a program may decide otherwise. */
export interface Overrides {
  /** Where the log's JSON lines go. Default: standard output. */
  logStream?: { write (line: string): void }
  clock?: Clock
  random?: () => number
  /** Default: the error is thrown, which ends the process; see the option of the `database` plugin. */
  onFatal?: (error: Error) => void
}

const DOCS = '/docs'
/** What the documentation page may load: itself. Its styles are partly inline. */
const DOCS_POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self' 'unsafe-inline'",
  'img-src': "'self' data:",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'"
}
/** Time to send a whole request, ms: slow senders must not hold connections for ever. */
const REQUEST_TIMEOUT = 30_000
/** Silence on a connection after which it is cut, ms, besides the longest wait for a lock. */
const SILENCE = 60_000
/** 500 reported requests with long user agents. */
const BODY_LIMIT = 4 * 1024 * 1024
/** Longest part of a path, as it is sent: a user id of 255 code points, each of up to 12 characters percent-encoded. */
const MAX_PARAM_LENGTH = 3072

/** Never in the log: what a request proves its right with. Nor what a schema found: it repeats names of properties, which clients choose. */
const SECRETS = ['err.validation', ...['authorization', 'cookie', '["set-cookie"]'].flatMap(name => ['headers', '*.headers'].map(path => name.startsWith('[') ? path + name : `${path}.${name}`))]

/** What the log says of a request. Without the query: it may hold what nobody but the host knows. */
const loggedRequest = ({ method, url }: FastifyRequest) => ({ method, path: hideTokens(url.split('?', 1)[0]!) })

/**
 * Builds the API. Call `listen` on the result, or `inject`; and `close` in the end.
 * @throws (rejects) what the parts throw at registration; everything opened so far is closed then
 */
export async function buildApp (config: Config, { logStream, clock = systemClock, random = Math.random, onFatal }: Overrides = {}): Promise<FastifyInstance> {
  // An address that may not be stored in full may not be logged either.
  const anonymous = config.ipAnonymization !== 'none'
  const app = Fastify({
    logger: {
      level: config.logLevel,
      redact: SECRETS,
      // What a proxy passes on as an address may be any text; on a unix socket there is none.
      serializers: { req: anonymous ? loggedRequest : request => ({ ...loggedRequest(request), remoteAddress: normaliseAddress(String(request.ip)) }) },
      ...(logStream === undefined ? {} : { stream: logStream })
    },
    trustProxy: config.trustProxy === false ? false : [...config.trustProxy],
    frameworkErrors: (error, request, reply) => frameworkErrors(refusedByFramework(error), request, reply),
    clientErrorHandler: refusedByParser,
    requestTimeout: REQUEST_TIMEOUT,
    connectionTimeout: config.busyTimeout + SILENCE,
    bodyLimit: BODY_LIMIT,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    exposeHeadRoutes: true,
    return503OnClosing: true,
    schemaErrorFormatter
  })
  try {
    await assemble(app, config, { clock, random, ...(onFatal === undefined ? {} : { onFatal }) })
  } catch (error) {
    // The database may be open by now.
    await app.close()
    throw error
  }
  return app
}

async function assemble (app: FastifyInstance, config: Config, own: Required<Pick<Overrides, 'clock' | 'random'>> & Pick<Overrides, 'onFatal'>): Promise<void> {
  // TypeBox's own: bodies must have the right types, texts of a query string are converted, nothing unknown is passed over.
  app.setValidatorCompiler(TypeBoxValidatorCompiler)
  app.setErrorHandler(errorHandler)
  app.setNotFoundHandler(notFoundHandler)
  endConnectionsWhenClosing(app)

  await app.register(doorman, {
    // Half of the time to close is for the requests under way (server.ts), half for what they left to store.
    database: { url: config.databaseUrl, busyTimeout: config.busyTimeout, closeTimeout: Math.floor(config.closeTimeout / 2), ...own },
    ipTracking: { durability: config.ipLogDurability, anonymization: config.ipAnonymization },
    sessions: {
      preset: config.sessionPreset,
      idleTimeout: config.sessionIdleTimeout,
      absoluteTimeout: config.sessionAbsoluteTimeout,
      maxPerUser: config.sessionMaxPerUser,
      limitPolicy: config.sessionLimitPolicy,
      clientChange: config.sessionClientChange,
      cookie: { secure: config.cookieSecure },
      autoValidate: false
    },
    abuse: { block: config.abuseBlock === null ? false : { for: config.abuseBlock, allow: config.abuseAllow } },
    cleanup: { interval: config.cleanupInterval, ipLogRetention: config.ipLogRetention, addressTruncateAfter: config.ipTruncateAfter, activityRetention: config.activityRetention, deviceRetention: config.deviceRetention }
  })
  await app.register(access, { apiKeys: config.apiKeys, publicFolders: [DOCS], clock: own.clock })
  await app.register(helmet, {
    // Replies are data, so nothing may be loaded or framed; the documentation page brings a policy of its own.
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } }
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'fastify-doorman', version: VERSION, description: 'Sessions, request log and retention on SQLite or PostgreSQL' },
      components: {
        securitySchemes: {
          apiKey: { type: 'http', scheme: 'bearer', description: 'An API key' },
          session: { type: 'http', scheme: 'bearer', description: 'A session\'s token; browsers send it as a cookie instead' }
        }
      }
    },
    transform: ({ schema, url, route }) => {
      const needed = route.config?.access
      return { url, schema: needed === undefined || needed === 'public' ? schema : { ...schema, security: [{ [needed]: [] }] } }
    }
  })
  await app.register(swaggerUi, { routePrefix: DOCS, staticCSP: DOCS_POLICY, uiConfig: { validatorUrl: null } })
  await app.register(routes, { revokeFreshness: config.sessionRevokeFreshness })
}

/**
 * Closing ends the connections that are idle just then. One with a request under way would be kept alive after its reply, and the
 * close would wait for it until its deadline, so the reply says that it was the last.
 */
function endConnectionsWhenClosing (app: FastifyInstance): void {
  let closing = false
  app.addHook('preClose', done => {
    closing = true
    done()
  })
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (closing) reply.header('connection', 'close')
    done()
  })
}
