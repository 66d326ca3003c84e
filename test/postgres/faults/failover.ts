/**
 * 17. Failover: two servers with synchronous streaming replication, the URL names both. The primary is killed under load, the standby promoted.
 */
import { atMost, holds, sized, sleep, type Context, type Scenario } from '../../faults/kit/index.js'
import { createDatabase, DURABLE, startServer, underLoad } from './kit.js'

export const failover: Scenario = {
  number: 17,
  title: 'PostgreSQL: failover to a standby',
  async run (context) {
    for (let round = 1; round <= sized(context, 3, 1); round++) await failOver(context, `failover ${round}`)
  }
}

async function failOver (context: Context, what: string): Promise<void> {
  const primary = await startServer(context, DURABLE)
  const database = new URL(await createDatabase(primary.url())).pathname.slice(1)
  const standby = await primary.standby()
  context.defer(() => standby.remove())
  // What is acknowledged is on both: else a failover may lose it, whoever writes.
  await primary.query('ALTER SYSTEM SET synchronous_standby_names = \'*\'')
  await primary.query('SELECT pg_reload_conf()')
  // Until it is promoted, the standby takes connections as well, but is none that can be written to.
  const url = primary.url(database).replace(/(?=\/[^/]*$)/, `,127.0.0.1:${standby.port}`)
  const { back, finish } = await underLoad(context, url)
  await sleep(500 + Math.random() * 500)
  await primary.kill()
  await sleep(300)
  await standby.query('SELECT pg_promote()')
  const returned = await back()
  holds(context, `${what}: the service goes on with the new primary, without a restart of its own`, !isNaN(returned))
  if (isNaN(returned)) return
  atMost(context, `${what}: from the end of the promotion to a login and a health without reasons`, returned, 5000, 'ms', 0)
  await finish(what, standby.url(database))
}
