/**
 * Memory: the process after a million requests and a hundred thousand logins, beside bare Fastify after the same; then a soak at half load, whose growth
 * is the slope of a line through its last two thirds (the first warms up).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { runCell } from '../harness/cell.js'
import { startServer } from '../harness/server.js'
import { slope } from '../harness/statistics.js'
import { logIn, workloads } from '../harness/workloads.js'
import { load, writeCookies } from '../load/generator.js'
import { atMost, plain } from './figure.js'

const MIB = 2 ** 20
/** Growth over the soak that the line's own error explains, MiB. */
const NOISE = 5

export async function run ({ quick, generator, connections, sessions, say }) {
  const requests = quick ? 20_000 : 1_000_000
  const logins = quick ? 2000 : 100_000
  const soak = quick ? 6000 : 600_000
  const [read, , login] = workloads
  const servers = {}
  for (const [name, file] of [['bare', 'bare.js'], ['ours', 'doorman.js']]) {
    const server = await startServer({ file })
    servers[name] = { server, cookies: writeCookies(server.directory, await logIn(server, sessions)), before: (await server.memory()).rss }
  }
  const after = {}
  let perSecond = 0
  for (const [name, { server, cookies }] of Object.entries(servers)) {
    for (const [workload, number] of [[login, logins], [read, requests]]) {
      for (let done = 0; done < number;) {
        const cell = await runCell({ server, workload, cookies, generator, connections, milliseconds: quick ? 1000 : 5000 })
        if (cell.faults.length > 0) throw new Error(`${name}: ${cell.faults.join('; ')}`)
        done += cell.answered
        perSecond = cell.perSecond
        say(`${name}, ${workload.id}: ${done} of ${number}`)
      }
    }
    await sleep(2000) // for the garbage of the last cell
    after[name] = (await server.memory()).rss
  }
  await servers.bare.server.stop()

  const { server, cookies } = servers.ours
  const points = []
  const start = performance.now()
  say(`soak of ${soak / 1000} s`)
  const soaking = load({ generator: 'plain', url: server.address, method: read.method, path: read.path, cookies, connections, milliseconds: soak, rate: perSecond / 2 })
  while (performance.now() - start < soak) {
    await sleep(soak / 120)
    points.push([(performance.now() - start) / 60_000, (await server.memory()).rss / MIB])
  }
  const { failed } = await soaking
  if (failed > 0) throw new Error(`${failed} requests of the soak failed`)
  await server.stop()
  const growth = slope(points.slice(Math.floor(points.length / 3)))
  const minutes = soak / 60_000
  return [
    atMost('resident memory above bare Fastify', (after.ours - after.bare) / MIB, 60, 'MiB', `After ${requests} authenticated requests and ${logins} logins each. The soak: ${minutes} min at half of the saturation.`),
    plain('resident memory, the suite', after.ours / MIB, 'MiB'),
    plain('resident memory, bare Fastify', after.bare / MIB, 'MiB'),
    plain('resident memory before, the suite', servers.ours.before / MIB, 'MiB'),
    { ...plain('growth in the soak', growth, 'MiB/min'), target: `none (≤ ${NOISE} MiB in all)`, met: growth * minutes <= NOISE }
  ]
}
