/**
 * A load generator without dependencies, over raw sockets: for the smoke run, and for what the others cannot do, namely a fixed rate with latencies
 * counted from when each request was due (so a server that stalls cannot hide it). Requests under way at the end are waited for.
 *
 *   node plain.js '{"url":…,"method":…,"path":…,"agent":…,"cookies":FILE or null,"connections":…,"milliseconds":…,"rate":null or per second,"warmUp":0}'
 *
 * `warmUp`: ms at the start whose requests are sent and not measured. This process has compiled nothing yet when it begins, falls behind its rate for some
 * tenths of a second, and sends what is overdue all at once: what those requests waited is its own doing.
 */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'

const { url, method, path, agent, cookies: file, connections, milliseconds, rate = null, warmUp = 0 } = JSON.parse(process.argv[2])
const { hostname, port, host } = new URL(url)
const cookies = file === null ? [] : readFileSync(file, 'utf8').trim().split('\n')
const head = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: ${agent}\r\n${method === 'POST' ? 'Content-Length: 0\r\n' : ''}`
const requests = cookies.length === 0 ? [`${head}\r\n`] : cookies.map(cookie => `${head}Cookie: ${cookie}\r\n\r\n`)

const latencies = []
let answered = 0
/** Requests that are due and have no connection yet, by when they were due; connections without a request. */
const due = []
let dueHead = 0
const idle = []
let turn = 0
let failed = 0
let open = 0
let ended = false
const start = performance.now()
const measured = start + warmUp
const end = measured + milliseconds
let last = start

/** Length of the whole reply at the start of `text`, or 0 while it is not complete. */
function replyLength (text) {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return 0
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, headEnd + 2))
  if (length === null) throw new Error(`a reply without Content-Length: ${text.slice(0, headEnd)}`)
  const total = headEnd + 4 + Number(length[1])
  return text.length >= total ? total : 0
}

function send (connection, since) {
  connection.since = since
  connection.socket.write(requests[turn++ % requests.length], 'latin1')
}

/** What a connection does that has nothing under way. */
function next (connection) {
  if (rate === null) {
    if (performance.now() < end) send(connection, performance.now())
    else finish(connection)
  } else if (dueHead < due.length) {
    send(connection, due[dueHead++])
  } else if (performance.now() >= end) {
    finish(connection)
  } else {
    idle.push(connection)
  }
}

function finish (connection) {
  connection.socket.destroy()
  if (--open === 0) report()
}

function report () {
  if (ended) return
  ended = true
  const sorted = Float64Array.from(latencies).sort()
  const at = share => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? null
  console.log(JSON.stringify({ answered, milliseconds: last - start, failed, p50: at(0.5), p99: at(0.99) }))
  process.exit()
}

function openConnection () {
  const connection = { socket: connect({ host: hostname, port, noDelay: true }), text: '', since: 0 }
  open++
  connection.socket.setEncoding('latin1')
  connection.socket.on('data', data => {
    connection.text += data
    const length = replyLength(connection.text)
    if (length === 0) return
    last = performance.now()
    if (/^HTTP\/1\.1 2/.test(connection.text)) {
      answered++
      if (connection.since >= measured) latencies.push(last - connection.since)
    } else {
      failed++
    }
    connection.text = connection.text.slice(length)
    next(connection)
  })
  connection.socket.once('connect', () => next(connection))
  connection.socket.once('error', () => {
    failed++
    if (--open === 0) report()
  })
}
for (let i = 0; i < connections; i++) openConnection()

if (rate !== null) {
  let sent = 0
  const pace = () => {
    const now = performance.now()
    const dueByNow = (Math.min(now, end) - start) * rate / 1000
    for (; sent < dueByNow; sent++) due.push(start + sent * 1000 / rate)
    while (dueHead < due.length && idle.length > 0) send(idle.pop(), due[dueHead++])
    if (now < end) setImmediate(pace)
    else for (const connection of idle.splice(0)) next(connection)
  }
  pace()
}
// A server that stopped answering is a failure, not a benchmark that never ends.
setTimeout(() => {
  failed++
  report()
}, warmUp + milliseconds + 30_000).unref()
