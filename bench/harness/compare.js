/**
 * The comparison: all servers up, short cells of bare Fastify and of a candidate in turn, ratios of each pair. What a shared machine does
 * to one cell it does to its neighbour as well, and the median forgets the rest.
 */
import { rmSync } from 'node:fs'
import { writeCookies } from '../load/generator.js'
import { runCell } from './cell.js'
import { startServer, temporaryDirectory } from './server.js'
import { median, summary } from './statistics.js'
import { logIn, workloads } from './workloads.js'

const WARM_REQUESTS = 10_000
const MOST_WARM_CELLS = 3

/**
 * @typedef {object} Figure
 * @property {string} candidate id
 * @property {string} workload id
 * @property {{ median: number, q1: number, q3: number, min: number, max: number, pairs: number }} ratio requests per second, to bare Fastify's
 * @property {number} perSecond median
 * @property {number} cpuRatio processor time per request, whole process, to bare Fastify's; median
 * @property {number | null} mainRatio the same of the main thread
 * @property {number | null} target
 * @property {boolean | null} met
 * @property {string[]} faults each fault that was found, once
 */

/**
 * @param {{ candidates: import('../servers/list.js').Candidate[], rounds: number, milliseconds: number, connections: number, sessions: number, generator: string, warmCells?: number, serverCores?: 'one' | 'all', say: (text: string) => void }} options
 * @returns {Promise<Figure[]>}
 */
export async function compare ({ candidates, rounds, milliseconds, connections, sessions, generator, warmCells = MOST_WARM_CELLS, serverCores = 'one', say }) {
  const running = []
  try {
    for (const candidate of candidates) {
      say(`starting ${candidate.title}`)
      const server = await startServer({ file: candidate.file, settings: candidate.settings, pinned: serverCores === 'one' })
      const scratch = temporaryDirectory()
      running.push({ candidate, server, scratch, cookies: writeCookies(scratch, await logIn(server, sessions)) })
    }
    const [bare, ...others] = running
    const figures = []
    for (const workload of workloads) {
      const cell = ({ server, cookies }) => runCell({ server, workload, cookies, generator, connections, milliseconds })
      for (const one of running) await warmUp(() => cell(one), warmCells)
      const pairs = new Map(others.map(one => [one, []]))
      for (let round = 0; round < rounds; round++) {
        say(`${workload.id}, round ${round + 1} of ${rounds}`)
        for (const one of others) {
          // Who comes first alternates, so that neither always has the machine the other warmed up.
          const order = round % 2 === 0 ? [bare, one] : [one, bare]
          const cells = new Map()
          for (const side of order) cells.set(side, await cell(side))
          pairs.get(one).push([cells.get(one), cells.get(bare)])
        }
      }
      for (const [{ candidate }, cells] of pairs) figures.push(figure(candidate, workload, cells))
    }
    for (const { server } of running) await server.stop()
    return figures
  } catch (error) {
    await Promise.all(running.map(({ server }) => server.kill()))
    throw error
  } finally {
    for (const { scratch } of running) rmSync(scratch, { recursive: true, force: true })
  }
}

/** Code is compiled by the time it counts; a server that answers little does not hold the others up. */
export async function warmUp (cell, most = MOST_WARM_CELLS) {
  for (let answered = 0, cells = 0; answered < WARM_REQUESTS && cells < most; cells++) answered += (await cell()).answered
}

/** @returns {Figure} */
function figure (candidate, workload, pairs) {
  const ratio = summary(pairs.map(([own, bare]) => own.perSecond / bare.perSecond))
  const target = candidate.targets?.[workload.id] ?? null
  return {
    candidate: candidate.id,
    workload: workload.id,
    ratio,
    perSecond: median(pairs.map(([own]) => own.perSecond)),
    cpuRatio: median(pairs.map(([own, bare]) => own.cpuUs / bare.cpuUs)),
    mainRatio: pairs.some(([own]) => own.mainUs === null) ? null : median(pairs.map(([own, bare]) => own.mainUs / bare.mainUs)),
    target,
    met: target === null ? null : ratio.median >= target,
    faults: [...new Set(pairs.flatMap(cells => cells.flatMap(({ faults }) => faults)))]
  }
}
