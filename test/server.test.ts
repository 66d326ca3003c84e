/** The program `server.js`, as a process of its own, steered by its environment and by signals. */
import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { createServer, connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { holdLock } from '../storage/sqlite/hold-lock.js'
import { startChild } from './child.js'

const KEY = 'test-key-test-key-test-key-test-key'

async function startServer (t: Test, env: Record<string, string> = {}) {
  const child = startChild(t, 'server.js', [], env)
  const [, address] = await child.output(/^fastify-doorman listens on (\S+)$/m)
  return { ...child, address: address! }
}

t.test('without any configuration: it says what to do next, that works, and a signal ends it in order', async t => {
  const { address, output, process, ended, dir } = await startServer(t)
  t.match(address, /^http:\/\/127\.0\.0\.1:\d+$/)
  const [, key] = await output(/API key {8}(dk_\S+) \(for this run only/)
  const [, url, body] = await output(/curl -X POST (\S+) -H 'Authorization: Bearer dk_\S+' -H 'Content-Type: application\/json' -d '(.*)'/)
  const [, docs] = await output(/Documentation {2}(\S+)/)
  t.equal((await fetch(docs!)).status, 200)

  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const created = await fetch(url!, { method: 'POST', headers, body: body! })
  t.equal(created.status, 201)
  const { token } = await created.json() as { token: string }
  const session = { headers: { cookie: created.headers.get('set-cookie')!.split(';')[0]! } }
  t.match(await (await fetch(`${address}/session`, session)).json(), { userId: 'alice' })
  t.match(await (await fetch(`${address}/sessions`, session)).json(), { items: [{ current: true }] })
  t.equal((await fetch(`${address}/session`, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } })).status, 204)
  t.equal((await fetch(`${address}/session`, session)).status, 401)

  process.kill('SIGTERM')
  const { code, stderr } = await ended
  t.equal(code, 0)
  t.equal(stderr, '')
  t.ok(existsSync(join(dir, 'data', 'doorman.db')), 'the folder was made')
  t.notOk(existsSync(join(dir, 'data', 'doorman.db-wal')), 'and everything is in the file')
})

t.test('keys that are set are not printed; misspelt names are pointed out', async t => {
  const { output, process, ended } = await startServer(t, { API_KEYS: KEY, SESSION_IDLE_TIMEOUTS: '1h', HOST: '::1' })
  await output(/API key {8}one of API_KEYS/)
  await output(/did you mean SESSION_IDLE_TIMEOUT\?/)
  await output(/Bearer \$API_KEY/)
  process.kill('SIGINT')
  const { code, stdout } = await ended
  t.equal(code, 0)
  t.notMatch(stdout, KEY)
})

t.test('what keeps it from starting is said in one line', async t => {
  const child = startChild(t, 'server.js', [], { PORT: 'http' })
  await t.rejects(child.output(/listens/), /^ended before .*PORT must be/)
  const wrong = await child.ended
  t.equal(wrong.code, 1)
  t.equal(wrong.stderr, 'fastify-doorman did not start: DOORMAN_CONFIG_INVALID: PORT must be an integer from 0 to 65535; got "http"\n')
  t.equal(wrong.stdout, '')

  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await once(other, 'listening')
  const taken = await startChild(t, 'server.js', [], { PORT: String((other.address() as AddressInfo).port), LOG_LEVEL: 'fatal' }).ended
  t.equal(taken.code, 1)
  t.match(taken.stderr, /^fastify-doorman did not start: listen EADDRINUSE: .*\n$/)
})

t.test('a request that does not end is cut off in time, and the stop is still in order', async t => {
  const { address, process, ended } = await startServer(t, { API_KEYS: KEY, CLOSE_TIMEOUT: '1s', LOG_LEVEL: 'fatal' })
  const { port, hostname } = new URL(address)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {}).resume()
  await once(socket, 'connect')
  socket.write(`POST /sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${KEY}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{`)
  // An answer to a second connection shows that the first has been read.
  await fetch(`${address}/health/live`)
  const gone = once(socket, 'close')
  process.kill('SIGTERM')
  await gone
  t.equal((await ended).code, 0)
})

t.test('a request under way is answered, and its connection ends with it: the stop does not wait for clients that would keep it', async t => {
  const { address, dir, process, ended, output } = await startServer(t, { API_KEYS: KEY, CLOSE_TIMEOUT: '10m' })
  const release = holdLock(join(dir, 'data', 'doorman.db'))
  const login = fetch(`${address}/sessions`, { method: 'POST', headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }, body: '{"userId":"alice"}' })
  await fetch(`${address}/health/ready`)
  process.kill('SIGTERM')
  await output(/"msg":"stopping"/)
  release()
  const { status, headers } = await login
  t.equal(status, 201)
  t.equal(headers.get('connection'), 'close')
  t.equal((await ended).code, 0, 'long before the deadline')
})

t.test('what could not be stored is counted, and the exit code tells', async t => {
  const { address, dir, process, ended } = await startServer(t, { API_KEYS: KEY, CLOSE_TIMEOUT: '1s', LOG_LEVEL: 'fatal' })
  t.teardown(holdLock(join(dir, 'data', 'doorman.db')))
  const login = fetch(`${address}/sessions`, { method: 'POST', headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }, body: '{"userId":"alice"}' })
  const refused = t.rejects(login, 'never acknowledged')
  await fetch(`${address}/health/ready`)
  process.kill('SIGTERM')
  const { code, stderr } = await ended
  await refused
  t.equal(code, 1)
  t.match(stderr, /^DOORMAN_CLOSE_INCOMPLETE: Closing gave up after 500 ms: 1 operations were not stored\n$/)
})

t.test('a second signal ends it at once; the same one delivered twice does not', async t => {
  const { address, dir, process, ended, output } = await startServer(t, { API_KEYS: KEY, CLOSE_TIMEOUT: '10m' })
  t.teardown(holdLock(join(dir, 'data', 'doorman.db')))
  const login = fetch(`${address}/sessions`, { method: 'POST', headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }, body: '{"userId":"alice"}' })
  const refused = t.rejects(login)
  await fetch(`${address}/health/ready`)
  const first = performance.now()
  process.kill('SIGTERM')
  await output(/"msg":"stopping"/)
  // Those within half a second of the first are ignored, the next one is a second signal.
  const again = setInterval(() => process.kill('SIGINT'), 50)
  const { code, stdout, stderr } = await ended
  clearInterval(again)
  await refused
  t.ok(performance.now() - first >= 500, 'not by one that came too soon')
  t.equal(code, 1)
  t.match(stderr, /^SIGINT again: stopped at once/)
  t.equal(stdout.match(/"msg":"stopping"/g)?.length, 1)
})

t.test('a file that is removed while it runs ends it, and it says what to do', async t => {
  const { dir, ended } = await startServer(t, { API_KEYS: KEY })
  rmSync(join(dir, 'data', 'doorman.db'))
  const { code, stdout, stderr } = await ended
  t.equal(code, 1)
  t.match(stdout, /"level":60.*"code":"DOORMAN_STORAGE_REPLACED".*"msg":"nothing can be stored any more: stopping"/)
  t.match(stderr, /^DOORMAN_STORAGE_REPLACED: The file .*doorman\.db was removed or replaced while it was in use: stop every process on it, put the file back/)
})

t.test('the same while it stops: the exit code tells', async t => {
  const { address, dir, process, ended, output } = await startServer(t, { API_KEYS: KEY, CLOSE_TIMEOUT: '10m' })
  t.teardown(holdLock(join(dir, 'data', 'doorman.db')))
  const login = fetch(`${address}/sessions`, { method: 'POST', headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }, body: '{"userId":"alice"}' })
  await fetch(`${address}/health/ready`)
  process.kill('SIGTERM')
  await output(/"msg":"stopping"/)
  rmSync(join(dir, 'data', 'doorman-log.db'))
  t.equal((await login).status, 503)
  const { code, stderr } = await ended
  t.equal(code, 1)
  t.match(stderr, /^DOORMAN_STORAGE_REPLACED: .*doorman-log\.db was removed/)
})
