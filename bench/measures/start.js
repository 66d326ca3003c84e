/** How long until the first reply, from the start of the process: bare Fastify, the suite with empty files, the suite with many rows and sessions. */
import { rmSync } from 'node:fs'
import { startServer, temporaryDirectory } from '../harness/server.js'
import { median } from '../harness/statistics.js'
import { atMost, plain } from './figure.js'
import { fillLog, fillSessions } from './fill.js'

async function firstReply (options) {
  const start = performance.now()
  const server = await startServer({ ...options, pinned: false })
  const response = await fetch(`${server.address}/anonymous`)
  await response.text()
  const taken = performance.now() - start
  if (response.status !== 200) throw new Error(`GET /anonymous: ${response.status}`)
  await server.stop()
  return taken
}

export async function run ({ quick, say }) {
  const rows = quick ? 100_000 : 10_000_000
  const sessions = quick ? 10_000 : 1_000_000
  const rounds = quick ? 3 : 15
  const filled = temporaryDirectory()
  try {
    await fillSessions(filled, sessions, say)
    await fillLog(filled, rows, say)
    const kinds = { bare: { file: 'bare.js' }, empty: { file: 'doorman.js' }, full: { file: 'doorman.js', directory: filled } }
    const taken = { bare: [], empty: [], full: [] }
    for (const options of Object.values(kinds)) await firstReply(options)
    for (let round = 0; round < rounds; round++) {
      for (const [name, options] of Object.entries(kinds)) taken[name].push(await firstReply(options))
    }
    const more = name => median(taken[name].map((one, i) => one - taken.bare[i]))
    const note = `Median of ${rounds} starts each, in turn; from the start of the process to the end of its first reply, the load of its modules included.`
    return [
      atMost('first reply with empty files, above bare Fastify', more('empty'), 150, 'ms', note),
      atMost(`first reply with ${rows} rows and ${sessions} sessions, above bare Fastify`, more('full'), 150, 'ms'),
      plain('first reply of bare Fastify', median(taken.bare), 'ms')
    ]
  } finally {
    rmSync(filled, { recursive: true, force: true })
  }
}
