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
  /** `file:PATH`; default 'file:./data/doorman.db'. The request log goes to a second file beside it (`doorman-log.db`). */
  url?: string
  /** Where the log's file should be instead. */
  logUrl?: string | null
  /** Lock wait before an operation fails with DOORMAN_STORAGE_BUSY; default '30s'. */
  busyTimeout?: number | string
  /** How long closing may take to store what waits; default '10s'. */
  closeTimeout?: number | string
  /** Most acknowledged operations waiting at once, default 10000; beyond it DOORMAN_QUEUE_FULL. */
  maxPending?: number
  /** Most log rows held in memory, default 100000 (about 50 MB). */
  queueLimit?: number
  /** How long a log row may wait for company before it is written, default 5 ms. */
  linger?: number | string
  /** How long a request waits for room in a full queue, default '1s'. */
  queueWait?: number | string
  /** Time and randomness, for tests. */
  clock?: Clock
  random?: () => number
}

const isFunction = (value: unknown) => typeof value === 'function'
const specs = {
  url: option.text('file:./data/doorman.db'),
  logUrl: option.text(null),
  busyTimeout: option.duration(30_000, { max: 3_600_000 }),
  closeTimeout: option.duration(10_000, { max: 3_600_000 }),
  maxPending: option.integer(10_000, { min: 1 }),
  queueLimit: option.integer(100_000, { min: 1 }),
  linger: option.duration(5, { max: 60_000 }),
  queueWait: option.duration(1000, { max: 60_000 }),
  clock: option.custom<Clock>(systemClock, 'a function', isFunction),
  random: option.custom<() => number>(Math.random, 'a function', isFunction)
}

export default fp<DatabaseOptions>(async (fastify, given) => {
  if (fastify.hasDecorator('database')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-database'])
  const options = resolveOptions('database', given, specs)
  const { url, logUrl, busyTimeout, maxPending } = options
  const storage = await openStorage({ url, logUrl, busyTimeout, maxPending, log: fastify.log })
  const database = createDatabase({ ...options, storage, log: fastify.log, source: randomUUID() })
  fastify.decorate('database', database)
  fastify.addHook('onClose', () => database.close())
}, { name: 'doorman-database', fastify: '5.x' })
