/** Fills a log with old rows, many and quickly: the product's own code for appending, in this process and without its threads. */
import { packRows } from '../../../storage/sqlite/log-wire.js'
import { LogAppender } from '../../../storage/sqlite/log-writes.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import type { IpLogRow } from '../../../storage/storage.js'

const ROWS_PER_TRANSACTION = 20_000
const PATHS = 1000
const BROWSERS = 200
const CLIENTS = 50_000
const SESSIONS = 20_000

/**
 * Appends `count` rows, spread evenly over `from` to `to` (ms), oldest first: paths, browsers and addresses repeat as those of a service
 * do, every second row has one of `SESSIONS` sessions. `name` is in every path and session, so that texts are old when their rows are.
 */
export async function fillLog (file: string, { count, from, to, name }: { count: number, from: number, to: number, name: string }): Promise<void> {
  const connection = await openFile({ path: file, file: 'log', migrations: logMigrations, busyTimeout: 1000 })
  try {
    // The writer copies its WAL back with fsync; nobody needs these rows after a power failure.
    connection.db.pragma('synchronous = OFF')
    const appender = new LogAppender(connection)
    for (let done = 0, seq = 1; done < count; seq++) {
      const rows = Array.from({ length: Math.min(ROWS_PER_TRANSACTION, count - done) }, (_, i) => oldRow(done + i, Math.floor(from + (to - from) * (done + i) / count), name))
      connection.run('BEGIN IMMEDIATE')
      appender.append({ source: `fill-${name}`, seq, at: rows[0]!.at, rows: packRows(rows) })
      connection.run('COMMIT')
      done += rows.length
    }
  } finally {
    connection.close()
  }
}

function oldRow (n: number, at: number, name: string): IpLogRow {
  // Mixed, so that neighbours in time are not neighbours in the indexes.
  const mixed = Math.imul(n, 2_654_435_761) >>> 0
  const client = mixed % CLIENTS
  const session = mixed % 2 === 0 ? mixed % SESSIONS : null
  return {
    kind: 'ip',
    at,
    ip: `10.${client >> 16}.${(client >> 8) & 255}.${client & 255}`,
    ipSource: 'socket',
    peerIp: null,
    peerPort: 1024 + mixed % 60_000,
    trustedHops: 0,
    method: 'GET',
    path: `/${name}/${mixed % PATHS}`,
    route: '/:name/:id',
    status: 200,
    durationUs: mixed % 5000,
    userAgent: `Mozilla/5.0 (X11; Linux x86_64; rv:${client % BROWSERS}.0) Gecko/20100101 Firefox/${client % BROWSERS}.0`,
    referer: null,
    sessionId: session === null ? null : `s_${name}_${session}`,
    userId: session === null ? null : `user-${name}-${session % 5000}`,
    requestId: `req-${n.toString(36)}`,
    outcome: 'replied'
  }
}
