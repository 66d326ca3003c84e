/** What the sweep and the lease change, and what an erasure changes in the main file. Each call is one small transaction of the maintenance lane. */
import type { EndReason } from '../../lib/vocabulary.js'
import { isAddressTarget, type AddressTarget, type BlockRecord, type CleanupRun, type LeaseParams, type MaintainParams, type MaintainResult, type SweepParams, type SweepTarget, type UserErased } from '../storage.js'
import { countFullAddresses } from './address-scan.js'
import type { Binding, Connection, FileName } from './connection.js'
import { hourOf } from './log-index.js'
import { IDS_PER_MS, LOG_INDEXES } from './schema-log.js'
import { dayOf } from './text-dictionary.js'

/** Which rows a target means: table, condition on `?` = the target's own form of `before`, and that form. */
interface SweepPlan { file: FileName, table: string, where: string, value (before: number): number }
const asIs = (before: number): number => before
const plan = (file: FileName, table: string, where: string, value = asIs): SweepPlan => ({ file, table, where, value })

/** What loses addresses instead of rows is in address-scan.ts. */
const PLANS: Record<Exclude<SweepTarget, AddressTarget>, readonly SweepPlan[]> = {
  sessionsIdle: [plan('main', 'sessions', 'last_active_at < ?')],
  sessionsExpired: [plan('main', 'sessions', 'expires_at <= ?')],
  sessionTombstones: [plan('main', 'session_tombstones', 'ended_at < ?')],
  sessionDevices: [plan('main', 'session_devices', 'last_seen_at < ?')],
  ipLogs: [plan('log', 'ip_log_rows', 'id < ?', before => before * IDS_PER_MS)],
  activity: [plan('log', 'user_activity', 'at < ?')],
  deadLetters: [plan('log', 'dead_letters', 'at < ?')],
  blocks: [plan('main', 'ip_blocks', 'until <= ?')],
  cleanupRuns: [plan('main', 'cleanup_runs', 'started_at < ?')],
  logInternals: [
    // A day's margin: last_day is the day a text was last written, in UTC, and `before` may lie within it.
    plan('log', 'texts', 'last_day < ?', before => dayOf(before)),
    plan('log', 'ingested', 'at < ?'),
    plan('log', 'log_sources', 'at < ?'),
    // What leads to rows, by the hour: when the last row of it is gone.
    ...LOG_INDEXES.map(name => plan('log', `ip_log_by_${name}`, 'hour < ?', before => hourOf(before * IDS_PER_MS)))
  ]
}

/** Which file a target lives in; each target has one. */
export function sweepFile (target: SweepTarget): FileName {
  if (isAddressTarget(target)) return target === 'sessionAddresses' ? 'main' : 'log'
  return PLANS[target][0]!.file
}

/** How many rows a target has. A session both idle and expired counts as idle, which is how it is swept. */
export function countSweepable (connection: Connection, target: SweepTarget, cutoffs: Record<SweepTarget, number>, now: number): number {
  if (isAddressTarget(target)) return countFullAddresses(connection, target, cutoffs, now)
  const before = cutoffs[target]
  if (target === 'sessionsExpired') return connection.get<{ n: number }>('SELECT count(*) AS n FROM sessions WHERE expires_at <= ? AND last_active_at >= ?', before, cutoffs.sessionsIdle)!.n
  return PLANS[target].reduce((sum, { table, where, value }) => sum + connection.get<{ n: number }>(`SELECT count(*) AS n FROM ${table} WHERE ${where}`, value(before))!.n, 0)
}

/** Removes up to `limit` rows by the index of their time. Sessions leave a tombstone. Returns how many were removed. */
export function sweep (connection: Connection, { target, before, limit, now }: SweepParams & { target: keyof typeof PLANS }): number {
  if (target === 'sessionsIdle') return buryExpired(connection, 'last_active_at < ?', before, 'idle', limit, now)
  if (target === 'sessionsExpired') return buryExpired(connection, 'expires_at <= ?', before, 'expired', limit, now)
  let removed = 0
  for (const { table, where, value } of PLANS[target]) {
    if (removed < limit) removed += connection.run(`DELETE FROM ${table} WHERE ${where} LIMIT ?`, value(before), limit - removed).changes
  }
  return removed
}

function buryExpired (connection: Connection, where: string, before: number, reason: EndReason, limit: number, now: number): number {
  const victims = `token_hash IN (SELECT token_hash FROM sessions WHERE ${where} LIMIT ?)`
  const values: Binding[] = [before, limit]
  connection.run(`INSERT OR REPLACE INTO session_tombstones (token_hash, session_id, user_id, reason, ended_at) SELECT token_hash, id, user_id, ?, ? FROM sessions WHERE ${victims}`, reason, now, ...values)
  return connection.run(`DELETE FROM sessions WHERE ${victims}`, ...values).changes
}

/** Gives free pages back to the file system (a bounded step) and refreshes the planner's statistics. */
export function maintain (connection: Connection, { pages, optimize }: MaintainParams): MaintainResult {
  const before = connection.number('freelist_count')
  if (before > 0) connection.db.pragma(`incremental_vacuum(${pages})`)
  // 0x10000: all tables, not only those queried by this connection; 0x10: only a sample of each (sqlite.org/pragma.html#pragma_optimize).
  if (optimize) connection.db.pragma('optimize = 0x10012')
  const remainingPages = connection.number('freelist_count')
  return { freedPages: before - remainingPages, remainingPages }
}

/**
 * A clock that was set back must not stop the schedule: a last run in the future does not count, nor does a lease that ends later than any
 * could have been given (more than twice the time asked for now). The near future does count: this may have waited for the lock since `now`,
 * while the holder completed its run.
 */
export function acquireLease (connection: Connection, { name, holder, now, until, lastRunBefore }: LeaseParams): boolean {
  connection.run('INSERT OR IGNORE INTO leases (name, until) VALUES (?, 0)', name)
  return connection.runNamed(`UPDATE leases SET holder = @holder, until = @until WHERE name = @name AND (holder = @holder
    OR ((until <= @now OR until > @latest) AND (last_run_at IS NULL OR last_run_at <= @lastRunBefore OR last_run_at > @until)))`,
  { name, holder, now, until, lastRunBefore, latest: until + (until - now) }).changes === 1
}

export function releaseLease (connection: Connection, { name, holder, completedAt }: { name: string, holder: string, completedAt: number | null }): null {
  connection.run('UPDATE leases SET holder = NULL, until = 0, last_run_at = coalesce(?, last_run_at) WHERE name = ? AND holder = ?', completedAt, name, holder)
  return null
}

export function addCleanupRun (connection: Connection, run: CleanupRun): null {
  connection.run(`INSERT INTO cleanup_runs (id, started_at, duration_ms, dry_run, trigger, complete, removed, freed_pages, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, run.id, run.startedAt, run.durationMs, run.dryRun ? 1 : 0, run.trigger, run.complete ? 1 : 0, JSON.stringify(run.removed), run.freedPages, run.error)
  return null
}

export function addBlock (connection: Connection, block: BlockRecord): null {
  connection.run('INSERT INTO ip_blocks (id, cidr, until, reason, created_at) VALUES (?, ?, ?, ?, ?)', block.id, block.cidr, block.until, block.reason, block.createdAt)
  return null
}

export function removeBlock (connection: Connection, { id }: { id: string }): boolean {
  return connection.run('DELETE FROM ip_blocks WHERE id = ?', id).changes === 1
}

/** Removes all sessions, tombstones and devices of a user. The freed bytes are overwritten (secure_delete is on for the erasing connection). */
export function eraseSessions (connection: Connection, { userId }: { userId: string }): Pick<UserErased, 'sessions' | 'endedSessions' | 'devices'> {
  const sessions = connection.run('DELETE FROM sessions WHERE user_id = ?', userId).changes
  const endedSessions = connection.run('DELETE FROM session_tombstones WHERE user_id = ?', userId).changes
  const devices = connection.run('DELETE FROM session_devices WHERE user_id = ?', userId).changes
  return { sessions, endedSessions, devices }
}
