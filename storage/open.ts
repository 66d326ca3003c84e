/** Chooses the engine by the URL's scheme. Engines are loaded only when asked for. */
import { doormanError, show } from '../errors.js'
import type { Storage, StorageOptions } from './storage.js'

export interface OpenStorageOptions extends StorageOptions {
  /** `file:PATH` for SQLite. */
  url: string
  /** The file of the log, where it should not stand beside the main one. SQLite only. */
  logUrl: string | null
}

/**
 * Opens a database and brings its schema up to date.
 * @throws DOORMAN_DATABASE_URL_INVALID, DOORMAN_SQLITE_MISSING, and what the engine throws on opening
 */
export async function openStorage ({ url, logUrl, ...options }: OpenStorageOptions, importEngine = () => import('./sqlite/engine.js')): Promise<Storage> {
  if (!url.startsWith('file:')) {
    throw doormanError('DOORMAN_DATABASE_URL_INVALID', ['"file:" and a path, such as file:./data/doorman.db', show(url.replace(/\/\/[^@/]*@/, '//***@'))])
  }
  const { resolveLocation } = await import('./sqlite/location.js')
  const location = resolveLocation(url, logUrl)
  const { openSqlite } = await importEngine().catch((error: unknown) => {
    throw doormanError('DOORMAN_SQLITE_MISSING', [(error as Error).message.split('\n', 1)[0]], error)
  })
  return openSqlite(location, options)
}
