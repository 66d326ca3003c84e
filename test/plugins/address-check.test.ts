/** Where addresses come from, through real sockets: trusted proxies that are counted, and what is said where the setting is wrong. */
import Fastify from 'fastify'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import ipTracking from '../../plugins/ip-tracking.js'
import { fakeDatabase } from '../helpers/fake-database.js'

interface Line { level: number, msg: string, code?: string }

async function serve (t: Test, trustProxy?: unknown, options: object = {}, listen: object = { port: 0 }) {
  const database = fakeDatabase()
  const logged: Line[] = []
  const server = { logger: { level: 'warn', stream: { write: (line: string) => { logged.push(JSON.parse(line) as Line) } } }, ...(trustProxy === undefined ? {} : { trustProxy }) }
  const app = Fastify(server as object)
  t.teardown(() => app.close())
  await app.register(database.plugin)
  await app.register(ipTracking, options)
  app.get('/', async request => ({ address: request.clientAddress }))
  app.get('/health', { config: { ipTracking: false } }, async () => 'ok')
  await app.listen(listen)
  const { port } = app.server.address() as AddressInfo

  const ask = (headers: http.OutgoingHttpHeaders = {}, to: http.RequestOptions = { port, host: '127.0.0.1' }, path = '/') => new Promise<void>((resolve, reject) => {
    http.get({ ...to, path, headers, agent: false }, response => response.resume().on('end', resolve)).on('error', reject)
  })
  const seen = async (...chains: (string | undefined)[]) => {
    for (const chain of chains) await ask(chain === undefined ? {} : { 'x-forwarded-for': chain })
    return (await database.ipRows()).map(row => [row.ip, row.ipSource, row.peerIp, row.trustedHops])
  }
  return { app, database, logged, port, ask, seen }
}

/** A proxy that adds the address of its own client, as they all do. */
async function proxyTo (t: Test, port: number, listen = '127.0.0.1'): Promise<number> {
  const proxy = http.createServer((request, reply) => {
    const told = [request.headers['x-forwarded-for'], request.socket.remoteAddress].filter(text => text !== undefined).join(', ')
    request.pipe(http.request({ port, host: '127.0.0.1', path: request.url, headers: { ...request.headers, 'x-forwarded-for': told }, agent: false }, response => {
      reply.writeHead(response.statusCode!, response.headers)
      response.pipe(reply)
    }))
  })
  t.teardown(() => proxy.close())
  await new Promise<void>(resolve => proxy.listen(0, listen, resolve))
  return (proxy.address() as AddressInfo).port
}

// ---------------------------------------------------------------- hops

t.test('without a trusted proxy nobody is counted, whatever the client writes', async t => {
  const { seen } = await serve(t)
  t.strictSame(await seen(undefined, '192.0.2.7', '192.0.2.7, 127.0.0.1'), Array.from({ length: 3 }, () => ['127.0.0.1', 'socket', null, 0]))
})

t.test('one trusted proxy', async t => {
  const { seen } = await serve(t, ['127.0.0.1'])
  t.strictSame(await seen(undefined, '192.0.2.7', '203.0.113.66, 192.0.2.7', '192.0.2.7, 10.0.0.9'), [
    ['127.0.0.1', 'socket', null, 0],
    ['192.0.2.7', 'forwarded', '127.0.0.1', 1],
    ['192.0.2.7', 'forwarded', '127.0.0.1', 1],
    ['10.0.0.9', 'forwarded', '127.0.0.1', 1]
  ])
})

t.test('two trusted proxies', async t => {
  const { seen } = await serve(t, ['127.0.0.1', '10.0.0.9'])
  t.strictSame(await seen('192.0.2.7', '192.0.2.7, 10.0.0.9', '203.0.113.66, 192.0.2.7, 10.0.0.9', '192.0.2.7, 10.0.0.8', 'nonsense, 10.0.0.9'), [
    ['192.0.2.7', 'forwarded', '127.0.0.1', 1],
    ['192.0.2.7', 'forwarded', '127.0.0.1', 2],
    ['192.0.2.7', 'forwarded', '127.0.0.1', 2],
    ['10.0.0.8', 'forwarded', '127.0.0.1', 1],
    [null, 'rejected', '127.0.0.1', 2]
  ])
})

t.test('real proxies, one behind the other', async t => {
  const { database, ask, port, logged } = await serve(t, 'loopback')
  const inner = await proxyTo(t, port)
  const outer = await proxyTo(t, inner)
  await ask({ 'x-forwarded-for': '192.0.2.7' }, { port: outer, host: '127.0.0.1' })
  t.match(await database.ipRows(), [{ ip: '192.0.2.7', ipSource: 'forwarded', peerIp: '127.0.0.1', trustedHops: 3 }])
  t.strictSame(logged, [])
})

t.test('a chain that is longer than what is counted', async t => {
  const { seen } = await serve(t, 'loopback')
  const chain = (proxies: number) => ['192.0.2.7', ...Array.from({ length: proxies }, () => '127.0.0.1')].join()
  t.strictSame((await seen(chain(254), chain(255), chain(1000))).map(row => row[3]), [255, 255, 255])
  t.strictSame((await seen(chain(253))).at(-1), ['192.0.2.7', 'forwarded', '127.0.0.1', 254])
})

// ---------------------------------------------------------------- the check

t.test('a client that writes X-Forwarded-For to a service without a proxy: its own address, and one warning', async t => {
  const { app, logged, seen, ask } = await serve(t)
  const before = Date.now()
  await seen(undefined)
  t.strictSame([logged, app.ipTracking.check()], [[], []])
  t.strictSame((await seen('192.0.2.7', '192.0.2.8')).slice(1), [['127.0.0.1', 'socket', null, 0], ['127.0.0.1', 'socket', null, 0]])
  for (const name of ['x-real-ip', 'forwarded', 'cf-connecting-ip', 'true-client-ip']) await ask({ [name]: '192.0.2.7' })
  t.ok((await seen()).every(([ip]) => ip === '127.0.0.1'), 'nor by any other header')
  t.match(logged, [{ level: 40, code: 'IPLOG_UNEXPECTED_FORWARDED', msg: /the header X-Forwarded-For.*trustProxy is not set\. .*set Fastify's trustProxy \(TRUST_PROXY/ }])
  t.equal(logged.length, 1)
  const [finding, ...others] = app.ipTracking.check()
  t.match(finding, { code: 'IPLOG_UNEXPECTED_FORWARDED', message: /X-Forwarded-For/, fix: /trustProxy/ })
  t.ok(finding!.since >= before && finding!.since <= Date.now())
  t.strictSame(others, [])
})

t.test('the list of findings is the caller\'s own', async t => {
  const { app } = await serve(t, true)
  app.ipTracking.check().length = 0
  t.equal(app.ipTracking.check().length, 1)
})

t.test('requests that leave no row are not looked at', async t => {
  const { logged, ask, port } = await serve(t)
  await ask({ 'x-forwarded-for': '192.0.2.7' }, { port, host: '127.0.0.1' }, '/health')
  t.strictSame(logged, [])
})

t.test('trustProxy: true, where the client decides: said before the first request', async t => {
  const { app, logged, seen } = await serve(t, true)
  t.match(logged, [{ level: 40, code: 'IPLOG_PERMISSIVE_TRUST_PROXY', msg: /trusts everybody.*addresses of your proxies/ }])
  t.strictSame(await seen('10.1.1.1, 192.0.2.7'), [['10.1.1.1', 'forwarded', '127.0.0.1', 2]], 'which is what it warns of')
  t.equal(logged.length, 1)
  t.match(app.ipTracking.check(), [{ code: 'IPLOG_PERMISSIVE_TRUST_PROXY' }])
})

t.test('a number of hops, which this release of Fastify takes for nobody', async t => {
  for (const trustProxy of [1, 2, '1']) {
    const { app, logged, seen } = await serve(t, trustProxy)
    t.match(logged, [{ level: 40, code: 'IPLOG_NUMERIC_TRUST_PROXY', msg: /number of hops.*logged as the proxy.*addresses of your proxies/ }])
    t.strictSame(await seen('192.0.2.7', '203.0.113.66, 192.0.2.7'), [['127.0.0.1', 'socket', null, 0], ['127.0.0.1', 'socket', null, 0]], 'which is what it warns of')
    t.match(app.ipTracking.check(), [{ code: 'IPLOG_NUMERIC_TRUST_PROXY' }])
    t.equal(logged.length, 1)
  }
})

t.test('a unix socket', async t => {
  // The test directory's path is longer than the name of a socket may be.
  const folder = mkdtempSync(join(tmpdir(), 'doorman-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const path = join(folder, 's')
  const { app, logged, ask, database } = await serve(t, undefined, {}, { path })
  await ask({}, { socketPath: path })
  await ask({}, { socketPath: path })
  t.match(await database.ipRows(), [{ ip: null, ipSource: 'none', trustedHops: 0 }, { ip: null }])
  t.match(logged, [{ level: 40, code: 'IPLOG_UNIX_SOCKET', msg: /address => address === undefined/ }])
  t.equal(logged.length, 1)
  t.match(app.ipTracking.check(), [{ code: 'IPLOG_UNIX_SOCKET' }])

  // As the warning says.
  const trusting = await serve(t, (address: string | undefined) => address === undefined, {}, { path: `${path}2` })
  await trusting.ask({ 'x-forwarded-for': '203.0.113.66, 192.0.2.7' }, { socketPath: `${path}2` })
  t.match(await trusting.database.ipRows(), [{ ip: '192.0.2.7', ipSource: 'forwarded', peerIp: null, trustedHops: 1 }])
  t.strictSame(trusting.logged, [])
})

t.test('everybody has the address of the container\'s gateway', async t => {
  const { app, logged } = await serve(t)
  for (let i = 0; i < 200; i++) await app.inject({ url: '/', remoteAddress: '172.17.0.1' })
  t.match(logged, [{ level: 40, code: 'IPLOG_SINGLE_PRIVATE_ADDRESS', msg: /172\.17\.0\.1.*X-Forwarded-For.*TRUST_PROXY/ }])
  t.equal(logged.length, 1)
  const cut = await serve(t, undefined, { anonymization: 'truncate' })
  for (let i = 0; i < 200; i++) await cut.app.inject({ url: '/', remoteAddress: '172.17.0.1' })
  t.match(cut.logged, [{ msg: /all came from 172\.17\.0\.0,/ }], 'an address that may not be stored in full is not logged in full')
})

t.test('addressCheck: false', async t => {
  for (const trustProxy of [undefined, true, 1]) {
    const { app, logged, seen } = await serve(t, trustProxy, { addressCheck: false })
    await seen('192.0.2.7')
    t.strictSame([logged, app.ipTracking.check()], [[], []])
  }
  await t.rejects(async () => { await serve(t, undefined, { addressCheck: 'off' }) }, { code: 'DOORMAN_OPTION_INVALID', message: /"ipTracking\.addressCheck" must be true or false; got "off"/ })
})
