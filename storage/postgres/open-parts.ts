/** Opens what the engine consists of: the first connection, the pool, the schema, the partitions. */
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError } from '../../errors.js'
import type { StorageOptions } from '../storage.js'
import { Circuit } from './circuit.js'
import { connect, type Connection } from './connect.js'
import { Connections } from './connections.js'
import { Counters } from './counters.js'
import { asCause, classify } from './errors.js'
import type { PostgresLocation } from './location.js'
import { migrate } from './migrate.js'
import { canPartition, Partitions } from './partitions.js'
import { PostgresPool } from './pool.js'
import { logMigrations } from './schema-log.js'
import { mainMigrations } from './schema-main.js'

export type PartsOptions = Pick<StorageOptions, 'busyTimeout' | 'maxPending' | 'log'>

/** A server that starts beside us (a composition of containers, a machine that boots) is waited for that long, ms. */
const START_WAIT_MS = 10_000
const START_PAUSE_MS = 250
/** Longest run of a statement, ms, unless the URL or a longer lock wait says otherwise. */
const STATEMENT_TIMEOUT_MS = 30_000
/** Longest wait for another process that brings the schema up to date, ms. */
const MIGRATION_WAIT_MS = 600_000

/** What tests decide otherwise. */
export interface EngineOptions {
  /** False: as on an engine without declarative partitioning. */
  partitioned?: boolean
  random?: () => number
  monotonic?: () => number
  clock?: () => number
  /** How long a server that is not there yet is waited for, ms. */
  startWait?: number
}

/** The open parts of a database. */
export interface Parts {
  pool: PostgresPool
  connections: Connections
  circuit: Circuit
  counters: Record<'main' | 'log', Counters>
  partitions: Partitions
  random: () => number
  busyTimeout: number
  /** Of the server. */
  version: string
}

/**
 * Connects, and brings the schema up to date. Once open, connections that break off are replaced for as long as the pool lives.
 * @throws DOORMAN_DATABASE_UNREACHABLE, DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN, DOORMAN_STORAGE_…
 */
export async function openParts (location: PostgresLocation, options: PartsOptions, { partitioned, random = Math.random, monotonic = () => performance.now(), clock = Date.now, startWait = START_WAIT_MS }: EngineOptions = {}): Promise<Parts> {
  const { busyTimeout, maxPending, log } = options
  const { name, where, connections: size, pooled } = location
  const statementTimeout = location.statementTimeout ?? Math.max(STATEMENT_TIMEOUT_MS, busyTimeout)
  const limits = { statementTimeout, lockTimeout: Math.max(1, busyTimeout) }
  let { hosts } = location
  const connectOnce = async (): Promise<Connection> => {
    const { connection, host } = await connect(location, hosts, limits)
    // Whoever took us last is asked first.
    hosts = [host, ...hosts.filter(other => other !== host)]
    return connection
  }

  const first = await connectFirst(connectOnce, location, monotonic() + startWait, monotonic)
  const circuit = new Circuit({ log, monotonic, name, where })
  const connections = new Connections({ connect: connectOnce, size, circuit, random })
  connections.add(first)
  const counters = { main: new Counters(), log: new Counters() }
  const pool = new PostgresPool({ connections, circuit, counters, busyTimeout, statementTimeout, pooled, maxPending, monotonic, random })
  try {
    const byDay = partitioned ?? await pool.run({ lane: 'interactive', uncounted: true, readOnly: true }, canPartition)
    const parts = [{ part: 'main', migrations: mainMigrations }, { part: 'log', migrations: logMigrations(byDay) }] as const
    const now = clock()
    await migrate(parts, { pool, database: `"${name}" on ${where}`, now, wait: MIGRATION_WAIT_MS })
    const partitions = new Partitions({ pool, partitioned: byDay, monotonic, random, log })
    await partitions.makeAhead(now)
    return { pool, connections, circuit, counters, partitions, random, busyTimeout, version: first.version }
  } catch (error) {
    await pool.close(0)
    throw error
  }
}

/** @throws DOORMAN_DATABASE_UNREACHABLE */
async function connectFirst (connectOnce: () => Promise<Connection>, { name, where }: PostgresLocation, end: number, monotonic: () => number): Promise<Connection> {
  for (;;) {
    try {
      return await connectOnce()
    } catch (error) {
      // A wrong password or name does not get better by waiting.
      if (classify(error, true, false) !== 'lost' || monotonic() > end) {
        const cause = asCause(error)
        throw doormanError('DOORMAN_DATABASE_UNREACHABLE', [name, where, cause.message], cause)
      }
    }
    await sleep(START_PAUSE_MS)
  }
}
