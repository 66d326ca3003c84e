/** Opens a database as the target of a migration: the engine's own pool and schema, without the engine. */
import { randomUUID } from 'node:crypto'
import type { StorageLogger } from '../storage.js'
import { PostgresImport } from './import.js'
import type { PostgresLocation } from './location.js'
import { openParts } from './open-parts.js'

export interface OpenImportOptions {
  /** How long an operation is repeated, ms. */
  busyTimeout: number
  log: StorageLogger
}

/** A run does one thing at a time. */
const MAX_PENDING = 100

/** @throws (rejects) what `openParts` throws */
export async function openImport (location: PostgresLocation, options: OpenImportOptions): Promise<PostgresImport> {
  const { pool, partitions } = await openParts(location, { ...options, maxPending: MAX_PENDING })
  return new PostgresImport({
    pool,
    partitions,
    runner: randomUUID(),
    clock: Date.now,
    async close () { await pool.close(0) }
  })
}
