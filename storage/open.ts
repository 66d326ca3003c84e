/** Chooses the engine by the URL's scheme. Engines are loaded only when asked for. */
import { doormanError, show } from '../errors.js'
import type { MigrationSource, MigrationTarget } from '../lib/migration-types.js'
import type { Storage, StorageLogger, StorageOptions } from './storage.js'

export interface OpenStorageOptions extends StorageOptions {
  /** `file:PATH` for SQLite, `postgres://USER:PASSWORD@HOST:PORT/DATABASE` for PostgreSQL. */
  url: string
  /** The file of the log, where it should not stand beside the main one. SQLite only. */
  logUrl: string | null
}

/** Loads an engine; tests take its place. */
export interface Engines {
  sqlite (): Promise<typeof import('./sqlite/engine.js')>
  postgres (): Promise<typeof import('./postgres/engine.js')>
}

const ENGINES: Engines = { sqlite: () => import('./sqlite/engine.js'), postgres: () => import('./postgres/engine.js') }
const firstLine = (error: unknown) => (error as Error).message.split('\n', 1)[0]

/**
 * Opens a database and brings its schema up to date.
 * @throws DOORMAN_DATABASE_URL_INVALID, DOORMAN_OPTION_INVALID, DOORMAN_SQLITE_MISSING, DOORMAN_POSTGRES_MISSING, and what the engine throws on opening
 */
export async function openStorage ({ url, logUrl, ...options }: OpenStorageOptions, engines: Partial<Engines> = {}): Promise<Storage> {
  const { isPostgresUrl, maskPassword, readPostgresUrl } = await import('./postgres/location.js')
  const load = { ...ENGINES, ...engines }
  if (isPostgresUrl(url)) {
    const location = readPostgresUrl(url)
    if (logUrl !== null) throw doormanError('DOORMAN_OPTION_INVALID', ['logUrl', 'left out with PostgreSQL, where everything is in one database', show(maskPassword(logUrl))])
    const { openPostgres } = await load.postgres().catch((error: unknown) => {
      throw doormanError('DOORMAN_POSTGRES_MISSING', [firstLine(error)], error)
    })
    return openPostgres(location, options)
  }
  if (!url.startsWith('file:')) {
    throw doormanError('DOORMAN_DATABASE_URL_INVALID', ['"file:" and a path, such as file:./data/doorman.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE', show(maskPassword(url))])
  }
  const { resolveLocation } = await import('./sqlite/location.js')
  const location = resolveLocation(url, logUrl)
  const { openSqlite } = await load.sqlite().catch((error: unknown) => {
    throw doormanError('DOORMAN_SQLITE_MISSING', [firstLine(error)], error)
  })
  return openSqlite(location, options)
}

export interface OpenMigrationOptions {
  /** URL of the SQLite database that is read. */
  from: string
  /** URL of the PostgreSQL database that is written. */
  to: string
  /** The source is at rest: no other process has it open, or can open it meanwhile. */
  exclusive: boolean
  /** How long an operation on the target is repeated, ms. */
  busyTimeout: number
  log: StorageLogger
}

/** Loads the ends of a migration; tests take its place. */
export interface MigrationEnds {
  source (): Promise<typeof import('./sqlite/export.js')>
  target (): Promise<typeof import('./postgres/open-import.js')>
}

const ENDS: MigrationEnds = { source: () => import('./sqlite/export.js'), target: () => import('./postgres/open-import.js') }

/**
 * Opens the two ends of a migration; the caller closes both. The target's schema is brought up to date.
 * @throws (rejects) DOORMAN_DATABASE_URL_INVALID, DOORMAN_SQLITE_MISSING, DOORMAN_POSTGRES_MISSING, and what opening either of them throws
 */
export async function openMigration ({ from, to, exclusive, ...options }: OpenMigrationOptions, ends: Partial<MigrationEnds> = {}): Promise<{ source: MigrationSource, target: MigrationTarget }> {
  const { isPostgresUrl, maskPassword, readPostgresUrl } = await import('./postgres/location.js')
  if (!isPostgresUrl(to)) throw doormanError('DOORMAN_DATABASE_URL_INVALID', ['that of a PostgreSQL to migrate to, postgres://USER:PASSWORD@HOST:PORT/DATABASE', show(maskPassword(to))])
  if (isPostgresUrl(from)) throw doormanError('DOORMAN_DATABASE_URL_INVALID', ['"file:" and a path, to migrate from', show(maskPassword(from))])
  const location = readPostgresUrl(to)
  const { resolveLocation } = await import('./sqlite/location.js')
  const load = { ...ENDS, ...ends }
  const { openExport } = await load.source().catch((error: unknown) => { throw doormanError('DOORMAN_SQLITE_MISSING', [firstLine(error)], error) })
  const { openImport } = await load.target().catch((error: unknown) => { throw doormanError('DOORMAN_POSTGRES_MISSING', [firstLine(error)], error) })
  const source = await openExport(resolveLocation(from), { exclusive })
  try {
    return { source, target: await openImport(location, options) }
  } catch (error) {
    source.close()
    throw error
  }
}
