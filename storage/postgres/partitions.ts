/**
 * One partition per UTC day of the tables that are appended to: made ahead or when a row needs one, dropped whole when all of it is too old.
 * None of it keeps writers or readers waiting: a partition is attached (which locks nobody out), and a drop, which does lock the table for an
 * instant, gives up at once when a long transaction is in its way.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { isDoormanError, type DoormanError } from '../../errors.js'
import type { StorageLogger } from '../storage.js'
import { sqlState } from './errors.js'
import type { Pool, Queryable } from './pool-types.js'
import { DAILY_TABLES, type DailyTable } from './schema-log.js'

export const DAY_MS = 86_400_000
/** Days that are made ahead, today included. */
const DAYS_AHEAD = 4
/** Partitions made in one transaction: each takes some of the server's locks until it ends. */
const MAKE_AT_ONCE = 8
/** Partitions dropped in one transaction. Writers wait while it lasts, some milliseconds. */
const DROP_AT_ONCE = 8
/** Longest wait of a drop for the table's lock, ms: everybody who comes after it queues behind it meanwhile. */
const DROP_LOCK_MS = 50
/** A drop is tried this often, with this pause (ms, at random up to it), before rows are deleted instead. */
const DROP_ATTEMPTS = 5
const DROP_PAUSE_MS = 200
/** For how long no drop is tried once one was given up, ms. */
const DROP_REST_MS = 60_000
/** Longest count of the rows of partitions about to go, ms. It holds up nobody. */
const COUNT_MS = 600_000

/** Somebody uses the table, or another process has dropped the partition at this moment. */
const IN_THE_WAY = /^(55P03|42P01)$/
/** Something of somebody else depends on the partition, or it belongs to another role. */
const REFUSED = /^(2BP01|42501)$/

export interface PartitionsOptions {
  pool: Pool
  /** False where the engine has no declarative partitioning: then there is nothing to do here. */
  partitioned: boolean
  /** Milliseconds since any moment, never set. */
  monotonic: () => number
  /** From 0 (included) to 1 (excluded). */
  random: () => number
  log: Pick<StorageLogger, 'warn'>
}

/** A partition, as SQL names it, and the times it holds: from `from` up to `to`, which is not in it. */
interface Partition { name: string, from: number, to: number }

/** The number of a time's UTC day. */
export const dayOf = (at: number): number => Math.floor(at / DAY_MS)

/** Whether the tables of the log are partitioned by day, or will be once they are made. */
export async function canPartition (client: Queryable): Promise<boolean> {
  const { rows: [row] } = await client.query<{ partitioned: boolean }>(`SELECT coalesce((SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('ip_logs')),
    current_setting('server_version_num')::int >= 120000 AND version() NOT LIKE '%Cockroach%') AS partitioned`)
  return row!.partitioned
}

/** Whether an error says that a row's day has no partition. It has the SQLSTATE of a broken CHECK, but names none. */
export function isMissingPartition (error: unknown): boolean {
  const { constraint } = (isDoormanError(error) ? error.cause : error) as { constraint?: string }
  return sqlState(error) === '23514' && constraint === undefined
}

/** The partitions of one database. */
export class Partitions {
  /** Whether there are any. */
  readonly partitioned: boolean
  #options: PartitionsOptions
  /** The last day up to which partitions are known to be there. */
  #madeUpTo = -Infinity
  #noDropBefore: Record<DailyTable, number> = { ip_logs: -Infinity, user_activity: -Infinity }

  constructor (options: PartitionsOptions) {
    this.#options = options
    this.partitioned = options.partitioned
  }

  /** Makes the partitions of today and the days to come, once a day. */
  async makeAhead (now: number): Promise<void> {
    const today = dayOf(now)
    if (today + DAYS_AHEAD - 1 <= this.#madeUpTo) return
    const days = Array.from({ length: DAYS_AHEAD }, (_, i) => today + i)
    for (const table of DAILY_TABLES) await this.make(table, days)
    this.#madeUpTo = today + DAYS_AHEAD - 1
  }

  /** Makes the partitions of these days (see `dayOf`) where they are missing. */
  async make (table: DailyTable, days: readonly number[]): Promise<void> {
    if (!this.partitioned) return
    for (let i = 0; i < days.length; i += MAKE_AT_ONCE) {
      await this.#options.pool.transaction({ lane: 'bulk', file: 'log' }, client => makeMissing(client, table, days.slice(i, i + MAKE_AT_ONCE)))
    }
  }

  /**
   * Drops partitions that hold nothing from `before` on, oldest first, until at least `enough` rows are gone.
   * @returns how many rows those were. Fewer than `enough`: no such partition is left, or they cannot be dropped at the moment
   */
  async dropOld (table: DailyTable, before: number, enough: number): Promise<number> {
    const { monotonic, random, log } = this.#options
    let removed = 0
    let attempts = 0
    while (this.partitioned && removed < enough && monotonic() >= this.#noDropBefore[table]) {
      try {
        const dropped = await this.#drop(table, before)
        if (dropped === null) break
        removed += dropped
      } catch (error) {
        const state = String(sqlState(error))
        if (!IN_THE_WAY.test(state) && !REFUSED.test(state)) throw error
        if (REFUSED.test(state) || ++attempts === DROP_ATTEMPTS) {
          this.#noDropBefore[table] = monotonic() + DROP_REST_MS
          log.warn({ table, err: (error as DoormanError).cause }, 'Old partitions cannot be dropped at the moment: their rows are deleted one by one')
        } else {
          await sleep(random() * DROP_PAUSE_MS)
        }
      }
    }
    return removed
  }

  /** Some of the old partitions at once. @returns the rows they had, null when there was no such partition */
  #drop (table: DailyTable, before: number): Promise<number | null> {
    return this.#options.pool.transaction({ lane: 'maintenance', file: 'log', lockTimeout: DROP_LOCK_MS, retryLocks: false, statementTimeout: COUNT_MS }, async client => {
      const old = (await partitionsOf(client, table)).filter(({ to }) => to <= before).sort((a, b) => a.from - b.from).slice(0, DROP_AT_ONCE)
      if (old.length === 0) return null
      const names = old.map(({ name }) => name)
      // Rows may come late, even here: not while they are counted, so that the count is exact. Another process that drops waits, and then finds
      // them gone (42P01). The lock on the whole table comes last, for an instant.
      await client.query(`LOCK TABLE ${names.join(', ')} IN SHARE ROW EXCLUSIVE MODE`)
      const { rows: [counted] } = await client.query<{ rows: number }>(`SELECT ${names.map(name => `(SELECT count(*) FROM ${name})`).join(' + ')} AS rows`)
      await client.query(`DROP TABLE ${names.join(', ')}`)
      return counted!.rows
    })
  }
}

async function makeMissing (client: Queryable, table: DailyTable, days: readonly number[]): Promise<void> {
  // Where there is nothing to do, nothing is locked.
  if ((await missingDays(client, table, days)).length === 0) return
  // One process at a time; rows are read and written meanwhile.
  await client.query(`LOCK TABLE ${table} IN SHARE UPDATE EXCLUSIVE MODE`)
  for (const day of await missingDays(client, table, days)) await attach(client, table, day * DAY_MS, (day + 1) * DAY_MS)
}

/** Days of which no partition has any part: two must not overlap. */
async function missingDays (client: Queryable, table: DailyTable, days: readonly number[]): Promise<number[]> {
  const present = await partitionsOf(client, table)
  return days.filter(day => !present.some(({ from, to }) => from < (day + 1) * DAY_MS && to > day * DAY_MS))
}

/** Partitions with bounds on both sides; others (a default one, say) are somebody else's and are left alone. */
async function partitionsOf (client: Queryable, table: DailyTable): Promise<Partition[]> {
  const { rows } = await client.query<{ name: string, bounds: string }>(`SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = '${table}'::regclass`)
  return rows.flatMap(({ name, bounds }) => {
    const [, from, to] = /FROM \('?(-?\d+)'?\) TO \('?(-?\d+)'?\)/.exec(bounds) ?? []
    return to === undefined ? [] : [{ name, from: Number(from), to: Number(to) }]
  })
}

/** Made as a table of its own and then attached: `CREATE TABLE … PARTITION OF` would lock the whole table. Its indexes come with the attaching. */
async function attach (client: Queryable, table: DailyTable, from: number, to: number): Promise<void> {
  const name = await freeName(client, `${table}_${new Date(from).toISOString().slice(0, 10).replaceAll('-', '')}`)
  await client.query(`CREATE TABLE ${name} (LIKE ${table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)`)
  await client.query(`ALTER TABLE ${table} ATTACH PARTITION ${name} FOR VALUES FROM (${from}) TO (${to})`)
}

/** A table of that name may be there still, detached by somebody who keeps it. */
async function freeName (client: Queryable, wanted: string): Promise<string> {
  const isTaken = async (name: string) => (await client.query<{ taken: boolean }>(`SELECT to_regclass('${name}') IS NOT NULL AS taken`)).rows[0]!.taken
  let name = wanted
  for (let n = 2; await isTaken(name); n++) name = `${wanted}_${n}`
  return name
}
