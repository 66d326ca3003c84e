/** Which process may run the cleanup, and the history of its runs. */
import type { CleanupRun, LeaseParams, Page, PageParams } from '../storage.js'
import { toRemoved } from '../rows.js'
import type { Pool, Statement } from './pool-types.js'

/**
 * By a row, so that it ends by itself, survives a lost connection, and works behind a pooler. A clock that was set back must not stop the
 * schedule: a last run in the future does not count, nor does a lease that ends later than any could have been given (more than twice the time
 * asked for now). The near future does count: this may have waited for the row since `now`, while the holder completed its run.
 */
const ACQUIRE: Statement = {
  name: 'doorman_acquire_lease',
  text: `INSERT INTO leases AS held (name, holder, until) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE held.holder = $2 OR ((held.until <= $4 OR held.until > $5) AND (held.last_run_at IS NULL OR held.last_run_at <= $6 OR held.last_run_at > $3))`
}
const RELEASE: Statement = {
  name: 'doorman_release_lease',
  text: 'UPDATE leases SET holder = NULL, until = 0, last_run_at = coalesce($3::bigint, last_run_at) WHERE name = $1 AND holder = $2'
}
/** A repeated attempt finds its own row. */
const ADD_RUN: Statement = {
  name: 'doorman_add_cleanup_run',
  text: `INSERT INTO cleanup_runs (id, started_at, duration_ms, dry_run, trigger, complete, removed, freed_pages, error)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`
}

interface CleanupRow { id: string, started_at: number, duration_ms: number, dry_run: boolean, trigger: CleanupRun['trigger'], complete: boolean, removed: string, freed_pages: number, error: string | null }
const toCleanupRun = (r: CleanupRow): CleanupRun => ({
  id: r.id,
  startedAt: r.started_at,
  durationMs: r.duration_ms,
  dryRun: r.dry_run,
  trigger: r.trigger,
  complete: r.complete,
  removed: toRemoved(r.removed),
  freedPages: r.freed_pages,
  error: r.error
})

const WORK = { lane: 'interactive', uncounted: true, rows: 1 } as const

export function acquireLease (pool: Pool, { name, holder, now, until, lastRunBefore }: LeaseParams): Promise<boolean> {
  return pool.run(WORK, async client => (await client.query(ACQUIRE, [name, holder, until, now, until + (until - now), lastRunBefore])).rowCount === 1)
}

export async function releaseLease (pool: Pool, name: string, holder: string, completedAt: number | null): Promise<void> {
  await pool.run(WORK, client => client.query(RELEASE, [name, holder, completedAt]))
}

export async function addCleanupRun (pool: Pool, run: CleanupRun): Promise<void> {
  const values = [run.id, run.startedAt, run.durationMs, run.dryRun, run.trigger, run.complete, JSON.stringify(run.removed), run.freedPages, run.error]
  await pool.run(WORK, client => client.query(ADD_RUN, values))
}

export async function listCleanupRuns (pool: Pool, { limit, after }: PageParams): Promise<Page<CleanupRun>> {
  const older = after === undefined ? '' : 'WHERE (started_at, id) < ($2::bigint, $3)'
  const sql = `SELECT id, started_at, duration_ms, dry_run, trigger, complete, removed, freed_pages, error FROM cleanup_runs ${older} ORDER BY started_at DESC, id DESC LIMIT $1`
  const { rows } = await pool.run({ lane: 'interactive', readOnly: true }, client => client.query<CleanupRow>(sql, [limit + 1, ...after ?? []]))
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  return { items: items.map(toCleanupRun), next: rows.length > limit ? [last!.started_at, last!.id] : null }
}
