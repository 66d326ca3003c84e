/** A stand-in for the database plugin, for tests of plugins that need only a little of it. */
import fp from 'fastify-plugin'
import type { Database, DatabaseStats } from '../lib/database.js'
import type { DelayHistogram } from '../lib/event-loop.js'
import type { RowQueueStats } from '../lib/row-queue.js'
import type { FileStats } from '../storage/storage.js'

const NO_DELAY: DelayHistogram = { count: 0, mean: NaN, max: 0, percentile: () => 0 }

/** Registers as `doorman-database` and decorates what is given. */
export function fakeDatabase (parts: { [K in keyof Database]?: K extends 'storage' ? unknown : Database[K] }) {
  return fp(async fastify => { fastify.decorate('database', { sessionTimeouts: new Set(), addressTiers: new Set(), registerCleanup () {}, lastCleanup: null, eventLoopDelay: NO_DELAY, ...parts } as unknown as Database) }, { name: 'doorman-database', fastify: '5.x' })
}

/** Statistics in which every number is recognisable. */
export function databaseStats (): DatabaseStats {
  const file: FileStats = {
    path: '/x.db',
    lanes: { interactive: { operations: 10, bytes: 11 }, bulk: { operations: 12, bytes: 13 }, maintenance: { operations: 14, bytes: 15 } },
    commits: 1,
    rows: 2,
    rowsPerCommitBuckets: [[1, 0], [2, 1]],
    busy: { SQLITE_BUSY: 3 },
    lockWaits: 4,
    lockWaitMsTotal: 1500,
    lockWaitMsMax: 250,
    lockWaitMsBuckets: [[1, 0], [250, 3]],
    transactionMsMax: 20,
    checkpointMsMax: 30,
    deadLetters: 5,
    walFrames: 6,
    walBacklog: 7,
    oldestReaderMs: 1600,
    pageCount: 8,
    freePages: 9,
    pageSize: 4096
  }
  const queue: RowQueueStats = { queued: 1, inFlight: 2, reserved: 3, bytes: 900, limit: 100, pushed: 10, committed: 7, batches: 4, retries: 5, dropped: { 'queue-full': 6 }, healthy: true, failingSince: null }
  return {
    storage: { engine: 'sqlite', version: '3.53.2', files: { main: file, log: file }, writer: { restarts: 1, pendingOperations: 2 }, reader: { restarts: 3, pendingOperations: 4 } },
    queues: { log: queue, touches: { ...queue, healthy: false } },
    health: { status: 'degraded', reasons: ['the disk is "full"'] },
    eventLoopDelay: { samples: 0, mean: 0, p50: 0, p99: 0, p999: 0, max: 0 },
    lastCleanup: null
  }
}
