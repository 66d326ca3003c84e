/** Lists and aggregates. They run in the reader thread, on read-only connections. */
import type {
  ActivityFilter, BlockRecord, CleanupRun, DeadLetter, EndedSession, IpLogFilter, Page, PageParams, SeriesPoint, SessionListParams, SessionRecord, StoredActivity, StoredIpLog,
  TopBy, TopEntry, UserExport
} from '../storage.js'
import type { EndReason } from '../../lib/vocabulary.js'
import { encodeAddress } from './address-code.js'
import type { Binding, Connection } from './connection.js'
import { newestByKey, rowsByKey, snapshot, type IdRange, type IndexKey } from './log-index.js'
import { addressSql, AT_SQL, IDS_PER_MS, IP_LOG_COLUMNS } from './schema-log.js'
import type { ScanPosition } from '../address-scan.js'
import { toActivity, toDeadLetter, toIpLog, toRemoved, toSession, type ActivityRecord, type DeadLetterRecord, type IpLogRecord, type SessionRow } from '../rows.js'
import { listSessionDevices } from './session-devices.js'
import { SESSION_COLUMNS } from './session-rows.js'
import { findText } from './text-dictionary.js'

/** Conditions joined by AND, with their values. */
class Where {
  readonly values: Binding[] = []
  #terms: string[] = []

  add (term: string, ...values: Binding[]): void {
    this.#terms.push(term)
    this.values.push(...values)
  }

  /** Adds the term when the value is given. */
  maybe (term: string, value: Binding | undefined): void {
    if (value !== undefined) this.add(term, value)
  }

  get sql (): string {
    return this.#terms.length === 0 ? '' : `WHERE ${this.#terms.join(' AND ')}`
  }

  /** To follow another condition. */
  get and (): string {
    return this.#terms.map(term => ` AND ${term}`).join('')
  }
}

/** Asks for one row more than the page holds: it tells whether there is a next page. */
function toPage<Row, Item> (rows: Row[], limit: number, map: (row: Row) => Item, key: (row: Row) => (string | number)[]): Page<Item> {
  const items = rows.slice(0, limit)
  return { items: items.map(map), next: rows.length > limit ? key(items.at(-1)!) : null }
}

export function getSession (connection: Connection, { id }: { id: string }): SessionRecord | null {
  const row = connection.get<SessionRow<number>>(`SELECT ${SESSION_COLUMNS} FROM sessions WHERE id = ?`, id)
  return row === undefined ? null : toSession(row)
}

export function listSessions (connection: Connection, { userId, ip, now, idleBefore, limit, after }: SessionListParams): Page<SessionRecord> {
  const where = new Where()
  where.maybe('user_id = ?', userId)
  where.maybe('last_ip = ?', ip)
  // The pluses and the named index keep the list in the order of its index: another one would sort all sessions for each page.
  where.add('+last_active_at > ? AND +expires_at > ?', idleBefore, now)
  if (after !== undefined) where.add('(created_at, id) < (?, ?)', ...after)
  const index = userId === undefined && ip === undefined ? 'INDEXED BY sessions_by_creation' : ''
  const rows = connection.all<SessionRow<number>>(`SELECT ${SESSION_COLUMNS} FROM sessions ${index} ${where.sql} ORDER BY created_at DESC, id DESC LIMIT ?`, ...where.values, limit + 1)
  return toPage(rows, limit, toSession, row => [row.created_at, row.id])
}

/** Rows of a crowded millisecond take ids of the following ones (schema-log.ts); 10 minutes hold 600 million of them. */
const MAX_SPILL_MS = 600_000

/** What a filter asks of rows: conditions, a range of ids, and by what those that may meet them are found, null where by their ids alone. */
interface LogQuery { where: Where, range: IdRange, key: IndexKey | null }

/** Null when it names a text that no row has. */
function readFilter (connection: Connection, { ip, userId, sessionId, status, from, to }: IpLogFilter): LogQuery | null {
  const where = new Where()
  const range = { low: 0, high: Number.MAX_SAFE_INTEGER }
  let key: IndexKey | null = null
  if (from !== undefined) {
    range.low = from * IDS_PER_MS
    where.add(`r.id >= ? AND ${AT_SQL} >= ?`, range.low, from)
  }
  if (to !== undefined) {
    range.high = (to + MAX_SPILL_MS) * IDS_PER_MS
    where.add(`r.id < ? AND ${AT_SQL} < ?`, range.high, to)
  }
  if (ip !== undefined) {
    key = { name: 'ip', key: encodeAddress(ip) }
    where.add('r.ip = ?', key.key)
  }
  where.maybe('r.status = ?', status)
  // The last one is the one with the fewest rows.
  for (const [name, text] of [['user', userId], ['session', sessionId]] as const) {
    if (text === undefined) continue
    const ref = findText(connection, name, text)
    if (ref === undefined) return null
    key = { name, key: ref }
    where.add(`r.${name}_ref = ?`, ref)
  }
  return { where, range, key }
}

export function listIpLogs (connection: Connection, { filter, page: { limit, after } }: { filter: IpLogFilter, page: PageParams }): Page<StoredIpLog> {
  return snapshot(connection, () => {
    const query = readFilter(connection, filter)
    if (query === null) return { items: [], next: null }
    const { where, range, key } = query
    if (after !== undefined) {
      where.add('r.id < ?', after[0]!)
      range.high = Math.min(range.high, after[0] as number)
    }
    const rows = key === null
      ? connection.all<IpLogRecord>(`SELECT ${IP_LOG_COLUMNS} FROM ip_log_rows AS r ${where.sql} ORDER BY r.id DESC LIMIT ?`, ...where.values, limit + 1)
      : newestByKey<IpLogRecord>(connection, key, IP_LOG_COLUMNS, { sql: where.and, values: where.values }, range, limit + 1)
    return toPage(rows, limit, toIpLog, row => [row.id])
  })
}

/** An aggregate over the rows of a filter. @param sql makes it of the rows' source and their conditions */
function aggregate<Row> (connection: Connection, filter: IpLogFilter, sql: (source: string) => string, before: Binding[], after: Binding[]): Row[] {
  return snapshot(connection, () => {
    const query = readFilter(connection, filter)
    if (query === null) return []
    const { where, range, key } = query
    const source = key === null ? { sql: 'ip_log_rows AS r', values: [] } : rowsByKey(connection, key, range)
    return connection.all<Row>(sql(`${source.sql} ${where.sql}`), ...before, ...source.values, ...where.values, ...after)
  })
}

const TOP_COLUMNS: Record<TopBy, { group: string, value: string }> = {
  ip: { group: 'r.ip', value: addressSql('g.key') },
  path: { group: 'r.path_ref', value: '(SELECT text FROM texts WHERE id = g.key)' },
  userAgent: { group: 'r.user_agent_ref', value: '(SELECT text FROM texts WHERE id = g.key)' }
}

export function topIpLogs (connection: Connection, { by, filter, limit }: { by: TopBy, filter: IpLogFilter, limit: number }): TopEntry[] {
  const { group, value } = TOP_COLUMNS[by]
  return aggregate(connection, filter, rows => `SELECT ${value} AS value, g.count, g.errors, g.lastAt FROM (
    SELECT ${group} AS key, count(*) AS count, sum(r.status >= 500) AS errors, max(${AT_SQL}) AS lastAt
    FROM ${rows} GROUP BY ${group} ORDER BY count(*) DESC, ${group} LIMIT ?) AS g ORDER BY g.count DESC, value`, [], [limit])
}

export function seriesIpLogs (connection: Connection, { filter, bucketMs, limit }: { filter: IpLogFilter, bucketMs: number, limit: number }): SeriesPoint[] {
  return aggregate<SeriesPoint>(connection, filter, rows => `SELECT ${AT_SQL} / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS at, count(*) AS count, sum(r.status >= 500) AS errors
    FROM ${rows} GROUP BY 1 ORDER BY 1 DESC LIMIT ?`, [bucketMs, bucketMs], [limit]).reverse()
}

export function listActivity (connection: Connection, { filter, page }: { filter: ActivityFilter, page: PageParams }): Page<StoredActivity> {
  const where = new Where()
  where.maybe('user_id = ?', filter.userId)
  where.maybe('session_id = ?', filter.sessionId)
  where.maybe('action = ?', filter.action)
  where.maybe('at >= ?', filter.from)
  where.maybe('at < ?', filter.to)
  if (page.after !== undefined) where.add('(at, id) < (?, ?)', ...page.after)
  const rows = connection.all<ActivityRecord>(`SELECT id, at, user_id, session_id, action, ip, detail FROM user_activity ${where.sql} ORDER BY at DESC, id DESC LIMIT ?`, ...where.values, page.limit + 1)
  return toPage(rows, page.limit, toActivity, row => [row.at, row.id])
}

export function listBlocks (connection: Connection, { now }: { now: number }): BlockRecord[] {
  return connection.all<BlockRecord>('SELECT id, cidr, until, reason, created_at AS createdAt FROM ip_blocks WHERE until IS NULL OR until > ? ORDER BY created_at, id', now)
}

interface CleanupRow { id: string, started_at: number, duration_ms: number, dry_run: number, trigger: CleanupRun['trigger'], complete: number, removed: string, freed_pages: number, error: string | null }
const toCleanupRun = (r: CleanupRow): CleanupRun => ({
  id: r.id,
  startedAt: r.started_at,
  durationMs: r.duration_ms,
  dryRun: r.dry_run === 1,
  trigger: r.trigger,
  complete: r.complete === 1,
  removed: toRemoved(r.removed),
  freedPages: r.freed_pages,
  error: r.error
})

export function listCleanupRuns (connection: Connection, { limit, after }: PageParams): Page<CleanupRun> {
  const where = new Where()
  if (after !== undefined) where.add('(started_at, id) < (?, ?)', ...after)
  const rows = connection.all<CleanupRow>(`SELECT * FROM cleanup_runs ${where.sql} ORDER BY started_at DESC, id DESC LIMIT ?`, ...where.values, limit + 1)
  return toPage(rows, limit, toCleanupRun, row => [row.started_at, row.id])
}

/** What the main file holds about a user; the log's part comes from `listIpLogs` and `listActivity`. */
export function exportSessions (connection: Connection, { userId, limit }: { userId: string, limit: number }): Pick<UserExport, 'sessions' | 'endedSessions' | 'devices'> {
  const sessions = connection.all<SessionRow<number>>(`SELECT ${SESSION_COLUMNS} FROM sessions WHERE user_id = ? ORDER BY created_at DESC LIMIT ?`, userId, limit)
  const ended = connection.all<{ id: EndedSession['id'], reason: EndReason, endedAt: number }>(
    'SELECT session_id AS id, reason, ended_at AS endedAt FROM session_tombstones WHERE user_id = ? ORDER BY ended_at DESC LIMIT ?', userId, limit)
  return { sessions: sessions.map(toSession), endedSessions: ended, devices: listSessionDevices(connection, { userId, limit }) }
}

export function deadLettersOf (connection: Connection, { userId, limit }: { userId: string, limit: number }): DeadLetter[] {
  return connection.all<DeadLetterRecord>('SELECT id, at, kind, user_id, reason, content FROM dead_letters WHERE user_id = ? ORDER BY id DESC LIMIT ?', userId, limit).map(toDeadLetter)
}

// ---------------------------------------------------------------- rows at positions that a look found; those gone meanwhile are left out

/** @param keys where the last value is the row's key */
function rowsAt<Row, Item> (connection: Connection, select: string, keys: readonly ScanPosition[], map: (row: Row) => Item): Item[] {
  return keys.flatMap(key => connection.all<Row>(select, key.at(-1)!)).map(map)
}

export const sessionsAt = (connection: Connection, keys: ScanPosition[]): SessionRecord[] => rowsAt<SessionRow<number>, SessionRecord>(connection, `SELECT ${SESSION_COLUMNS} FROM sessions WHERE token_hash = ?`, keys, toSession)
export const activityAt = (connection: Connection, keys: ScanPosition[]): StoredActivity[] => rowsAt<ActivityRecord, StoredActivity>(connection, 'SELECT id, at, user_id, session_id, action, ip, detail FROM user_activity WHERE id = ?', keys, toActivity)
export const deadLettersAt = (connection: Connection, keys: ScanPosition[]): DeadLetter[] => rowsAt<DeadLetterRecord, DeadLetter>(connection, 'SELECT id, at, kind, user_id, reason, content FROM dead_letters WHERE id = ?', keys, toDeadLetter)
