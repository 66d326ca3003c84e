/**
 * One cell by autocannon, in a process of its own: every request takes the next Cookie header; prints the result as JSON.
 *
 *   node autocannon.js '{"url":…,"method":…,"path":…,"agent":…,"cookies":FILE or null,"connections":…,"milliseconds":…}'
 */
import { readFileSync } from 'node:fs'
import autocannon from 'autocannon'

const { url, method, path, agent, cookies: file, connections, milliseconds } = JSON.parse(process.argv[2])
const cookies = file === null ? [] : readFileSync(file, 'utf8').trim().split('\n')
let clients = 0

const result = await autocannon({
  url: url + path,
  method,
  headers: { 'user-agent': agent },
  connections,
  duration: milliseconds / 1000,
  setupClient (client) {
    if (cookies.length === 0) return
    // Each connection begins elsewhere, so that they do not all use the same session at the same time.
    const start = Math.floor(clients++ * cookies.length / connections)
    const list = [...cookies.slice(start), ...cookies.slice(0, start)]
    client.setRequests(list.map(cookie => ({ method, path, headers: { 'user-agent': agent, cookie } })))
  }
})
console.log(JSON.stringify({
  answered: result['2xx'],
  milliseconds: result.duration * 1000,
  failed: result.non2xx + result.errors + result.timeouts,
  p50: result.latency.p50,
  p99: result.latency.p99
}))
