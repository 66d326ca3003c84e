/** What the scenarios on PostgreSQL have in common: a server of their own, load on a service, and the ledger compared with the tables. */
import pg from 'pg'
import { Ledger, none, startLoad, startService, until, type Context, type Entry, type Service } from '../../faults/kit/index.js'
import type { DoormanOptions } from '../../../index.js'
import { createDatabase, query, startPostgres, type PostgresServer } from '../server.js'

/** A log in which nothing may be lost needs a server that loses nothing either. */
export const DURABLE = { fsync: 'on', full_page_writes: 'on' }
/** Requests per second. */
const RATE = 150
/** Mostly what is stored. */
const MIX = { me: 30, anonymous: 30, login: 25, logout: 15 }

export async function startServer (context: Context, settings: Record<string, string> = {}): Promise<PostgresServer> {
  const server = await startPostgres({ settings })
  context.defer(() => server.remove())
  return server
}

/** A connection that no fault hits, for whoever does harm. */
export async function outsider (context: Context, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'outsider' })
  client.on('error', () => {})
  await client.connect()
  context.defer(() => client.end().catch(() => {}))
  return client
}

export interface Loaded {
  url: string
  service: Service
  ledger: Ledger
  /** Requests sent since that many were in the ledger. */
  since (count: number): Entry[]
  /** Waits until a login that was sent from now on is acknowledged, and the health is ok. @returns after how many ms; NaN when it never was */
  back (): Promise<number>
  /** Ends the load, stores what waits (for ever, where nothing can be stored), and hands in what is wrong in the database, read from `url`. */
  finish (what: string, url?: string): Promise<void>
}

export interface LoadedOptions extends Pick<DoormanOptions, 'database'> { durability?: 'committed' | 'queued' }

/** A service on that database, under load. */
export async function underLoad (context: Context, url: string, { durability = 'committed', ...options }: LoadedOptions = {}): Promise<Loaded> {
  const service = await startService(context, { doorman: { ...options, database: { url, ...options.database }, ipTracking: { durability } } })
  const ledger = new Ledger()
  const load = startLoad({ targets: [service.address], ledger, rate: RATE, mix: MIX })
  const since = (count: number) => ledger.entries.slice(count)
  async function back (): Promise<number> {
    const first = ledger.entries.length
    const from = performance.now()
    const works = async () => since(first).some(({ kind, status }) => kind === 'login' && status === 201) && (await service.health()).status === 'ok'
    return await until(works) ? performance.now() - from : NaN
  }
  if (!await until(() => ledger.live.length > 20)) throw new Error('there are no logins')
  return {
    url,
    service,
    ledger,
    since,
    back,
    async finish (what, at = url) {
      await load.stop()
      await service.flush()
      const rows = new Map((await query<{ path: string, n: number }>(at, 'SELECT path, count(*)::int AS n FROM ip_logs GROUP BY path')).map(({ path, n }) => [path, n]))
      const live = new Set((await query<{ id: string }>(at, 'SELECT id FROM sessions')).map(({ id }) => id))
      const count = ({ kind, id }: Entry) => rows.get(`/${kind}/${id}`) ?? 0
      // Where the reply says that its row is not stored, nothing was promised.
      const promised = ledger.answered.filter(({ code }) => code !== 'DOORMAN_ROW_NOT_STORED')
      none(context, `${what}: answered requests without a row (${durability})`, promised.filter(entry => count(entry) === 0).length, promised.length)
      none(context, `${what}: rows doubled`, ledger.entries.filter(entry => count(entry) > 1).length, rows.size)
      none(context, `${what}: acknowledged sessions lost, or ended ones alive`, ledger.live.filter(({ id }) => !live.has(id)).length + ledger.ended.filter(({ id }) => live.has(id)).length, ledger.live.length + ledger.ended.length)
      none(context, `${what}: answers other than success and "not now" (503)`, ledger.answered.filter(({ status }) => status >= 300 && status !== 503).length, ledger.answered.length)
      const codes = new Map<string, number>()
      for (const { code } of ledger.answered) if (code !== undefined) codes.set(code, (codes.get(code) ?? 0) + 1)
      context.note(`${what}: ${ledger.answered.length} answered, ${ledger.entries.length - ledger.answered.length} not; refused: ${[...codes].map(([code, n]) => `${n} ${code}`).join(', ') || 'none'}`)
      await service.close()
    }
  }
}

export { createDatabase }
