/**
 * What size does to speed: W1 with ever more sessions, insert rate, lists and leaders with ever more rows, and what the cleanup costs per row it
 * removes. The files are filled by SQL (fill.js), the measured work is the suite's.
 */
import { rmSync } from 'node:fs'
import { runCell } from '../harness/cell.js'
import { startServer, temporaryDirectory } from '../harness/server.js'
import { median } from '../harness/statistics.js'
import { logIn, workloads } from '../harness/workloads.js'
import { writeCookies } from '../load/generator.js'
import { atLeast, atMost, plain } from './figure.js'
import { addOld, fillLog, fillSessions } from './fill.js'
import { feed, openSuite } from './suite.js'

const DAY_MS = 86_400_000
const LONG_MS = 5000
const count = n => n.toLocaleString('en-US').replaceAll(',', ' ')

export async function run (options) {
  return [...await manySessions(options), ...await manyRows(options)]
}

/** W1 over many of the sessions, beside a server with the fewest, in turn. */
async function manySessions ({ quick, generator, connections, say }) {
  const sizes = quick ? [500, 5000, 50_000] : [10_000, 1_000_000, 10_000_000]
  const used = quick ? 200 : 10_000
  const rounds = quick ? 2 : 10
  const running = []
  try {
    for (const size of sizes) {
      const directory = temporaryDirectory()
      running.push({ directory })
      await fillSessions(directory, size - used, say)
      const server = await startServer({ file: 'doorman.js', directory })
      Object.assign(running.at(-1), { size, server, ratios: [], cookies: writeCookies(directory, await logIn(server, used)) })
    }
    const [smallest, ...others] = running
    const cell = ({ server, cookies }) => runCell({ server, workload: workloads[0], cookies, generator, connections, milliseconds: 1000 })
    const good = async one => {
      const { perSecond, faults } = await cell(one)
      if (faults.length > 0) throw new Error(faults.join('; '))
      return perSecond
    }
    for (const one of running) await good(one)
    for (let round = 0; round < rounds; round++) {
      for (const one of others) {
        if (round % 2 === 0) {
          const first = await good(smallest)
          one.ratios.push(await good(one) / first)
        } else {
          one.ratios.push(await good(one) / await good(smallest))
        }
      }
    }
    for (const { server } of running) await server.stop()
    const note = `Sessions: ${rounds} pairs of 1 s per size; the requests use ${count(used)} of the sessions in turn.`
    return others.map(({ size, ratios }) => atLeast(`W1 with ${count(size)} sessions, to ${count(smallest.size)}`, median(ratios), 0.9, '', note))
  } catch (error) {
    await Promise.all(running.map(({ server }) => server?.kill()))
    throw error
  } finally {
    for (const { directory } of running) rmSync(directory, { recursive: true, force: true })
  }
}

/** Milliseconds that something takes: median of three, or once where that is long enough to be sure of. */
async function time (work) {
  const taken = []
  while (taken.length < 3 && !(taken[0] > LONG_MS)) {
    const start = performance.now()
    await work()
    taken.push(performance.now() - start)
  }
  return median(taken)
}

/** Insert rate beside that of a suite with empty files, in turn: median of the paired ratios. */
async function insertRate (app, { pairs, milliseconds }) {
  const ratios = []
  for (let pair = 0; pair < pairs; pair++) {
    const directory = temporaryDirectory()
    const empty = await openSuite(directory)
    await feed(empty, milliseconds / 5)
    const reference = await feed(empty, milliseconds)
    await empty.close()
    rmSync(directory, { recursive: true, force: true })
    ratios.push((await feed(app, milliseconds)).perSecond / reference.perSecond)
  }
  return median(ratios)
}

/** Lists and leaders: what an operator looks at. */
async function readTimes (app, size) {
  const lastHour = { from: Date.now() - 3_600_000 }
  const name = `with ${count(size)} rows`
  return [
    plain(`list of the newest 50 ${name}`, await time(() => app.ipTracking.list({}, { limit: 50 })), 'ms'),
    plain(`list of one address ${name}`, await time(() => app.ipTracking.list({ ip: '10.1.2.3' }, { limit: 50 })), 'ms'),
    plain(`the ten most frequent addresses of the last hour ${name}`, await time(() => app.ipTracking.top('ip', lastHour, 10)), 'ms'),
    plain(`the ten most frequent addresses of all ${name}`, await time(() => app.ipTracking.top('ip', {}, 10)), 'ms')
  ]
}

/** One run of the cleanup. @returns ms per 1000 rows removed */
async function cleanupCost (app, old) {
  const start = performance.now()
  const { removed, error } = await app.cleanup.run({})
  if (error !== null || removed.ipLogs !== old) throw new Error(`the cleanup removed ${removed.ipLogs} of ${old} rows (${error})`)
  return (performance.now() - start) / old * 1000
}

async function manyRows ({ quick, say }) {
  const sizes = quick ? [1000, 10_000, 100_000] : [1_000_000, 10_000_000, 50_000_000]
  const sample = quick ? { pairs: 2, milliseconds: 300 } : { pairs: 7, milliseconds: 2000 }
  const old = quick ? 2000 : 20_000
  const reads = []
  const inserts = []
  const cleanups = []
  const directory = temporaryDirectory()
  try {
    for (const size of sizes) {
      await fillLog(directory, size, say)
      addOld(directory, old, Date.now() - 60 * DAY_MS, say)
      const app = await openSuite(directory, { cleanup: { enabled: false, timeBudget: '1h' } })
      reads.push(...await readTimes(app, size))
      cleanups.push(await cleanupCost(app, old))
      inserts.push(await insertRate(app, sample))
      say(`${count(size)} rows present: insert rate ${inserts.at(-1).toFixed(2)} of empty`)
      await app.close()
    }
    const note = `Rows: insert rates are medians of ${sample.pairs} pairs of ${sample.milliseconds / 1000} s each. The cleanups removed ${count(old)} rows each.`
    return [
      ...sizes.map((size, i) => atLeast(`insert rate with ${count(size)} rows present, to empty`, inserts[i], 0.8, '', note)),
      ...reads,
      ...sizes.map((size, i) => plain(`cleanup with ${count(size)} rows present, per 1000 removed`, cleanups[i], 'ms')),
      atMost(`cost of removing a row with ${count(sizes.at(-1))} rows present, to ${count(sizes[0])}`, cleanups.at(-1) / cleanups[0], 2)
    ]
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
