/**
 * One connection: opened to the first host that may be written to, with its timeouts set, and the driver's quirks kept inside. The only file
 * that imports the driver.
 */
import type { Socket } from 'node:net'
import pg from 'pg'
import type { Host, PostgresLocation } from './location.js'
import type { ForeignStatement, Queryable, QueryResult, Statement } from './pool-types.js'

export interface ConnectOptions {
  /** Longest run of a statement and longest wait for a lock, ms. */
  statementTimeout: number
  lockTimeout: number
}

export interface Connection extends Queryable {
  /** It broke off, or was told to close. */
  readonly dead: boolean
  /** Called once, as soon as it is dead. */
  onDead: () => void
  /** As the server names it, such as "18.4". */
  readonly version: string
  /** Ends a transaction. @throws with SQLSTATE 25P02 where the server had to roll back what a failed statement left */
  commit (): Promise<void>
  /** Leaves a transaction, if there is one; a connection that cannot is dead. Never rejects. */
  rollback (): Promise<void>
  /** Whether it keeps the process alive while it is open: as long as something is under way. */
  holdProcess (on: boolean): void
  /** Says good-bye, or just hangs up where a statement is under way. Never rejects. */
  close (): Promise<void>
}

/** An open transaction that does nothing holds locks and keeps rows from being cleaned up; ours never wait for anything but the server. */
const IDLE_IN_TRANSACTION_MS = 60_000
const KEEP_ALIVE_MS = 10_000
/** How long a good-bye may take before the line is just cut, ms. */
const GOODBYE_MS = 1000
const INT8 = 20
const JSON_TYPES = [114, 3802]

/** Numbers where they are exact. JSON stays text, as it was stored. */
const types: pg.CustomTypesConfig = {
  getTypeParser (oid: number, format?: 'text' | 'binary') {
    if (oid === INT8) {
      return (text: string) => {
        const number = Number(text)
        return Number.isSafeInteger(number) ? number : BigInt(text)
      }
    }
    return JSON_TYPES.includes(oid) ? (text: string) => text : pg.types.getTypeParser(oid, format as 'text') as never
  }
}

/**
 * Connects to the first of the hosts that takes us and, unless told otherwise, can be written to.
 * @throws the driver's error: of the host that came nearest to taking us
 */
export async function connect (location: PostgresLocation, hosts: readonly Host[], options: ConnectOptions): Promise<{ connection: Connection, host: Host }> {
  let nearest: unknown
  for (const host of hosts) {
    try {
      return { connection: await connectTo(location, host, options), host }
    } catch (error) {
      // A server that answers says more than one that is not there.
      if (nearest === undefined || error instanceof pg.DatabaseError) nearest = error
    }
  }
  throw nearest
}

async function connectTo (location: PostgresLocation, { host, port }: Host, options: ConnectOptions): Promise<Connection> {
  const client = new pg.Client({
    host,
    port,
    user: location.user,
    password: location.password,
    database: location.database,
    ssl: location.tls,
    options: location.options,
    application_name: location.applicationName,
    connectionTimeoutMillis: location.connectTimeout,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    types
  })
  const connection = new ClientConnection(client, location.pooled)
  // The driver's own limit ends with the log-in; the server may as well stop answering after it.
  const late = setTimeout(() => { connection.close() }, location.connectTimeout)
  await introduce(client, connection, location, options).catch((error: unknown) => {
    connection.close()
    throw error
  }).finally(() => { clearTimeout(late) })
  return connection
}

/** Logs in, sets what a connection has to be set to, and looks whether the server is one for us. */
async function introduce (client: pg.Client, connection: ClientConnection, location: PostgresLocation, options: ConnectOptions): Promise<void> {
  await client.connect()
  const results = await client.query(setUp(location, options)) as unknown as pg.QueryResult<Record<string, string>>[]
  const rows = results.flatMap(result => result.rows)
  connection.version = rows.find(row => 'server_version' in row)!['server_version']!
  if (location.writable && rows.some(row => row['transaction_read_only'] === 'on')) {
    throw Object.assign(new Error('the server is a standby, or read-only'), { code: '25006' })
  }
}

/** All in one round trip. Behind a pooler a setting would stay with whatever connection it happened to meet. */
function setUp ({ pooled }: PostgresLocation, { statementTimeout, lockTimeout }: ConnectOptions): string {
  const settings = pooled ? [] : [`SET statement_timeout = ${statementTimeout}`, `SET lock_timeout = ${lockTimeout}`, `SET idle_in_transaction_session_timeout = ${IDLE_IN_TRANSACTION_MS}`]
  return [...settings, 'SHOW transaction_read_only', 'SHOW server_version'].join('; ')
}

class ClientConnection implements Connection {
  dead = false
  onDead = () => {}
  version = ''
  #client: pg.Client
  #pooled: boolean

  constructor (client: pg.Client, pooled: boolean) {
    this.#client = client
    this.#pooled = pooled
    // An error without a statement under way (the server goes down) would else be thrown.
    client.on('error', () => { this.#die() })
    client.on('end', () => { this.#die() })
  }

  async query<Row extends object> (statement: string | Statement | ForeignStatement, values?: readonly unknown[]): Promise<QueryResult<Row>> {
    const config = typeof statement === 'string' ? { text: statement } : this.#pooled && 'name' in statement ? { text: statement.text } : statement
    const { rows, rowCount } = await this.#client.query({ ...config, ...(values === undefined ? {} : { values: values as unknown[] }) } as pg.QueryConfig)
    return { rows: rows as Row[], rowCount: rowCount ?? 0 }
  }

  async commit (): Promise<void> {
    const { command } = await this.#client.query('COMMIT')
    if (command === 'ROLLBACK') throw Object.assign(new Error('a statement of the transaction had failed'), { code: '25P02' })
  }

  async rollback (): Promise<void> {
    if (this.#client.getTransactionStatus() !== 'I') await this.#client.query('ROLLBACK').catch(() => this.close())
  }

  holdProcess (on: boolean): void {
    if (on) this.#stream.ref()
    else this.#stream.unref()
  }

  async close (): Promise<void> {
    this.#die()
    const hangUp = setTimeout(() => { this.#stream.destroy() }, GOODBYE_MS)
    await this.#client.end()
    clearTimeout(hangUp)
  }

  /** The driver hangs up by itself only where a statement is under way. */
  get #stream (): Socket {
    return (this.#client as unknown as { connection: { stream: Socket } }).connection.stream
  }

  #die (): void {
    if (this.dead) return
    this.dead = true
    this.onDead()
  }
}
