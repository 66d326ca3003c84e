/**
 * Retention: removes idle and expired sessions and old rows, hourly and on demand. Decorates `fastify.cleanup`; starts in
 * `onReady`, stops in `onClose` and waits a little for the batch under way. The work is in `lib/sweeper.ts`.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { formatDuration } from '../lib/duration.js'
import { option, resolveOptions, type Resolved } from '../lib/options.js'
import { createSweeper, type Sweeper } from '../lib/sweeper.js'
import type { CleanupRun, Page, PageParams } from '../storage/storage.js'
import type {} from './database.js'

declare module 'fastify' {
  interface FastifyInstance {
    cleanup: Cleanup
  }
}

/** Durations are milliseconds or text such as '24h'. */
export interface CleanupOptions {
  /** False: no schedule; `run` still works. Default true. */
  enabled?: boolean
  /** Time between runs, each up to 10 % early or late. 1 s to 21 d, default 1h. */
  interval?: number | string
  /** Whether the first run comes at once, instead of within a tenth of the interval. Default false. */
  runOnStart?: boolean
  /** Idle timeout of sessions where nobody keeps sessions in this process; otherwise the longest of theirs holds. Default 24h. */
  sessionIdleTimeout?: number | string
  /** Default 30d. */
  ipLogRetention?: number | string
  /**
   * Age at which addresses lose their host (/24 of IPv4, /48 of IPv6) in the request log, activity and sessions; ports, and refused rows, go then. Shorter than
   * `ipLogRetention`, and the same in every process on the database; at least 1 h. Default null: never.
   */
  addressTruncateAfter?: number | string | null
  /** Default 7d. */
  activityRetention?: number | string
  /** How long an ended session's reason is known. Default 7d. */
  tombstoneRetention?: number | string
  /** How long a device is known after the last login with it. Default 180d. */
  deviceRetention?: number | string
  /** Default 30d. */
  deadLetterRetention?: number | string
  /** How long the cleanup's own history is kept. Default 90d. */
  historyRetention?: number | string
  /** Most rows per transaction, 1 to 100 000, default 1000; fewer where so many take longer than 10 ms. */
  batchSize?: number
  /** Longest run; what is left waits for the next one, which starts with the kinds of rows this one did not come to. Default 5m. */
  timeBudget?: number | string
  /** How long a process that died in the middle of a run keeps the others away. At least 1 s, default 2m. */
  leaseTtl?: number | string
}

const specs = {
  enabled: option.boolean(true),
  // A Node timer holds at most 2^31 ms (24.8 days); above that it fires at once.
  interval: option.duration(3_600_000, { min: 1000, max: 21 * 86_400_000 }),
  runOnStart: option.boolean(false),
  sessionIdleTimeout: option.duration(86_400_000, { min: 1000 }),
  ipLogRetention: option.duration(30 * 86_400_000),
  addressTruncateAfter: option.duration(null, { min: 3_600_000 }),
  activityRetention: option.duration(7 * 86_400_000),
  tombstoneRetention: option.duration(7 * 86_400_000),
  deviceRetention: option.duration(180 * 86_400_000),
  deadLetterRetention: option.duration(30 * 86_400_000),
  historyRetention: option.duration(90 * 86_400_000),
  batchSize: option.integer(1000, { min: 1, max: 100_000 }),
  timeBudget: option.duration(300_000, { min: 1000 }),
  leaseTtl: option.duration(120_000, { min: 1000 })
}

/** How long a manual run waits for another process's, ms: most runs are shorter, and a caller of the API is waiting. */
const LEASE_WAIT = 2000
/** How long closing waits for the batch under way, ms: one takes about 10 ms unless somebody holds the lock. */
const STOP_WAIT = 2000
/** How long a run waits for this process's queues, ms: as long as the default lock wait. */
const FLUSH_WAIT = 30_000

/** What `fastify.cleanup` offers. */
export interface Cleanup {
  /**
   * Runs now, or joins the run under way; `{ dryRun: true }` only counts. Resolves also when the run failed (`error`) or was
   * cut short (`complete` is false). Rejects with DOORMAN_CLEANUP_RUNNING (409), or DOORMAN_STORAGE_CLOSED (503) after the close.
   */
  run: Sweeper['run']
  /** Runs of every process, newest first. */
  history (page: PageParams): Promise<Page<CleanupRun>>
  /** This process's latest run that was not a dry one. */
  readonly lastRun: CleanupRun | null
  /** In milliseconds, defaults filled in; `sessionIdleTimeout` is the one that holds. */
  readonly options: Resolved<typeof specs>
}

async function cleanup (fastify: FastifyInstance, given: CleanupOptions) {
  if (fastify.hasDecorator('cleanup')) throw doormanError('DOORMAN_ALREADY_REGISTERED', ['doorman-cleanup'])
  const own = resolveOptions('cleanup', given, specs)
  const { storage, clock, random, addressTiers } = fastify.database
  const { addressTruncateAfter: tier } = own
  if (tier !== null) {
    if (tier >= own.ipLogRetention) throw doormanError('DOORMAN_OPTION_INVALID', ['cleanup.addressTruncateAfter', `shorter than ipLogRetention (${formatDuration(own.ipLogRetention)})`, formatDuration(tier)])
    addressTiers.add(tier)
  }

  // Read when it is needed: sessions may be registered after this, in any context.
  const effective = () => {
    const { sessionTimeouts } = fastify.database
    return sessionTimeouts.size === 0 ? own : { ...own, sessionIdleTimeout: Math.max(...sessionTimeouts) }
  }
  const sweeper = createSweeper({
    ...own,
    storage,
    retention () {
      const options = effective()
      return {
        sessionIdle: options.sessionIdleTimeout,
        tombstones: options.tombstoneRetention,
        devices: options.deviceRetention,
        ipLogs: options.ipLogRetention,
        activity: options.activityRetention,
        deadLetters: options.deadLetterRetention,
        history: options.historyRetention,
        fullAddresses: options.addressTruncateAfter
      }
    },
    flush: () => fastify.database.flush(),
    flushWait: FLUSH_WAIT,
    leaseWait: LEASE_WAIT,
    stopWait: STOP_WAIT,
    holder: `${hostname()}:${process.pid}:${randomUUID()}`,
    newId: randomUUID,
    clock,
    monotonic: () => performance.now(),
    random,
    log: fastify.log
  })

  fastify.database.registerCleanup(() => sweeper.lastRun)
  fastify.decorate('cleanup', {
    run: sweeper.run,
    history: page => storage.listCleanupRuns(page),
    get lastRun () { return sweeper.lastRun },
    get options () { return effective() }
  } satisfies Cleanup as Cleanup)

  if (own.enabled) fastify.addHook('onReady', async () => sweeper.start())
  fastify.addHook('onClose', () => sweeper.stop())
}

export default fp(cleanup, { name: 'doorman-cleanup', fastify: '5.x', dependencies: ['doorman-database'] })
