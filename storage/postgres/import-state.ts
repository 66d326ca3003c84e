/** What a database knows of a migration to it: whose data it is, who is at work on it, which ranges of the source it holds. */
import { doormanError } from '../../errors.js'
import { MIGRATED_TABLES } from '../../lib/migration-tables.js'
import type { RangeRecord } from '../../lib/migration-types.js'
import type { Queryable } from './pool-types.js'

/** One row at most: a database takes the data of one other. */
const CREATE = [
  `CREATE TABLE IF NOT EXISTS doorman_imports (
    id integer PRIMARY KEY CHECK (id = 1),
    source text NOT NULL,
    runner text NOT NULL,
    started_at bigint NOT NULL,
    finished_at bigint
  )`,
  `CREATE TABLE IF NOT EXISTS doorman_import_ranges (
    table_name text NOT NULL,
    range bigint NOT NULL,
    row_count bigint NOT NULL,
    checksum text NOT NULL,
    fingerprint text NOT NULL,
    verified boolean NOT NULL,
    PRIMARY KEY (table_name, range)
  )`
]

interface ImportRow { source: string, finished_at: number | null }

/** @returns the import that was begun here, or undefined */
async function findImport (client: Queryable): Promise<ImportRow | undefined> {
  const { rows: [there] } = await client.query<{ there: boolean }>('SELECT to_regclass(\'doorman_imports\') IS NOT NULL AS there')
  if (!there!.there) return undefined
  return (await client.query<ImportRow>('SELECT source, finished_at FROM doorman_imports')).rows[0]
}

/**
 * For a service that starts: what it stores would be removed by the migration's next run, as nothing the source has.
 * @throws (rejects) DOORMAN_MIGRATION_UNFINISHED
 */
export async function assertNoImport (client: Queryable, database: string): Promise<void> {
  const found = await findImport(client)
  if (found !== undefined && found.finished_at === null) throw doormanError('DOORMAN_MIGRATION_UNFINISHED', [database])
}

export interface BeginParams { source: string, runner: string, now: number, mode: 'copy' | 'verify' }

/** Runs in a transaction. @returns true when nothing of the source is here yet */
export async function beginImport (client: Queryable, { source, runner, now, mode }: BeginParams): Promise<boolean> {
  const refuse = (reason: string) => doormanError('DOORMAN_MIGRATION_TARGET_IN_USE', [reason])
  const found = await findImport(client)
  if (found !== undefined && found.source !== source) throw refuse('it has the data of another database, or some of it')
  if (mode === 'verify') {
    if (found === undefined) throw refuse('nothing has been migrated to it that could be verified')
  } else {
    if (found !== undefined && found.finished_at !== null) throw doormanError('DOORMAN_MIGRATION_FINISHED', [new Date(found.finished_at).toISOString()])
    // Log batches of a service leave a row in log_sources, which is not migrated.
    const tables = [...found === undefined ? MIGRATED_TABLES.map(table => table.name) : [], 'log_sources']
    const { rows: [filled] } = await client.query<{ name: string | null }>(`SELECT coalesce(${tables.map(name => `(SELECT '${name}' FROM ${name} LIMIT 1)`).join(', ')}, NULL) AS name`)
    if (filled!.name !== null) throw refuse(`its table ${filled!.name} has rows that no migration brought`)
  }
  if (found === undefined) for (const statement of CREATE) await client.query(statement)
  await client.query('INSERT INTO doorman_imports (id, source, runner, started_at) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO UPDATE SET runner = excluded.runner', [source, runner, now])
  return found === undefined
}

/** Holds off other runs until the end of the transaction. @throws (rejects) DOORMAN_MIGRATION_TAKEN_OVER */
export async function assertRunner (client: Queryable, runner: string): Promise<void> {
  const { rows } = await client.query({ name: 'doorman_import_runner', text: 'SELECT 1 AS ours FROM doorman_imports WHERE runner = $1 FOR UPDATE' }, [runner])
  if (rows.length === 0) throw doormanError('DOORMAN_MIGRATION_TAKEN_OVER')
}

interface RangeRow { range: number, row_count: number, checksum: string, fingerprint: string, verified: boolean }

export async function importedRanges (client: Queryable, table: string): Promise<RangeRecord[]> {
  const { rows } = await client.query<RangeRow>('SELECT range, row_count, checksum, fingerprint, verified FROM doorman_import_ranges WHERE table_name = $1 ORDER BY range', [table])
  return rows.map(({ row_count: count, ...record }) => ({ ...record, rows: count }))
}

export async function recordRanges (client: Queryable, table: string, complete: readonly RangeRecord[], gone: readonly number[]): Promise<void> {
  // A range that did not fit into one transaction may come twice: the last word counts.
  const records = [...new Map(complete.map(record => [record.range, record])).values()]
  const column = <Key extends keyof RangeRecord>(key: Key) => records.map(record => record[key])
  await client.query({
    name: 'doorman_import_record',
    text: `INSERT INTO doorman_import_ranges (table_name, range, row_count, checksum, fingerprint, verified)
      SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::boolean[])
      ON CONFLICT (table_name, range) DO UPDATE SET row_count = excluded.row_count, checksum = excluded.checksum, fingerprint = excluded.fingerprint, verified = excluded.verified`
  }, [table, column('range'), column('rows'), column('checksum'), column('fingerprint'), column('verified')])
  await client.query({ name: 'doorman_import_gone', text: 'DELETE FROM doorman_import_ranges WHERE table_name = $1 AND range = ANY($2::bigint[])' }, [table, gone])
}

/** A range that was found to differ loses its fingerprint, so that the next run looks at it again. */
export async function markRanges (client: Queryable, table: string, ranges: readonly number[], verified: boolean): Promise<void> {
  await client.query('UPDATE doorman_import_ranges SET verified = $3, fingerprint = CASE WHEN $3 THEN fingerprint ELSE \'\' END WHERE table_name = $1 AND range = ANY($2::bigint[])', [table, ranges, verified])
}
