/**
 * Opens the database and shares it: decorates `fastify.database`. Registered first, so it closes last, after everything that still
 * writes. Hooks: onClose.
 */
import fp from 'fastify-plugin'
import { randomUUID } from 'node:crypto'
import { doormanError } from '../errors.js'
import { systemClock, type Clock } from '../lib/clock.js'
import { createDatabase, type Database } from '../lib/database.js'
import { option, resolveOptions } from '../lib/options.js'
import { openStorage } from '../storage/open.js'

declare module 'fastify' {
  interface FastifyInstance { database: Database }
}

/** Options of the `database` plugin. Durations are milliseconds or text such as '30s'. */
export interface DatabaseOptions {
  /**
   * `file:PATH` for SQLite, default 'file:./data/doorman.db'; the request log goes to a second file beside it (`doorman-log.db`). Or
   * `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, which needs the package `pg`; several hosts (`HOST:PORT,HOST:PORT`) are tried in turn.
   */
  url?: string
  /** SQLite: where the log's file should be instead. */
  logUrl?: string | null
  /** Lock wait before an operation fails with DOORMAN_STORAGE_BUSY; default '30s'. */
  busyTimeout?: number | string
  /** How long closing may take to store what waits; default '10s'. */
  closeTimeout?: number | string
  /** Most acknowledged operations waiting at once, default 10000; beyond it DOORMAN_QUEUE_FULL. */
  maxPending?: number
  /** Most log rows held in memory, default 100000 (about 50 MB). */
  queueLimit?: number
  /** How long a log row may wait for company before it is written, default 10 ms. */
  linger?: number | string
  /** How long a request waits for room in a full queue, default '1s'. */
  queueWait?: number | string
  /**
   * SQLite: frames (pages of 4 kB) of a WAL that wait to be copied back before it is reported as held by a reader, which also makes the
   * health degraded; default 20000 (80 MB), at least 1000, at which a commit copies them back.
   */
  walBacklogLimit?: number
  /**
   * Called once, when nothing can be stored any more for as long as this process lives: the writer thread died five times within a minute
   * (DOORMAN_WRITER_DIED), or a file of the database was removed or replaced while in use (DOORMAN_STORAGE_REPLACED). Default: the error is
   * thrown in a turn of the event loop of its own, which ends the process unless it handles 'uncaughtException'. A process that goes on would
   * refuse every login and lose its log, without anybody noticing; ended, it is started again by whoever watches over it. A function of
   * your own should close the server and end the process with an exit code other than 0. Not called any more once the plugin closes.
   */
  onFatal?: ((error: Error) => void) | null
  /** Time and randomness, for tests. */
  clock?: Clock
  random?: () => number
}

/** Nobody who called anything could catch it, and nobody is to: it is about the process. */
function throwLater (error: Error): void {
  setImmediate(() => { throw error })
}

const isFunction = (value: unknown) => typeof value === 'function'
const specs = {
  url: option.text('file:./data/doorman.db'),
  logUrl: option.text(null),
  busyTimeout: option.duration(30_000, { max: 3_600_000 }),
  closeTimeout: option.duration(10_000, { max: 3_600_000 }),
  maxPending: option.integer(10_000, { min: 1 }),
  queueLimit: option.integer(100_000, { min: 1 }),
  linger: option.duration(10, { max: 60_000 }),
  queueWait: option.duration(1000, { max: 60_000 }),
  walBacklogLimit: option.integer(20_000, { min: 1000 }),
  onFatal: option.custom<((error: Error) => void) | null>(throwLater, 'a function, or null', value => value === null || isFunction(value)),
  clock: option.custom<Clock>(systemClock, 'a function', isFunction),
  random: option.custom<() => number>(Math.random, 'a function', isFunction)
}

export default fp<DatabaseOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('database')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-database'])
  const options = resolveOptions('database', given, specs)
  const { url, logUrl, busyTimeout, maxPending, walBacklogLimit, onFatal } = options
  let closing = false
  const storage = await openStorage({ url, logUrl, busyTimeout, maxPending, walBacklogLimit, log: fastify.log, onFatal: error => { if (!closing) onFatal?.(error) } })
  const database = createDatabase({ ...options, storage, log: fastify.log, source: randomUUID() })
  fastify.decorate('database', database)
  fastify.addHook('onClose', () => {
    // What fails from here on is in the log, in `storage.failure` and in what close() says was not stored.
    closing = true
    return database.close()
  })
}, { name: 'doorman-database', fastify: '5.x' })
