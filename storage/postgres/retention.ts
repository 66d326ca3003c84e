/**
 * What the sweep removes. Whole days of the log go by dropping their partitions; what is old of a day that is not yet over, and everything
 * where there are no partitions, is deleted in batches by the index of its time.
 */
import type { EndReason } from '../../lib/vocabulary.js'
import { isAddressTarget, SWEEP_TARGETS, type AddressTarget, type MaintainResult, type SweepParams, type SweepTarget } from '../storage.js'
import { countFullAddresses, type AddressData } from './address-scan.js'
import type { Partitions } from './partitions.js'
import type { Pool } from './pool-types.js'
import type { DailyTable } from './schema-log.js'

/** Which rows a target means: a table, its key, and when a row is old, given the target's `before` as $1. */
interface SweepPlan { table: string, key: string, old: string }

/** Targets whose rows go. What loses addresses instead is in address-scan.ts. */
type RowTarget = Exclude<SweepTarget, AddressTarget>

const PLANS: Record<Exclude<RowTarget, 'sessionsIdle' | 'sessionsExpired'>, readonly SweepPlan[]> = {
  sessionTombstones: [{ table: 'session_tombstones', key: 'token_hash', old: 'ended_at < $1' }],
  sessionDevices: [{ table: 'session_devices', key: 'user_id, device, network', old: 'last_seen_at < $1' }],
  ipLogs: [{ table: 'ip_logs', key: 'at, id', old: 'at < $1' }],
  activity: [{ table: 'user_activity', key: 'at, id', old: 'at < $1' }],
  deadLetters: [{ table: 'dead_letters', key: 'id', old: 'at < $1' }],
  blocks: [{ table: 'ip_blocks', key: 'id', old: 'until <= $1' }],
  cleanupRuns: [{ table: 'cleanup_runs', key: 'id', old: 'started_at < $1' }],
  logInternals: [{ table: 'ingested', key: 'key', old: 'at < $1' }, { table: 'log_sources', key: 'source', old: 'at < $1' }]
}

const ENDINGS = {
  sessionsIdle: { old: 'last_active_at < $1', reason: 'idle' },
  sessionsExpired: { old: 'expires_at <= $1', reason: 'expired' }
} as const satisfies Partial<Record<SweepTarget, { old: string, reason: EndReason }>>

const DAILY: Partial<Record<SweepTarget, DailyTable>> = { ipLogs: 'ip_logs', activity: 'user_activity' }
const LOG_TARGETS: readonly SweepTarget[] = ['ipLogs', 'activity', 'deadLetters', 'logInternals']

/** Longest run of the counts of a dry run, ms: they read all that is old. */
const COUNT_MS = 600_000

/** Removes what is old. */
export class Retention {
  #pool: Pool
  #partitions: Partitions
  #addresses: AddressData

  constructor (pool: Pool, partitions: Partitions, addresses: AddressData) {
    this.#pool = pool
    this.#addresses = addresses
    this.#partitions = partitions
  }

  /**
   * Removes up to `limit` rows, more where a partition of the log has more: it goes whole. Returns how many. Fewer than `limit` means none
   * are left. A session that is used, or a row that comes late, in this very moment may stay for the next run.
   */
  async sweep (params: SweepParams): Promise<number> {
    const { target, before, limit, now } = params
    if (isAddressTarget(target)) return this.#addresses.sweep(target, params)
    const daily = DAILY[target]
    if (daily === undefined) return this.#sweepRows(target, before, limit, now)
    await this.#partitions.makeAhead(now)
    const dropped = await this.#partitions.dropOld(daily, before, limit)
    return dropped >= limit ? dropped : dropped + await this.#sweepRows(target, before, limit - dropped, now)
  }

  #sweepRows (target: RowTarget, before: number, limit: number, now: number): Promise<number> {
    const work = { lane: 'maintenance', file: LOG_TARGETS.includes(target) ? 'log' : 'main', rows: limit } as const
    return this.#pool.run(work, async client => {
      if (target === 'sessionsIdle' || target === 'sessionsExpired') return (await client.query(endOld(ENDINGS[target].old), [before, limit, ENDINGS[target].reason, now])).rowCount
      let removed = 0
      for (const plan of PLANS[target]) {
        if (removed < limit) removed += (await client.query(deleteOld(plan), [before, limit - removed])).rowCount
      }
      return removed
    })
  }

  /** Exactly, at one moment. A session both idle and expired counts as idle, which is how it is swept. */
  async countSweepable (cutoffs: Record<SweepTarget, number>, now: number): Promise<Record<SweepTarget, number>> {
    const values: number[] = []
    const count = (table: string, old: string, before: number) => `(SELECT count(*) FROM ${table} WHERE ${old.replace('$1', `$${values.push(before)}`)})`
    const columns = (addresses: Record<AddressTarget, string>) => SWEEP_TARGETS.map(target => {
      if (isAddressTarget(target)) return addresses[target]
      const before = cutoffs[target]
      if (target === 'sessionsIdle') return count('sessions', ENDINGS[target].old, before)
      if (target === 'sessionsExpired') return count('sessions', `${ENDINGS[target].old} AND last_active_at >= $${values.push(cutoffs.sessionsIdle)}`, before)
      return PLANS[target].map(({ table, old }) => count(table, old, before)).join(' + ')
    })
    return this.#pool.transaction({ lane: 'maintenance', readOnly: true, statementTimeout: COUNT_MS }, async client => {
      values.length = 0
      const addresses = await countFullAddresses(client, cutoffs, now, value => `$${values.push(value)}`)
      const sql = `SELECT ${columns(addresses).map((column, i) => `${column} AS "${SWEEP_TARGETS[i]}"`).join(', ')}`
      const { rows } = await client.query<Record<SweepTarget, number>>(sql, values)
      return rows[0]!
    })
  }

  /** Nothing to do: the server's autovacuum makes freed room usable again and keeps the planner's statistics; dropped partitions are gone at once. */
  async maintain (): Promise<MaintainResult> {
    return { freedPages: 0, remainingPages: 0 }
  }
}

/** The condition on both: inside it finds the rows by their index, outside it leaves out the partitions that have none. */
function deleteOld ({ table, key, old }: SweepPlan): string {
  return `DELETE FROM ${table} WHERE ${old} AND (${key}) IN (SELECT ${key} FROM ${table} WHERE ${old} ORDER BY ${old.split(' ', 1)[0]} LIMIT $2)`
}

/** Sessions leave a tombstone, and other processes are told. */
const endOld = (old: string): string => `WITH ended AS (
    DELETE FROM sessions WHERE ${old} AND token_hash IN (SELECT token_hash FROM sessions WHERE ${old} LIMIT $2) RETURNING token_hash, id, user_id
  ), announced AS (${announce('ended')})
  INSERT INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at, grace_until) SELECT token_hash, id, user_id, $3::text, $4::bigint, 0 FROM ended
  ON CONFLICT (token_hash) DO UPDATE SET session_id = excluded.session_id, user_id = excluded.user_id, reason = excluded.reason, ended_at = excluded.ended_at, grace_until = 0`

/** Counts a change of sessions, where there are such rows. */
export const announce = (rows: string): string => `UPDATE doorman_counters SET value = value + 1 WHERE name = 'sessions' AND shard = 0 AND EXISTS (SELECT 1 FROM ${rows})`
