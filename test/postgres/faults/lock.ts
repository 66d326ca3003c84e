/** 15. Somebody holds a lock on the tables (LOCK TABLE, as a migration or a tool does): for less than the deadline, then for longer. */
import { atMost, holds, none, percentile, sized, sleep, type Context, type Entry, type Scenario } from '../../faults/kit/index.js'
import { createDatabase, outsider, startServer, underLoad } from './kit.js'

const isRead = ({ kind }: Entry) => kind === 'me' || kind === 'anonymous'

export const tableLocked: Scenario = {
  number: 15,
  title: 'PostgreSQL: a lock on the tables',
  async run (context) {
    const server = await startServer(context)
    await locked(context, await createDatabase(server.url()), '30s', sized(context, 10_000, 1500))
    await locked(context, await createDatabase(server.url()), '500ms', sized(context, 10_000, 2500))
  }
}

/** Rows of requests are queued here: with `committed` they would wait for the lock on the log as well. */
async function locked (context: Context, url: string, busyTimeout: string, ms: number): Promise<void> {
  const past = busyTimeout !== '30s'
  const what = past ? 'past the deadline' : 'up to the deadline'
  const { service, ledger, back, finish } = await underLoad(context, url, { database: { busyTimeout }, durability: 'queued' })
  const admin = await outsider(context, url)
  await admin.query('BEGIN; LOCK TABLE sessions, session_tombstones, ip_logs, user_activity IN EXCLUSIVE MODE')
  const from = performance.now()
  await sleep(ms)
  const to = performance.now()
  if (past) {
    const health = await service.health()
    context.note(`${what}: health is ${health.status}${health.status === 'degraded' ? `: ${health.reasons.join('; ')}` : ''}`)
  }
  await admin.query('ROLLBACK')
  const returned = await back()
  await finish(what)
  const during = ledger.between(from, to)
  none(context, `${what}: requests that only read, and failed`, during.filter(entry => isRead(entry) && entry.status !== 200).length, during.filter(isRead).length)
  atMost(context, `${what}: p99 of those that only read`, percentile(during.filter(isRead).map(({ latency }) => latency), 0.99), 250, 'ms')
  const changes = during.filter(entry => !isRead(entry))
  if (past) holds(context, `${what}: changes are refused with DOORMAN_STORAGE_BUSY`, changes.some(({ code }) => code === 'DOORMAN_STORAGE_BUSY'))
  if (past) none(context, `${what}: changes answered with another code than DOORMAN_STORAGE_BUSY`, changes.filter(({ status, code }) => status >= 300 && code !== 'DOORMAN_STORAGE_BUSY').length, changes.length)
  else none(context, `${what}: changes that failed`, changes.filter(({ status }) => status === 0 || status >= 300).length, changes.length)
  atMost(context, `${what}: from the end of the lock to a login and a health without reasons`, returned, 6000, 'ms', 0)
}
