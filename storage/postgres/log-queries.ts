/**
 * Lists and aggregates of the log. In the order of the key (`at`, `id`), newest first, so that a page reads no more than itself; `from` and `to`
 * leave out the partitions of other days. Statements are not prepared: the server plans each with its values, and so looks only at those days.
 */
import { toActivity, toIpLog, type ActivityRecord, type IpLogRecord } from '../rows.js'
import type { ActivityFilter, IpLogFilter, Page, PageKey, PageParams, SeriesPoint, StoredActivity, StoredIpLog, TopBy, TopEntry } from '../storage.js'
import type { Pool } from './pool-types.js'

/** Conditions joined by AND, with their values. */
class Where {
  readonly values: (string | number)[] = []
  #terms: string[] = []

  /** A value's place in the statement. */
  bind (value: string | number): string {
    return `$${this.values.push(value)}`
  }

  /** Compares a column, when the value is given. No text that PostgreSQL stores has a NUL; it would not even be asked for. */
  maybe (column: string, operator: '=' | '>=' | '<', value: string | number | undefined): void {
    if (value === undefined) return
    this.#terms.push(typeof value === 'string' && value.includes('\0') ? 'false' : `${column} ${operator} ${this.bind(value)}`)
  }

  /** Goes on after the last row of the page before. The time alone as well: by that, days are left out. */
  after (key: PageKey | undefined): void {
    if (key === undefined) return
    const time = `${this.bind(key[0]!)}::bigint`
    this.#terms.push(`at <= ${time} AND (at, id) < (${time}, ${this.bind(key[1]!)}::bigint)`)
  }

  get sql (): string {
    return this.#terms.length === 0 ? '' : `WHERE ${this.#terms.join(' AND ')}`
  }
}

function ipLogsWhere ({ ip, userId, sessionId, status, from, to }: IpLogFilter): Where {
  const where = new Where()
  where.maybe('at', '>=', from)
  where.maybe('at', '<', to)
  where.maybe('ip', '=', ip)
  where.maybe('user_id', '=', userId)
  where.maybe('session_id', '=', sessionId)
  where.maybe('status', '=', status)
  return where
}

const IP_LOG_COLUMNS = 'id, at, ip, ip_source, peer_ip, peer_port, method, path, route, status, duration_us, user_agent, referer, session_id, user_id, request_id, outcome, trusted_hops'
const ACTIVITY_COLUMNS = 'id, at, user_id, session_id, action, ip, detail'
const TOP_COLUMNS: Record<TopBy, string> = { ip: 'ip', path: 'path', userAgent: 'user_agent' }

const keyOf = ({ at, id }: { at: number, id: number }): PageKey => [at, id]

/** What the log can be asked. */
export class LogQueries {
  #pool: Pool

  constructor (pool: Pool) {
    this.#pool = pool
  }

  async listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>> {
    return this.#page<IpLogRecord, StoredIpLog>(`SELECT ${IP_LOG_COLUMNS} FROM ip_logs`, ipLogsWhere(filter), page, toIpLog)
  }

  async listActivity ({ userId, sessionId, action, from, to }: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>> {
    const where = new Where()
    where.maybe('user_id', '=', userId)
    where.maybe('session_id', '=', sessionId)
    where.maybe('action', '=', action)
    where.maybe('at', '>=', from)
    where.maybe('at', '<', to)
    return this.#page<ActivityRecord, StoredActivity>(`SELECT ${ACTIVITY_COLUMNS} FROM user_activity`, where, page, toActivity)
  }

  async topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]> {
    const where = ipLogsWhere(filter)
    const column = TOP_COLUMNS[by]
    // By the order of bytes, whatever the database's collation is.
    return this.#all<TopEntry>(`SELECT ${column} AS value, count(*) AS count, count(*) FILTER (WHERE status >= 500) AS errors, max(at) AS "lastAt"
      FROM ip_logs ${where.sql} GROUP BY ${column} ORDER BY count(*) DESC, ${column} COLLATE "C" NULLS FIRST LIMIT ${where.bind(limit)}`, where.values)
  }

  async seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]> {
    const where = ipLogsWhere(filter)
    const bucket = `${where.bind(bucketMs)}::bigint`
    const points = await this.#all<SeriesPoint>(`SELECT at / ${bucket} * ${bucket} AS at, count(*) AS count, count(*) FILTER (WHERE status >= 500) AS errors
      FROM ip_logs ${where.sql} GROUP BY 1 ORDER BY 1 DESC LIMIT ${where.bind(limit)}`, where.values)
    return points.reverse()
  }

  /** Asks for one row more than the page holds: it tells whether there is a next page. */
  async #page<Row extends { at: number, id: number }, Item> (select: string, where: Where, { limit, after }: PageParams, map: (row: Row) => Item): Promise<Page<Item>> {
    where.after(after)
    const rows = await this.#all<Row>(`${select} ${where.sql} ORDER BY at DESC, id DESC LIMIT ${where.bind(limit + 1)}`, where.values)
    const items = rows.slice(0, limit)
    return { items: items.map(map), next: rows.length > limit ? keyOf(items.at(-1)!) : null }
  }

  async #all<Row extends object> (sql: string, values: readonly unknown[]): Promise<Row[]> {
    const { rows } = await this.#pool.run({ lane: 'interactive', readOnly: true, file: 'log' }, client => client.query<Row>(sql, values))
    return rows
  }
}
