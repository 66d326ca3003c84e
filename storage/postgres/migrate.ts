/**
 * Brings the database's schema to the present version: numbered steps, append-only, all in one transaction. Processes that start at
 * once are ordered by the lock of one row, which every engine of the protocol has.
 */
import { doormanError } from '../../errors.js'
import { sqlState } from './errors.js'
import type { Pool, Queryable } from './pool-types.js'

/** One step. Its position in the list (from 1) is its number, the same in every engine. */
export interface Migration {
  name: string
  /** Run one by one. */
  statements: readonly string[]
}

/** The steps of one part: what is a file of its own with SQLite. */
export interface SchemaPart { part: 'main' | 'log', migrations: readonly Migration[] }

export interface MigrateOptions {
  pool: Pool
  /** Names the database in errors. */
  database: string
  now: number
  /** Longest wait for another process that migrates, ms. */
  wait: number
}

const VERSION_TABLE = 'doorman_migrations'
/** Not there yet, or made by another process at this very moment (which Postgres notices only in its catalogue). */
const MADE_MEANWHILE = /^(23505|42P07|42710)$/
/** A step that reads or rewrites large tables takes its time. */
const STATEMENT_TIMEOUT_MS = 3_600_000

/**
 * Runs the missing steps. Where there are none nothing is locked or written, so a role without the right to make tables will do.
 * @throws DOORMAN_SCHEMA_NEWER, DOORMAN_SCHEMA_FOREIGN, and what the pool throws
 */
export async function migrate (parts: readonly SchemaPart[], { pool, database, now, wait }: MigrateOptions): Promise<void> {
  const missing = await pool.run({ lane: 'interactive', uncounted: true, readOnly: true }, async client => {
    const steps = await missingSteps(client, parts, database)
    // Before anything is made, so that a database that is not ours stays as it is.
    if (steps.length > 0) await refuseForeign(client, parts, database)
    return steps
  })
  if (missing.length === 0) return
  await pool.run({ lane: 'interactive', uncounted: true }, async client => {
    await client.query(`CREATE TABLE IF NOT EXISTS ${VERSION_TABLE} (part text NOT NULL, version integer NOT NULL, name text NOT NULL, applied_at bigint NOT NULL, PRIMARY KEY (part, version))`)
  }).catch((error: unknown) => {
    if (!MADE_MEANWHILE.test(String(sqlState(error)))) throw error
  })
  await pool.transaction({ lane: 'interactive', uncounted: true, wait, statementTimeout: STATEMENT_TIMEOUT_MS }, async client => {
    await client.query(`INSERT INTO ${VERSION_TABLE} (part, version, name, applied_at) VALUES ('lock', 0, 'held while migrating', $1)
      ON CONFLICT (part, version) DO UPDATE SET applied_at = excluded.applied_at`, [now])
    // Asked again under the lock: another process may have migrated in between.
    for (const { part, version, migration } of await missingSteps(client, parts, database)) {
      for (const statement of migration.statements) await client.query(statement)
      await client.query(`INSERT INTO ${VERSION_TABLE} (part, version, name, applied_at) VALUES ($1, $2, $3, $4)`, [part, version, migration.name, now])
    }
  })
}

interface Step { part: string, version: number, migration: Migration }
interface Applied { part: string, version: number, name: string }

async function exists (client: Queryable, name: string): Promise<boolean> {
  const { rows } = await client.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [name])
  return rows[0]!.found
}

async function applied (client: Queryable): Promise<Applied[]> {
  if (!await exists(client, VERSION_TABLE)) return []
  return (await client.query<Applied>(`SELECT part, version, name FROM ${VERSION_TABLE} WHERE version > 0 ORDER BY part, version`)).rows
}

async function missingSteps (client: Queryable, parts: readonly SchemaPart[], database: string): Promise<Step[]> {
  const seen = await applied(client)
  return parts.flatMap(({ part, migrations }) => {
    const known = seen.filter(step => step.part === part)
    const other = known.find((step, i) => i < migrations.length && step.name !== migrations[i]!.name)
    if (other !== undefined) throw doormanError('DOORMAN_SCHEMA_FOREIGN', [database, `${VERSION_TABLE}: ${other.name}`])
    if (known.length > migrations.length) throw doormanError('DOORMAN_SCHEMA_NEWER', [database, known.length, migrations.length])
    return migrations.slice(known.length).map((migration, i) => ({ part, version: known.length + i + 1, migration }))
  })
}

/** A database that has seen none of our steps must have none of our names: a table `sessions` may well be somebody else's. */
async function refuseForeign (client: Queryable, parts: readonly SchemaPart[], database: string): Promise<void> {
  if ((await applied(client)).length > 0) return
  const statements = parts.flatMap(({ migrations }) => migrations).flatMap(migration => migration.statements)
  const names = statements.flatMap(statement => /^CREATE (?:TABLE|SEQUENCE|INDEX|VIEW) (\w+)/.exec(statement)?.[1] ?? [])
  // A process beside us may just have made them.
  for (const name of names) if (await exists(client, name) && (await applied(client)).length === 0) throw doormanError('DOORMAN_SCHEMA_FOREIGN', [database, name])
}
