/**
 * Several processes on the same files: W1 of a cluster of two and of four beside one process, on all cores of the machine, which the load generator
 * shares. The same of bare Fastify says what the machine allows.
 */
import { runCell } from '../harness/cell.js'
import { startServer } from '../harness/server.js'
import { median } from '../harness/statistics.js'
import { logIn, workloads } from '../harness/workloads.js'
import { writeCookies } from '../load/generator.js'
import { plain } from './figure.js'

export async function run ({ quick, generator, connections, sessions, say }) {
  const rounds = quick ? 2 : 10
  const [workload] = workloads
  const figures = []
  for (const [title, file] of [['the suite', 'doorman.js'], ['bare Fastify', 'bare.js']]) {
    const running = []
    for (const processes of [1, 2, 4]) {
      const server = await startServer({ file, processes, pinned: false })
      running.push({ processes, server, cookies: writeCookies(server.directory, await logIn(server, sessions)), rates: [] })
    }
    for (let round = -1; round < rounds; round++) {
      say(`${title}, round ${Math.max(0, round) + 1} of ${rounds}`)
      for (const { server, cookies, rates } of running) {
        const { perSecond, faults } = await runCell({ server, workload, cookies, generator, connections, milliseconds: 1000, pinned: false })
        if (faults.length > 0) throw new Error(`${title}: ${faults.join('; ')}`)
        if (round >= 0) rates.push(perSecond) // the first one warms up
      }
    }
    const [one, ...more] = running
    for (const { processes, rates } of more) figures.push(plain(`total W1 of ${title} with ${processes} processes, to one`, median(rates.map((rate, i) => rate / one.rates[i]))))
    figures.push(plain(`W1 of ${title} with one process`, median(one.rates), 'requests/s'))
    for (const { server } of running) await server.stop()
  }
  figures[0].note = `${rounds} rounds of 1 s per size, in turn; servers and load generator share all cores.`
  return figures
}
