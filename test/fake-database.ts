/** A stand-in for the database plugin, for tests of plugins that need only a little of it. */
import fp from 'fastify-plugin'
import type { Database, DatabaseStats } from '../lib/database.js'
import type { RowQueueStats } from '../lib/row-queue.js'
import type { FileStats } from '../storage/storage.js'

/** Registers as `doorman-database` and decorates what is given. */
export function fakeDatabase (parts: { [K in keyof Database]?: K extends 'storage' ? unknown : Database[K] }) {
  return fp(async fastify => { fastify.decorate('database', { sessionTimeouts: new Set(), ...parts } as unknown as Database) }, { name: 'doorman-database', fastify: '5.x' })
}

/** Statistics in which every number is recognisable. */
export function databaseStats (): DatabaseStats {
  const file: FileStats = {
    path: '/x.db',
    commits: 1,
    rows: 2,
    busy: { SQLITE_BUSY: 3 },
    lockWaits: 4,
    lockWaitMsTotal: 1500,
    lockWaitMsMax: 250,
    transactionMsMax: 20,
    deadLetters: 5,
    walFrames: 6,
    walBacklog: 7,
    pageCount: 8,
    freePages: 9,
    pageSize: 4096
  }
  const queue: RowQueueStats = { queued: 1, inFlight: 2, reserved: 3, limit: 100, pushed: 10, committed: 7, batches: 4, retries: 5, dropped: { 'queue-full': 6 }, healthy: true, failingSince: null }
  return {
    storage: { engine: 'sqlite', version: '3.53.2', files: { main: file, log: file }, writer: { restarts: 1, pendingOperations: 2 }, reader: { restarts: 3, pendingOperations: 4 } },
    queues: { log: queue, touches: { ...queue, healthy: false } },
    health: { status: 'degraded', reasons: ['the disk is "full"'] }
  }
}
