/** Which two files a database URL stands for. */
import { isAbsolute, parse, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { doormanError, show } from '../../errors.js'

export interface Location {
  /** Sessions, blocks, leases, history: what must be exact. */
  main: string
  /** Request log and activity, append-only: its locks and its size never delay a login. */
  log: string
}

/**
 * Resolves `file:./data/doorman.db`, `file:/srv/doorman.db` or `file:///srv/doorman.db` to absolute paths. The log file stands beside
 * the main one (`doorman-log.db`) unless `logUrl` names another.
 * @throws DOORMAN_DATABASE_URL_INVALID
 */
export function resolveLocation (url: string, logUrl: string | null = null): Location {
  const main = pathOf(url)
  const { dir, name, ext } = parse(main)
  const log = logUrl === null ? resolve(dir, `${name}-log${ext}`) : pathOf(logUrl)
  if (log === main) throw doormanError('DOORMAN_DATABASE_URL_INVALID', ['two different files for sessions and log', `${show(url)} twice`])
  return { main, log }
}

function pathOf (url: string): string {
  const rest = /^file:(?<path>.+)$/s.exec(url)?.groups?.path
  const refuse = () => doormanError('DOORMAN_DATABASE_URL_INVALID', ['"file:" and a path, such as file:./data/doorman.db (a file: the threads of a process cannot share :memory:)', show(url)])
  if (rest === undefined || rest === ':memory:' || /[?#\0]/.test(rest) || /[/\\]$/.test(rest)) throw refuse()
  if (!rest.startsWith('//')) return isAbsolute(rest) ? rest : resolve(rest)
  try {
    return fileURLToPath(url)
  } catch {
    throw refuse()
  }
}
