/**
 * Appends batches to the log: one statement and one round trip per batch, rows, activity and the batch's number in it. Should a row of it be
 * refused, the batch is divided until that row is alone, and the others are stored.
 */
import { clean, escapeJson } from '../../lib/text.js'
import type { ActivityRow, IpLogRow, LogAppendResult, LogBatch, LogRow } from '../storage.js'
import { isRowFault, sqlState, type Cause } from './errors.js'
import { ACTIVITY_COLUMNS, arrayOf, faultOf, IP_COLUMNS, KEY_COLUMN } from './log-rows.js'
import { dayOf, isMissingPartition, type Partitions } from './partitions.js'
import type { Pool, Queryable, Statement, TransactionWork } from './pool-types.js'

/** Longest reason of a dead letter, in code points. */
const MAX_REASON = 500
/** Longest user id in a dead letter. Those of sessions have 255. */
const MAX_USER_ID = 1000

/** A batch's number is remembered in the transaction of its rows; no row comes back where it is known already. */
const MARK = `INSERT INTO log_sources AS known (source, seq, at) VALUES ($1, $2, $3)
  ON CONFLICT (source) DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE known.seq < excluded.seq RETURNING 1`

const ipNames = IP_COLUMNS.map(({ name }) => name).join(', ')
const activityNames = ACTIVITY_COLUMNS.map(({ name }) => name).join(', ')

/** Rows out of one array per column. Side by side in the list of what is selected: each in a FROM of its own would be kept and joined first (measured: half as much again). */
function unnest (columns: ReadonlyArray<{ name: string, type: string }>, from: number): string {
  return columns.map(({ name, type }, i) => `unnest($${from + i}::${type}[]) AS ${name}`).join(', ')
}

/**
 * @param marked with the batch's number, without which nothing is stored
 * @param keyed rows may have keys; those whose key is known are left out, and counted
 */
function appendStatement (name: string, marked: boolean, keyed: boolean): Statement {
  const first = marked ? 4 : 2
  const activityFrom = first + IP_COLUMNS.length + (keyed ? 1 : 0)
  const condition = marked ? 'WHERE EXISTS (SELECT 1 FROM mark)' : ''
  const mark = marked ? `mark AS (${MARK}), ` : ''
  const activity = `activity AS (INSERT INTO user_activity (${activityNames}) SELECT ${unnest(ACTIVITY_COLUMNS, activityFrom)} ${condition})`
  if (!keyed) return { name, text: `WITH ${mark}${activity} INSERT INTO ip_logs (${ipNames}) SELECT ${unnest(IP_COLUMNS, first)} ${condition}` }
  // In the order of the keys, so that two processes that are told the same requests do not wait for each other.
  return {
    name,
    text: `WITH ${mark}${activity},
      given AS (SELECT ${unnest([...IP_COLUMNS, KEY_COLUMN], first)} ${condition}),
      fresh AS (INSERT INTO ingested (key, at) SELECT key, $${first - 1}::bigint FROM given WHERE key IS NOT NULL ORDER BY key ON CONFLICT DO NOTHING RETURNING key),
      stored AS (INSERT INTO ip_logs (${ipNames}) SELECT ${ipNames} FROM given WHERE key IS NULL OR key IN (SELECT key FROM fresh))
      SELECT (SELECT count(*) FROM given WHERE key IS NOT NULL) - (SELECT count(*) FROM fresh) AS duplicates`
  }
}

const APPEND = appendStatement('doorman_append', true, false)
const APPEND_KEYED = appendStatement('doorman_append_keyed', true, true)
const APPEND_PART = appendStatement('doorman_append_part', false, true)

/** What a batch is made of: rows that can be sent, those that cannot with the reason, and how many repeat a key of the same batch. */
interface Sorted { ip: IpLogRow[], activity: ActivityRow[], keyed: boolean, refused: { row: LogRow, reason: string }[], duplicates: number }

function sortOut (rows: readonly LogRow[]): Sorted {
  const sorted: Sorted = { ip: [], activity: [], keyed: false, refused: [], duplicates: 0 }
  const keys = new Set<string>()
  for (const row of rows) {
    const reason = faultOf(row)
    if (reason !== undefined) {
      sorted.refused.push({ row, reason })
    } else if (row.kind === 'activity') {
      sorted.activity.push(row)
    } else if (row.idempotencyKey !== undefined && keys.has(row.idempotencyKey)) {
      sorted.duplicates++
    } else {
      if (row.idempotencyKey !== undefined) keys.add(row.idempotencyKey)
      sorted.ip.push(row)
    }
  }
  sorted.keyed = keys.size > 0
  return sorted
}

const valuesOf = (ip: readonly IpLogRow[], activity: readonly ActivityRow[], keyed: boolean): Buffer[] => [
  ...(keyed ? [...IP_COLUMNS, KEY_COLUMN] : IP_COLUMNS).map(column => arrayOf(ip, column)),
  ...ACTIVITY_COLUMNS.map(column => arrayOf(activity, column))
]

/** The role may not do that. */
const NOT_ALLOWED = '42501'

/** Whether a row is at fault. One without a partition is not: that is made first. */
const isFaultOfRow = (error: unknown) => isRowFault(error) && !isMissingPartition(error)

/** Stores batches of log rows. */
export class LogAppender {
  /** Rows put into dead_letters since the start. */
  deadLetters = 0
  #pool: Pool
  #partitions: Partitions

  constructor (pool: Pool, partitions: Partitions) {
    this.#pool = pool
    this.#partitions = partitions
  }

  /** A batch that is stored already (its answer was lost) is recognised by source and seq, and changes nothing. */
  async append (batch: LogBatch): Promise<LogAppendResult> {
    const sorted = sortOut(batch.rows)
    const result = await this.#store(batch, sorted, isFaultOfRow).catch(async (error: unknown) => {
      if (!isMissingPartition(error)) throw error
      await this.#makePartitions(sorted)
      // What has no place even now has none for good: a role that may not make partitions would repeat it for ever, and nothing after it.
      return this.#store(batch, sorted, isRowFault)
    })
    this.deadLetters += result.deadLetters
    return result
  }

  async #makePartitions ({ ip, activity }: Sorted): Promise<void> {
    try {
      await this.#partitions.make('ip_logs', daysOf(ip))
      await this.#partitions.make('user_activity', daysOf(activity))
    } catch (error) {
      if (sqlState(error) !== NOT_ALLOWED) throw error
    }
  }

  /** All rows in one statement, which is the usual case; when one is refused, once more, in parts. */
  async #store (batch: LogBatch, sorted: Sorted, isFault: (error: unknown) => boolean): Promise<LogAppendResult> {
    const { source, seq, at } = batch
    const { ip, activity, keyed, refused, duplicates } = sorted
    const work: TransactionWork = { lane: 'bulk', file: 'log', rows: batch.rows.length }
    if (refused.length === 0) {
      const values = [source, seq, at, ...valuesOf(ip, activity, keyed)]
      try {
        const { rows } = await this.#pool.run(work, client => client.query<{ duplicates: number }>(keyed ? APPEND_KEYED : APPEND, values))
        return { deadLetters: 0, duplicates: duplicates + (rows[0]?.duplicates ?? 0) }
      } catch (error) {
        if (!isFault(error)) throw error
      }
    }
    return this.#pool.transaction(work, async client => {
      const { rowCount } = await client.query(MARK, [source, seq, at])
      const result = { deadLetters: 0, duplicates: 0 }
      if (rowCount === 0) return result
      result.duplicates = duplicates
      for (const { row, reason } of refused) await bury(client, row, reason, at, result)
      await storeDivided(client, [...ip, ...activity], at, result, isFault)
      return result
    })
  }
}

const daysOf = (rows: readonly LogRow[]): number[] => [...new Set(rows.map(row => dayOf(row.at)))]

/** Stores rows, in a savepoint; where that is refused, each half, until the row that it is about is alone. */
async function storeDivided (client: Queryable, rows: LogRow[], at: number, result: LogAppendResult, isFault: (error: unknown) => boolean): Promise<void> {
  await client.query('SAVEPOINT part')
  try {
    const ip = rows.filter(row => row.kind === 'ip')
    const activity = rows.filter(row => row.kind === 'activity')
    const { rows: [counted] } = await client.query<{ duplicates: number }>(APPEND_PART, [at, ...valuesOf(ip, activity, true)])
    result.duplicates += counted!.duplicates
  } catch (error) {
    if (!isFault(error)) throw error
    await client.query('ROLLBACK TO SAVEPOINT part')
    if (rows.length === 1) {
      await bury(client, rows[0]!, `${(error as Cause).code}: ${(error as Error).message}`, at, result)
    } else {
      const middle = rows.length >> 1
      await storeDivided(client, rows.slice(0, middle), at, result, isFault)
      await storeDivided(client, rows.slice(middle), at, result, isFault)
    }
  }
  await client.query('RELEASE SAVEPOINT part')
}

async function bury (client: Queryable, row: LogRow, reason: string, at: number, result: LogAppendResult): Promise<void> {
  const userId = typeof row.userId === 'string' ? clean(row.userId, MAX_USER_ID) : null
  await client.query('INSERT INTO dead_letters (at, kind, user_id, reason, content) VALUES ($1, $2, $3, $4, $5)',
    [at, row.kind, userId, clean(reason, MAX_REASON), escapeJson(JSON.stringify(row, printable))])
  result.deadLetters++
}

/** A dead letter must be storable whatever the row held. */
function printable (_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
