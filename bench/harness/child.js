/**
 * Runs one server of the comparison as a process of its own and answers the harness: its address, what it has stored, what it has used.
 *
 *   node child.js '{"file":"bare.js","settings":{"directory":"…"},"processes":1}'
 *
 * With more than one process it is the primary of a cluster whose workers each run the server.
 */
import cluster from 'node:cluster'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const { file, settings, processes = 1, port = 0 } = JSON.parse(process.argv[2])

/** Nanoseconds on a processor since the start; null where the system does not say (it needs /proc). */
function onProcessor (path) {
  try {
    return Number(readFileSync(`${path}/schedstat`, 'utf8').split(' ', 1)[0])
  } catch {
    return null
  }
}

/** Processor time in µs: of the process and its helpers together, and of the main thread. */
function usage (helpers) {
  const { user, system } = process.cpuUsage()
  const main = onProcessor(`/proc/self/task/${process.pid}`)
  const others = helpers.reduce((sum, pid) => sum + (onProcessor(`/proc/${pid}`) ?? 0), 0)
  return { cpuUs: user + system + others / 1000, mainUs: main === null ? null : main / 1000 }
}

async function serve () {
  const { build } = await import(new URL(`../servers/${file}`, import.meta.url).href)
  const { app, count, helpers = [] } = await build(settings)
  const address = await app.listen({ port, host: '127.0.0.1' })
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const answers = {
    count,
    usage: () => usage(helpers),
    memory: () => ({ rss: process.memoryUsage.rss() }),
    delayStart: () => { delay.reset(); delay.enable(); return {} },
    // The timer of 1 ms is part of what the histogram holds.
    delay: () => { delay.disable(); return { p999: Math.max(0, delay.percentile(99.9) / 1e6 - 1), max: Math.max(0, delay.max / 1e6 - 1) } },
    stop: async () => { await app.close(); return {} }
  }
  process.on('message', async ({ id, ask }) => {
    let answer
    try {
      answer = { id, value: await answers[ask]() }
    } catch (error) {
      answer = { id, error: String(error.stack) }
    }
    // Stores of some peers keep timers that would hold the process for ever.
    process.send(answer, () => { if (ask === 'stop') process.exit() })
  })
  // The harness has gone: so have we, with what was started for us.
  process.on('disconnect', () => { app.close().finally(() => process.exit()) })
  process.send({ address })
}

/** Forks the workers; asks them all and adds up (`memory`, `usage`), or takes what the last one sees of the shared files (`count`). */
async function lead () {
  const workers = Array.from({ length: processes }, () => cluster.fork())
  const [{ address }] = (await Promise.all(workers.map(worker => once(worker, 'message')))).map(([message]) => message)
  const askAll = (id, ask) => Promise.all(workers.map(async worker => {
    worker.send({ id, ask })
    const [answer] = await once(worker, 'message')
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer.value
  }))
  process.on('message', async ({ id, ask }) => {
    try {
      let values = await askAll(id, ask)
      // The first time every worker stored what it held; now all of it is there to be counted.
      if (ask === 'count') values = (await askAll(id, ask)).slice(-1)
      const value = values.reduce((sum, one) => Object.fromEntries(Object.entries(one).map(([name, part]) => [name, part === null ? null : (sum[name] ?? 0) + part])), {})
      process.send({ id, value }, () => { if (ask === 'stop') process.exit() })
    } catch (error) {
      process.send({ id, error: String(error.stack) })
    }
  })
  process.on('disconnect', () => process.exit())
  process.send({ address })
}

await (cluster.isPrimary && processes > 1 ? lead() : serve())
