/** Watches the log from outside, as it is cleaned up: the size of its WAL, and by how much rows and pages become fewer at once. */
import { statSync } from 'node:fs'
import Database from 'better-sqlite3'

const LOOK_MS = 5

export interface Watched {
  /** Largest size of the WAL file, bytes. */
  walBytes: number
  /** Most pages by which the file became shorter between two looks. */
  mostPagesAtOnce: number
  /** Longest time, ms, by which the oldest row became younger between two looks. */
  mostTimeAtOnce: number
}

/**
 * Looks every few milliseconds until it is stopped. A look is over in an instant, so it keeps nothing from being copied back.
 * @param end time of the youngest row that goes, ms
 */
export function watchLog (file: string, end: number): { stop (): Watched } {
  const db = new Database(file, { readonly: true, fileMustExist: true })
  const pageCount = () => db.pragma('page_count', { simple: true }) as number
  const oldest = db.prepare('SELECT min(id) / 1024 FROM ip_log_rows').pluck()
  const watched: Watched = { walBytes: 0, mostPagesAtOnce: 0, mostTimeAtOnce: 0 }
  let pages = pageCount()
  let from = oldest.get() as number
  const look = () => {
    const now = pageCount()
    watched.mostPagesAtOnce = Math.max(watched.mostPagesAtOnce, pages - now)
    watched.walBytes = Math.max(watched.walBytes, statSync(`${file}-wal`).size)
    pages = now
    const then = Math.min(end, oldest.get() as number)
    watched.mostTimeAtOnce = Math.max(watched.mostTimeAtOnce, then - from)
    from = then
  }
  const timer = setInterval(look, LOOK_MS)
  return {
    stop () {
      if (!db.open) return watched
      clearInterval(timer)
      look()
      db.close()
      return watched
    }
  }
}
