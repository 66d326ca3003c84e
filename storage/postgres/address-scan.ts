/**
 * Addresses in tables, by slices, and what is held with one. A look is a read; a change names the rows it is about and the addresses they had, so that
 * a session that is used meanwhile keeps what is new.
 */
import { truncateAddress } from '../../lib/anonymizer.js'
import { AddressTiers, eraseHolders, findHolders, holders, SLICE_ROWS, startOf, type AddressPass, type AddressScan, type Found, type LookParams } from '../address-scan.js'
import { toActivity, toDeadLetter, toSession, type ActivityRecord, type DeadLetterRecord, type SessionRow } from '../rows.js'
import type { AddressErased, AddressExport, AddressTarget, SweepParams, SweepTarget } from '../storage.js'
import type { LogQueries } from './log-queries.js'
import type { Pool, Queryable, Work } from './pool-types.js'

/** Rows per step when requests are erased. */
const ERASE_STEP = 1000

/** An address that still has its host. What is no address does not look like one here. */
const isFull = (column: string) => `((${column} ~ '^[0-9]{1,3}([.][0-9]{1,3}){3}$' AND ${column} NOT LIKE '%.0') OR (${column} ~ '^[0-9a-f:]*:[0-9a-f:]*$' AND ${column} !~ '^(([0-9a-f]{1,4}:){1,3}|:):$'))`

/** A row that was found: all its columns. */
type AddressRow = Record<string, string | number | null | Buffer>

/** How a table is looked through and changed. */
interface PassPlan {
  file: 'main' | 'log'
  table: string
  /** What it is looked through by: the time first. */
  order: readonly [time: string, key: string]
  keyType: 'bigint' | 'bytea'
  /** Columns with addresses, and the time that each belongs to. */
  addresses: Readonly<Record<string, string>>
  full: string
  /** Condition of the rows that hold the address, `$1`. */
  holds: string
}

const session = (time: string, address: string): PassPlan => ({
  file: 'main',
  table: 'sessions',
  order: [time, 'token_hash'],
  keyType: 'bytea',
  addresses: { ip: 'created_at', last_ip: 'last_active_at' },
  full: isFull(address),
  holds: '(ip = $1 OR last_ip = $1)'
})

const PLANS: Record<AddressPass, PassPlan> = {
  ipLogs: {
    file: 'log',
    table: 'ip_logs',
    order: ['at', 'id'],
    keyType: 'bigint',
    addresses: { ip: 'at', peer_ip: 'at' },
    // With the exact time, a port finds a subscriber behind carrier-grade NAT.
    full: `(peer_port IS NOT NULL OR ${isFull('ip')} OR ${isFull('peer_ip')})`,
    // By `ip` there is an index.
    holds: 'peer_ip = $1'
  },
  activity: { file: 'log', table: 'user_activity', order: ['at', 'id'], keyType: 'bigint', addresses: { ip: 'at' }, full: isFull('ip'), holds: 'ip = $1' },
  // They are not truncated: they go as soon as addresses lose their host.
  deadLetters: { file: 'log', table: 'dead_letters', order: ['at', 'id'], keyType: 'bigint', addresses: {}, full: 'false', holds: 'strpos(content, to_json($1::text)::text) > 0' },
  sessionsByCreation: session('created_at', 'ip'),
  sessionsByUse: session('last_active_at', 'last_ip')
}

const workOf = (pass: AddressPass): Work => ({ lane: 'maintenance', file: PLANS[pass].file })
const markerName = (pass: AddressPass) => `addresses_truncated:${pass}`

class Scan implements AddressScan<AddressRow> {
  #pool: Pool

  constructor (pool: Pool) {
    this.#pool = pool
  }

  look ({ pass, address, from, until, after, limit }: LookParams): Promise<Found<AddressRow>> {
    const { table, order, keyType, full, holds } = PLANS[pass]
    const columns = order.join(', ')
    return this.#pool.run({ ...workOf(pass), readOnly: true }, async client => {
      const values: unknown[] = address === null ? [] : [address]
      const bind = (value: unknown) => `$${values.push(value)}`
      const position = ([time, key]: readonly unknown[]) => `(${bind(time)}::bigint, ${bind(key)}::${keyType})`
      const range = `${order[0]} >= ${bind(after === null ? from : after[0])}::bigint AND ${order[0]} < ${bind(until)}::bigint${after === null ? '' : ` AND (${columns}) > ${position(after)}`}`
      // The parameter of the address is there in any case, or its type would not be known.
      const typed = address === null ? '' : ' AND $1::text IS NOT NULL'
      const { rows: [end] } = await client.query<AddressRow>(`SELECT ${columns} FROM ${table} WHERE ${range}${typed} ORDER BY ${columns} LIMIT 1 OFFSET ${SLICE_ROWS - 1}`, values)
      const upTo = end === undefined ? '' : ` AND (${columns}) <= ${position(order.map(column => end[column]))}`
      const { rows } = await client.query<AddressRow>(`SELECT * FROM ${table} WHERE ${range}${upTo} AND ${address === null ? full : holds} ORDER BY ${columns} LIMIT ${bind(limit)}`, values)
      const last = rows.length === limit ? rows[limit - 1] : end
      if (last === undefined) return { rows, after: null, reached: until }
      return { rows, after: order.map(column => last[column] as string | number | Uint8Array), reached: last[order[0]] as number }
    })
  }

  truncate (pass: AddressPass, rows: AddressRow[], before: number): Promise<number> {
    const { addresses } = PLANS[pass]
    return this.#set(pass, rows, pass === 'ipLogs', (row, column) => {
      const address = row[column] as string | null
      return address === null || (row[addresses[column]!] as number) >= before ? address : truncateAddress(address)
    })
  }

  erase (pass: AddressPass, rows: AddressRow[], address: string): Promise<number> {
    if (pass === 'deadLetters') return this.#pool.run({ ...workOf(pass), rows: rows.length }, async client => (await client.query('DELETE FROM dead_letters WHERE id = ANY ($1::bigint[])', [rows.map(row => row['id'])])).rowCount)
    return this.#set(pass, rows, pass === 'ipLogs', (row, column) => row[column] === address ? null : row[column] as string | null)
  }

  /** New addresses where the old ones are still there. */
  #set (pass: AddressPass, rows: readonly AddressRow[], noPort: boolean, change: (row: AddressRow, column: string) => string | null): Promise<number> {
    const { table, order: [time, key], keyType, addresses } = PLANS[pass]
    const columns = Object.keys(addresses)
    const given = ['key', ...columns.flatMap(column => [`old_${column}`, `new_${column}`])]
    const values = [rows.map(row => row[key]), ...columns.flatMap(column => [rows.map(row => row[column]), rows.map(row => change(row, column))])]
    const times = rows.map(row => row[time] as number)
    // The times leave out the days that are not concerned. A session's time of use moves on, so only its lower bound holds.
    const bounds = `t.${time} >= $${values.length + 1}::bigint AND t.${time} <= $${values.length + 2}::bigint`
    const sets = columns.map(column => `${column} = CASE WHEN t.${column} = g.old_${column} THEN g.new_${column} ELSE t.${column} END`)
    const sql = `UPDATE ${table} AS t SET ${[...sets, ...noPort ? ['peer_port = NULL'] : []].join(', ')}
      FROM unnest(${given.map((_, i) => `$${i + 1}::${i === 0 ? keyType : 'text'}[]`).join(', ')}) AS g (${given.join(', ')}) WHERE t.${key} = g.key AND ${bounds}`
    const latest = table === 'sessions' ? Number.MAX_SAFE_INTEGER : times.at(-1)
    return this.#pool.run({ ...workOf(pass), rows: rows.length }, async client => (await client.query(sql, [...values, times[0], latest])).rowCount)
  }

  marker (pass: AddressPass): Promise<number> {
    return this.#pool.run({ ...workOf(pass), readOnly: true }, client => readMarker(client, pass))
  }

  async setMarker (pass: AddressPass, at: number): Promise<void> {
    await this.#pool.run({ ...workOf(pass), rows: 1 }, client => client.query('INSERT INTO doorman_counters (name, shard, value) VALUES ($1, 0, $2) ON CONFLICT (name, shard) DO UPDATE SET value = excluded.value', [markerName(pass), at]))
  }
}

async function readMarker (client: Queryable, pass: AddressPass): Promise<number> {
  const { rows: [row] } = await client.query<{ value: number }>('SELECT value FROM doorman_counters WHERE name = $1 AND shard = 0', [markerName(pass)])
  return row?.value ?? 0
}

/** What is held with an address: told, erased, or truncated at an age. */
export class AddressData {
  #pool: Pool
  #queries: LogQueries
  #scan: Scan
  #tiers: AddressTiers<AddressRow>

  constructor (pool: Pool, queries: LogQueries) {
    this.#pool = pool
    this.#queries = queries
    this.#scan = new Scan(pool)
    this.#tiers = new AddressTiers(this.#scan)
  }

  sweep (target: AddressTarget, params: SweepParams): Promise<number> {
    return this.#tiers.sweep(target, params)
  }

  async export (ip: string, limit: number): Promise<AddressExport> {
    const find = async <Row> (pass: AddressPass) => await findHolders(this.#scan, pass, ip, limit) as unknown as Row[]
    const sessions = (await find<SessionRow>('sessionsByCreation')).map(toSession)
    const activity = (await find<ActivityRecord>('activity')).map(toActivity)
    const deadLetters = (await find<DeadLetterRecord>('deadLetters')).map(toDeadLetter)
    const ipLogs = await this.#queries.listIpLogs({ ip }, { limit })
    let relayed = 0
    for await (const rows of holders(this.#scan, 'ipLogs', ip)) relayed += rows.length
    return { sessions, activity, ipLogs: ipLogs.items, deadLetters, relayed, truncated: ipLogs.next !== null || [sessions, activity, deadLetters].some(({ length }) => length === limit) }
  }

  async erase (ip: string): Promise<AddressErased> {
    const erase = (pass: AddressPass) => eraseHolders(this.#scan, pass, ip)
    const sessions = await erase('sessionsByCreation')
    let ipLogs = 0
    const sql = 'DELETE FROM ip_logs WHERE ip = $1 AND (at, id) IN (SELECT at, id FROM ip_logs WHERE ip = $1 LIMIT $2)'
    for (let step = ERASE_STEP; step === ERASE_STEP; ipLogs += step) {
      step = (await this.#pool.run({ lane: 'maintenance', file: 'log', rows: ERASE_STEP }, client => client.query(sql, [ip, ERASE_STEP]))).rowCount
    }
    return { sessions, ipLogs, relayed: await erase('ipLogs'), activity: await erase('activity'), deadLetters: await erase('deadLetters') }
  }
}

/**
 * SQL that counts the rows a run would change: of those that it does not remove before.
 * @param bind a value's place in the statement
 */
export async function countFullAddresses (client: Queryable, cutoffs: Record<SweepTarget, number>, now: number, bind: (value: number) => string): Promise<Record<AddressTarget, string>> {
  const from = async (pass: AddressPass) => startOf(await readMarker(client, pass), now)
  const within = (column: string, start: number, end: number) => `${column} >= ${bind(start)}::bigint AND ${column} < ${bind(end)}::bigint`
  const { ipLogs, activity, sessionsByCreation, sessionsByUse } = PLANS
  const old = (pass: PassPlan, start: number) => `(${within(pass.order[0], start, cutoffs.sessionAddresses)} AND ${pass.full})`
  return {
    ipLogAddresses: `(SELECT count(*) FROM ip_logs WHERE ${within('at', Math.max(await from('ipLogs'), cutoffs.ipLogs), cutoffs.ipLogAddresses)} AND ${ipLogs.full})`,
    activityAddresses: `(SELECT count(*) FROM user_activity WHERE ${within('at', Math.max(await from('activity'), cutoffs.activity), cutoffs.activityAddresses)} AND ${activity.full})`,
    sessionAddresses: `(SELECT count(*) FROM sessions WHERE (${old(sessionsByCreation, await from('sessionsByCreation'))} OR ${old(sessionsByUse, await from('sessionsByUse'))})
      AND last_active_at >= ${bind(cutoffs.sessionsIdle)}::bigint AND expires_at > ${bind(cutoffs.sessionsExpired)}::bigint)`
  }
}
