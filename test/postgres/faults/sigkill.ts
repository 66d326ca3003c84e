/**
 * 13. The PostgreSQL server is killed (SIGKILL) again and again under load, and started on what is left. The service stays, and nobody helps it.
 */
import { atMost, holds, sized, sleep, type Scenario } from '../../faults/kit/index.js'
import { createDatabase, DURABLE, startServer, underLoad } from './kit.js'

export const serverKilled: Scenario = {
  number: 13,
  title: 'PostgreSQL: SIGKILL of the server',
  async run (context) {
    const server = await startServer(context, DURABLE)
    const { ledger, since, back, finish } = await underLoad(context, await createDatabase(server.url()))
    const rounds = sized(context, 20, 5)
    const returns: number[] = []
    for (let round = 1; round <= rounds && !returns.some(isNaN); round++) {
      await sleep(200 + Math.random() * 600)
      const first = ledger.entries.length
      await server.kill()
      await sleep(Math.random() * 500)
      await server.start()
      returns.push(await back())
      const sent = since(first)
      context.note(`kill ${round}: back after ${returns.at(-1)!.toFixed(0)} ms; of ${sent.length} requests meanwhile ${sent.filter(({ status }) => status === 503).length} were refused`)
    }
    const works = !returns.some(isNaN)
    holds(context, `${rounds} kills: the service works again each time, without a restart of its own`, works)
    if (!works) return
    atMost(context, 'longest time from the server taking connections to a login and a health without reasons', Math.max(...returns), 5000, 'ms', 0)
    await finish(`${rounds} kills`)
  }
}
