/**
 * Bytes per logged request, indexes and dictionary included: an access log replayed ten times over HTTP, as a proxy would pass it on (the
 * visitor in X-Forwarded-For), then the size of the log's file after an orderly stop, beside the bytes of the lines.
 */
import { rmSync, statSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'
import { startServer, temporaryDirectory } from '../harness/server.js'
import { madeUpLog, readLog } from './access-log.js'
import { atMost, plain } from './figure.js'
import { ask, logFile } from './suite.js'

const CONNECTIONS = 32

/** Sends one line's request; resolves when its reply has ended, whatever its status. */
function send (base, agent, { ip, method, path, referer, agent: userAgent }) {
  return new Promise((resolve, reject) => {
    const headers = { 'x-forwarded-for': ip, ...(referer === '-' ? {} : { referer }), ...(userAgent === '-' ? {} : { 'user-agent': userAgent }) }
    httpRequest({ host: base.hostname, port: base.port, method, path, headers, agent }, response => { response.resume().on('end', resolve) }).on('error', reject).end()
  })
}

export async function run ({ quick, log, say }) {
  const { requests, bytes, skipped, name } = log === null ? madeUpLog(10_000) : readLog(log)
  const times = quick ? 1 : 10
  const directory = temporaryDirectory()
  try {
    const server = await startServer({ file: 'doorman.js', settings: { trustProxy: 'loopback' }, directory, pinned: false })
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
    const base = new URL(server.address)
    for (let time = 0; time < times; time++) {
      say(`replay ${time + 1} of ${times}`)
      let next = 0
      const loop = async () => { while (next < requests.length) await send(base, agent, requests[next++]) }
      await Promise.all(Array.from({ length: CONNECTIONS }, loop))
    }
    const { rows } = await server.count()
    const sent = requests.length * times
    if (rows !== sent) throw new Error(`${sent} requests, ${rows} rows`)
    agent.destroy()
    await server.stop()
    const size = statSync(logFile(directory)).size - ask(logFile(directory), 'SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size')
    const perRow = size / rows
    const perLine = bytes / requests.length
    const note = `${name} ${times === 1 ? 'once' : `${times} times`}: ${rows} requests, each as one row (${skipped} lines are no requests). The log's own bytes count ${times === 1 ? 'once' : `${times} times`}, too.`
    return [
      atMost('bytes on disk, to the log\'s own', perRow / perLine, 0.4, '', note),
      plain('bytes per logged request', perRow, 'B'),
      plain('bytes per line of the log', perLine, 'B')
    ]
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
