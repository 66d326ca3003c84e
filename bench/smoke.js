/**
 * One quick look at what the suite costs: short cells of bare Fastify and of the suite in turn, the median of their paired ratios,
 * and a check that every request and every login is really in the database. Fails on errors and missing rows, never on time.
 *
 *   node bench/smoke.js [--quick]
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const quick = process.argv.includes('--quick')
const ROUNDS = quick ? 1 : 10
const CELL_MS = quick ? 300 : 1000
const CONNECTIONS = 20

const directory = mkdtempSync(join(tmpdir(), 'doorman-bench-'))
const start = async kind => {
  const child = fork(new URL('./server.js', import.meta.url), [kind, `file:${join(directory, 'bench.db')}`])
  const [{ address }] = await once(child, 'message')
  return { child, address, agent: new Agent({ keepAlive: true, maxSockets: CONNECTIONS }), sent: 0, logins: 0 }
}

function call (server, method, path, headers = {}) {
  return new Promise((resolve, reject) => {
    server.sent++
    request(`${server.address}${path}`, { method, agent: server.agent, headers }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body))
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${body}`))
      })
    }).on('error', reject).end()
  })
}

/** Requests per second of one short cell. */
async function cell (server, method, path, headers) {
  const end = performance.now() + CELL_MS
  let done = 0
  const loop = async () => {
    while (performance.now() < end) {
      await call(server, method, path, headers)
      done++
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, loop))
  if (method === 'POST') server.logins += done
  return done / CELL_MS * 1000
}

const median = numbers => numbers.sort((a, b) => a - b)[numbers.length >> 1]

const bare = await start('bare')
const doorman = await start('doorman')
try {
  const { token } = await call(doorman, 'POST', '/login')
  doorman.logins++
  const headers = { authorization: `Bearer ${token}` }
  for (const [name, method, path] of [['authenticated GET', 'GET', '/authenticated'], ['anonymous GET', 'GET', '/anonymous'], ['login', 'POST', '/login']]) {
    const ratios = []
    for (let round = 0; round < ROUNDS; round++) {
      const reference = await cell(bare, method, path)
      ratios.push(await cell(doorman, method, path, name === 'authenticated GET' ? headers : {}) / reference)
    }
    console.log(`${name.padEnd(18)} ${median(ratios).toFixed(2)} of bare Fastify (client and servers share this machine)`)
  }
  doorman.child.send('count')
  const [{ rows, sessions }] = await once(doorman.child, 'message')
  console.log(`requests ${doorman.sent}, rows ${rows}; logins ${doorman.logins}, sessions ${sessions}`)
  // Logins are also written down in the user's trail.
  if (rows < doorman.sent || sessions !== doorman.logins) throw new Error('the database does not agree with the requests')
} finally {
  for (const { child, agent } of [bare, doorman]) {
    agent.destroy()
    if (child.connected) child.send('stop')
    await once(child, 'exit')
  }
  rmSync(directory, { recursive: true })
}
