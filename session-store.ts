/**
 * A store for `@fastify/session` and express-session on the suite's sessions table: sessions of theirs with the durability,
 * the revocation and the cleanup of ours. Entry point of its own: it does not bring `request.session` of our own plugin.
 *
 * Their session id is used only as SHA-256, like our tokens, so that the files hold nothing a thief could log in with. It
 * never works as a token of ours, which have a shape of their own. A session that ended is never brought back, not even by a
 * request that was under way when it ended and saves it afterwards.
 */
import { doormanError } from './errors.js'
import { systemClock, type Clock } from './lib/clock.js'
import { option, resolveOptions } from './lib/options.js'
import type { SessionStorage } from './lib/session-context.js'
import { resolveSessionOptions, sessionOptionSpecs } from './lib/session-options.js'
import { createStoreSessions, type StoreSession } from './lib/store-sessions.js'
import { pooledRandomBytes } from './lib/token.js'

export type { StoreSession } from './lib/store-sessions.js'

type Callback = (error?: unknown) => void
type GetCallback = (error: unknown, session?: StoreSession | null) => void

/** What both frameworks ask of a store. */
export interface SessionStore {
  get (sid: string, callback: GetCallback): void
  set (sid: string, session: object, callback?: Callback): void
  destroy (sid: string, callback?: Callback): void
  /** A use without a change: moves the idle end. Answers at once and is written in the background. */
  touch (sid: string, session: object, callback?: Callback): void
}

export interface SessionStoreOptions {
  /** `fastify.database`. */
  database: { readonly storage: SessionStorage, readonly clock?: Clock, readonly sessionTimeouts?: Set<number> }
  /**
   * The user a session belongs to, or null as long as nobody has logged in. For one session id null may become a user, but no user
   * another one or null: that is DOORMAN_VALUE_INVALID. Start a new id with each login and logout (`regenerate`, `destroy`), as the
   * frameworks advise. Default: nobody's.
   */
  userId?: (session: StoreSession) => string | null | undefined
  /** A session unused for this long is gone, if its cookie does not end before; the cleanup of the same process knows it. Default '24h'. */
  idleTimeout?: number | string
  /** A session this old is gone, whatever its cookie says. Default '30d'. */
  absoluteTimeout?: number | string
  /** A use is written at most this often. Default '60s', or a tenth of a shorter `idleTimeout`. */
  touchInterval?: number | string
  /** Most bytes of a session as JSON. Default 65536. */
  dataLimit?: number
  /** Told of failures that no callback can be told of. Default: nothing is done. */
  onError?: (error: unknown) => void
  /** Class to build on. express-session needs its own: `import session from 'express-session'`, then `Store: session.Store`. */
  Store?: new () => object
}

const isFunction = (value: unknown) => typeof value === 'function'
const isDatabase = (value: unknown) => typeof value === 'object' && value !== null && 'storage' in value
const specs = {
  database: option.custom<SessionStoreOptions['database'] | null>(null, 'fastify.database', isDatabase),
  userId: option.custom<NonNullable<SessionStoreOptions['userId']>>(() => null, 'a function', isFunction),
  idleTimeout: sessionOptionSpecs.idleTimeout,
  absoluteTimeout: sessionOptionSpecs.absoluteTimeout,
  touchInterval: sessionOptionSpecs.touchInterval,
  dataLimit: option.integer(65_536, { min: 2, max: 1_048_576 }),
  onError: option.custom<NonNullable<SessionStoreOptions['onError']>>(() => {}, 'a function', isFunction),
  Store: option.custom<new () => object>(Object, 'a class', isFunction)
}

/**
 * Makes a store for `@fastify/session` or express-session.
 * @throws DOORMAN_OPTION_UNKNOWN, DOORMAN_OPTION_INVALID
 */
export function createSessionStore (given: SessionStoreOptions): SessionStore {
  const { database, userId, dataLimit, onError, Store } = resolveOptions('sessionStore', given, specs)
  if (database === null) throw doormanError('DOORMAN_OPTION_INVALID', ['sessionStore.database', 'fastify.database', 'none'])
  const { idleTimeout, absoluteTimeout, touchInterval } = given
  const timeouts = Object.fromEntries(Object.entries({ idleTimeout, absoluteTimeout, touchInterval }).filter(([, value]) => value !== undefined))
  const options = resolveSessionOptions({ ...timeouts, dataLimit }, 'sessionStore')
  const { storage, clock = systemClock } = database
  database.sessionTimeouts?.add(options.idleTimeout)
  const sessions = createStoreSessions({ storage, clock, random: pooledRandomBytes(), options, userId, onError })

  /** Callbacks run outside of the promise, so that what they throw is theirs and not taken for a failure of ours. */
  function settle<T> (outcome: Promise<T>, callback: ((error: unknown, value?: T) => void) | undefined): void {
    outcome.then(
      value => { if (callback !== undefined) process.nextTick(callback, null, value) },
      error => process.nextTick(callback ?? onError, error)
    )
  }

  return Object.assign(new Store(), {
    get (sid: string, callback: GetCallback) { settle(Promise.resolve().then(() => sessions.get(sid)), callback) },
    set (sid: string, session: object, callback?: Callback) { settle(sessions.set(sid, session), callback) },
    destroy (sid: string, callback?: Callback) { settle(sessions.destroy(sid), callback) },
    touch (sid: string, _session: object, callback?: Callback) { settle(sessions.touch(sid), callback) }
  })
}
