/**
 * What a request waits: p99 of W1 at half of the rate at which the suite saturates, on bare Fastify and on the suite at the same rate, in turn; and how
 * long the event loop is held at saturation. The generator sends at a fixed rate and counts from when a request was due.
 */
import { writeCookies, load } from '../load/generator.js'
import { runCell } from '../harness/cell.js'
import { startServer } from '../harness/server.js'
import { median } from '../harness/statistics.js'
import { logIn, workloads } from '../harness/workloads.js'
import { atMost, plain } from './figure.js'

/** Until generator and server have compiled what they run: by the latencies of each tenth of a second, it took half of this. */
const WARM_UP_MS = 1000

export async function run ({ quick, generator, connections, sessions, say }) {
  const milliseconds = quick ? 1000 : 5000
  const rounds = quick ? 3 : 10
  const [workload] = workloads
  const servers = {}
  for (const [name, file] of [['bare', 'bare.js'], ['ours', 'doorman.js']]) {
    const server = await startServer({ file })
    servers[name] = { server, cookies: writeCookies(server.directory, await logIn(server, sessions)) }
  }
  const { bare, ours } = servers
  const saturate = ({ server, cookies }) => runCell({ server, workload, cookies, generator, connections, milliseconds })
  await saturate(bare)
  await saturate(ours)
  const held = { bare: [], ours: [] }
  const rates = []
  for (let round = 0; round < 3; round++) {
    for (const [name, one] of Object.entries(servers)) {
      await one.server.startDelay()
      const { perSecond } = await saturate(one)
      held[name].push((await one.server.delay()).p999)
      if (name === 'ours') rates.push(perSecond)
    }
  }
  const rate = Math.round(median(rates) / 2)
  say(`half of the saturation: ${rate} requests per second`)

  const at = { bare: [], ours: [] }
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? ['bare', 'ours'] : ['ours', 'bare']) {
      const { server, cookies } = servers[name]
      const { p99, failed } = await load({ generator: 'plain', url: server.address, method: workload.method, path: workload.path, cookies, connections, milliseconds, rate, warmUp: WARM_UP_MS })
      if (failed > 0) throw new Error(`${failed} requests failed`)
      at[name].push(p99)
    }
  }
  await bare.server.stop()
  await ours.server.stop()
  const note = `Latencies: ${rounds} pairs of ${milliseconds / 1000} s on ${connections} connections at ${rate} requests per second, half of what the suite serves; paired ratios, each cell after ${WARM_UP_MS / 1000} s at the same rate that does not count. The event loop's delay: median of 3 cells at saturation.`
  return [
    atMost('p99 of W1 at half of the saturation, to bare Fastify', median(at.ours.map((p99, i) => p99 / at.bare[i])), 1.3, '', note),
    plain('p99 of W1, the suite', median(at.ours), 'ms'),
    plain('p99 of W1, bare Fastify', median(at.bare), 'ms'),
    atMost('delay of the event loop at saturation, p99.9, the suite', median(held.ours), 10, 'ms'),
    plain('delay of the event loop at saturation, p99.9, bare Fastify', median(held.bare), 'ms')
  ]
}
