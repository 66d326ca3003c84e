/** What the server tells about itself and our tables: sizes, settings, findings. */
import type { ConnectionReport } from '../storage.js'
import type { Pages } from './counters.js'
import type { Pool } from './pool-types.js'

/** Names of our tables, their partitions and indexes begin with these. */
const OWN = {
  main: ['sessions', 'session_', 'ip_blocks', 'cleanup_runs', 'leases', 'doorman_'],
  log: ['ip_logs', 'user_activity', 'dead_letters', 'log_sources', 'ingested']
}

/** Sizes are for graphs: they must not keep anybody waiting, ms. */
const SIZES_WAIT_MS = 1000

const startsWith = (names: readonly string[]) => names.map(name => `starts_with(relname, '${name}')`).join(' OR ')

/** As of the last vacuum or analyze of each table: asking for the files themselves would lock each. */
export async function askSizes (pool: Pool): Promise<Record<'main' | 'log', Pages>> {
  const { rows } = await pool.run({ lane: 'interactive', uncounted: true, readOnly: true, wait: SIZES_WAIT_MS }, client => client.query<{ main: number, log: number, size: number }>(
    `SELECT coalesce(sum(relpages) FILTER (WHERE ${startsWith(OWN.main)}), 0)::bigint AS main, coalesce(sum(relpages) FILTER (WHERE ${startsWith(OWN.log)}), 0)::bigint AS log,
      current_setting('block_size')::bigint AS size
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i')`))
  const { main, log, size } = rows[0]!
  return { main: { pageCount: main, pageSize: size }, log: { pageCount: log, pageSize: size } }
}

/** What makes queries wrong or slow without an error: broken checksums, indexes that were never completed. */
export async function check (pool: Pool): Promise<string[]> {
  return pool.run({ lane: 'interactive', readOnly: true }, async client => {
    const broken = await client.query<{ failures: number }>('SELECT checksum_failures AS failures FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0')
    const invalid = await client.query<{ name: string }>('SELECT indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace ORDER BY 1')
    return [...broken.rows.map(({ failures }) => `${failures} pages of the database have a wrong checksum`), ...invalid.rows.map(({ name }) => `the index ${name} is not valid: REINDEX INDEX ${name}`)]
  })
}

const SETTINGS = ['application_name', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'synchronous_commit', 'server_version']

/** One of the connections; all are opened alike. */
export async function describeConnection (pool: Pool, busyWaitMs: number): Promise<ConnectionReport> {
  const { rows } = await pool.run({ lane: 'interactive', readOnly: true }, client => client.query<{ name: string, setting: string }>('SELECT name, setting FROM pg_settings WHERE name = ANY ($1)', [SETTINGS]))
  return { role: 'writer', file: 'main', readonly: false, busyWaitMs, pragmas: Object.fromEntries(rows.map(({ name, setting }) => [name, setting])) }
}
