/** For tests of the log on PostgreSQL: a storage, and an eye on its tables from outside. */
import type { Test } from 'tap'
import pg from 'pg'
import type { Storage } from '../../../storage/storage.js'
import { openPostgres } from '../../../storage/postgres/engine.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import type { EngineOptions } from '../../../storage/postgres/open-parts.js'
import { recordingLogger, type LogLine } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'

export interface LogDatabase {
  url: string
  storage: Storage
  lines: LogLine[]
  /** Whoever else is connected to the database. */
  other: pg.Client
  /** One statement of that other one. int8 comes as a number. */
  ask<Row extends object = Record<string, unknown>> (sql: string, params?: unknown[]): Promise<Row[]>
}

/** Opens one more storage on a database. */
export async function openOn (t: Test, url: string, engine: EngineOptions = {}, busyTimeout = 10_000): Promise<{ storage: Storage, lines: LogLine[] }> {
  const log = recordingLogger()
  const storage = await openPostgres(readPostgresUrl(url), { busyTimeout, maxPending: 1000, log }, engine)
  t.teardown(() => storage.close(1000))
  return { storage, lines: log.lines }
}

/** A connection that has nothing to do with a storage. */
export async function connectOther (t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, types: { getTypeParser: (oid: number, format?: 'text') => oid === 20 ? Number : pg.types.getTypeParser(oid, format) } as pg.CustomTypesConfig })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** A storage on a new database. */
export async function openLog (t: Test, engine: EngineOptions = {}, busyTimeout?: number): Promise<LogDatabase> {
  const url = await freshDatabase()
  const other = await connectOther(t, url)
  const ask = async <Row extends object>(sql: string, params: unknown[] = []) => (await other.query<Row>(sql, params)).rows
  return { url, other, ask, ...await openOn(t, url, engine, busyTimeout) }
}

/** Names of a table's partitions, in order. */
export async function partitionsOf ({ ask }: Pick<LogDatabase, 'ask'>, table = 'ip_logs'): Promise<string[]> {
  const rows = await ask<{ name: string }>(`SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = '${table}'::regclass ORDER BY 1`)
  return rows.map(({ name }) => name)
}

/** The partition that a time belongs to. */
export const partitionOf = (at: number, table = 'ip_logs'): string => `${table}_${new Date(at).toISOString().slice(0, 10).replaceAll('-', '')}`

/** Rows of a number of days before `now`, the same number each: quickly, by SQL. Their partitions must be there. */
export async function fillDays ({ ask, storage }: Pick<LogDatabase, 'ask' | 'storage'>, { now, days, perDay }: { now: number, days: number, perDay: number }): Promise<void> {
  const DAY = 86_400_000
  const today = Math.floor(now / DAY) * DAY
  await storage.appendLog({
    source: 'fill',
    seq: 1,
    at: now,
    rows: Array.from({ length: days }, (_, i) => ({
      kind: 'ip' as const, at: today - (i + 1) * DAY, ip: '192.0.2.1', ipSource: 'socket' as const, peerIp: null, peerPort: null, trustedHops: 0, method: 'GET', path: '/', route: null, status: 200, durationUs: 1, userAgent: null, referer: null, sessionId: null, userId: null, requestId: null, outcome: 'replied' as const
    }))
  })
  await ask(`INSERT INTO ip_logs (at, duration_us, status, ip, ip_source, method, path, outcome)
    SELECT $1::bigint - day * 86400000 + n * (86400000 / $3::bigint), 1, 200, '10.0.' || n % 256 || '.' || n % 250, 'socket', 'GET', '/' || n % 100, 'replied'
    FROM generate_series(1, $2::bigint) AS day, generate_series(1, $3::bigint - 1) AS n`, [today, days, perDay])
}
