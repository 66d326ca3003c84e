/** What IP tracking does beside its one row per request: addresses, ignore rules, blocks, durability, reports, wiring. */
import Fastify, { type FastifyInstance } from 'fastify'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { createRowQueue } from '../../lib/row-queue.js'
import ipTracking, { frameworkErrors } from '../../plugins/ip-tracking.js'
import type { LogRow } from '../../storage/storage.js'
import { fakeDatabase, type FakeOptions } from '../helpers/fake-database.js'
import { connect } from '../helpers/raw-http.js'

interface Setup { server?: object, options?: object, fake?: FakeOptions, routes?: (app: FastifyInstance) => unknown }

async function build (t: Test, { server = {}, options = {}, fake = {}, routes }: Setup = {}) {
  const database = fakeDatabase(fake)
  const logged: { msg: string, level: number }[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { logged.push(JSON.parse(line)) } } }, ...server }) as unknown as FastifyInstance
  // The queue's timers keep nothing alive, and injected requests have no sockets that would.
  const alive = setInterval(() => {}, 1000)
  t.teardown(async () => {
    await app.close()
    clearInterval(alive)
  })
  await app.register(database.plugin)
  await app.register(ipTracking, options)
  app.get('/', async request => ({ address: request.clientAddress }))
  await routes?.(app)
  await app.ready()
  return { app, database, logged }
}

const tick = () => new Promise(resolve => setImmediate(resolve))

// ---------------------------------------------------------------- addresses

t.test('the address of the connection', async t => {
  const { app, database } = await build(t)
  const seen: unknown[] = []
  for (const remoteAddress of ['192.0.2.7', '::ffff:192.0.2.7', 'fe80::1%eth0', '2001:DB8::7', 'no address']) seen.push((await app.inject({ url: '/', remoteAddress })).json().address)
  t.strictSame(seen, ['192.0.2.7', '192.0.2.7', 'fe80::1', '2001:db8::7', null])
  t.match((await database.ipRows()).map(row => [row.ip, row.ipSource, row.peerIp, row.peerPort, row.trustedHops]), [
    ['192.0.2.7', 'socket', null, null, 0], ['192.0.2.7', 'socket', null, null, 0], ['fe80::1', 'socket', null, null, 0], ['2001:db8::7', 'socket', null, null, 0], [null, 'none', null, null, 0]
  ])
})

t.test('the address a trusted proxy tells, with the proxy beside it', async t => {
  const { app, database } = await build(t, { server: { trustProxy: '10.0.0.0/8' } })
  const ask = async (forwarded: string | undefined, remoteAddress = '10.0.0.1') =>
    (await app.inject({ url: '/', remoteAddress, headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded } })).json().address
  t.equal(await ask('[2001:DB8::7]:443'), '2001:db8::7')
  t.equal(await ask('198.51.100.1, 192.0.2.7:1234'), '192.0.2.7')
  t.equal(await ask('unknown'), null)
  t.equal(await ask(undefined), '10.0.0.1')
  t.equal(await ask('192.0.2.9', '198.51.100.2'), '198.51.100.2', 'from anybody else the header counts for nothing')
  t.equal(await ask('::ffff:10.0.0.1'), '10.0.0.1')
  t.equal(await ask('192.0.2.7', '::ffff:10.0.0.1'), '192.0.2.7')
  t.match((await database.ipRows()).map(row => [row.ip, row.ipSource, row.peerIp, row.trustedHops]), [
    ['2001:db8::7', 'forwarded', '10.0.0.1', 1],
    ['192.0.2.7', 'forwarded', '10.0.0.1', 1],
    [null, 'rejected', '10.0.0.1', 1],
    ['10.0.0.1', 'socket', null, 0],
    ['198.51.100.2', 'socket', null, 0],
    ['10.0.0.1', 'forwarded', null, 1],
    ['192.0.2.7', 'forwarded', '10.0.0.1', 1]
  ])
})

t.test('a unix socket has no address, unless the proxy in front tells one', async t => {
  const { app, database } = await build(t)
  // The test directory's path is longer than the name of a socket may be.
  const folder = mkdtempSync(join(tmpdir(), 'doorman-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const path = join(folder, 's')
  await app.listen({ path })
  await new Promise<void>((resolve, reject) => http.get({ socketPath: path, path: '/' }, res => res.resume().on('end', resolve)).on('error', reject))
  t.match(await database.ipRows(), [{ ip: null, ipSource: 'none', peerIp: null, peerPort: null }])

  const behind = await build(t, { server: { trustProxy: true } })
  await behind.app.listen({ path: `${path}2` })
  await new Promise<void>((resolve, reject) => http.get({ socketPath: `${path}2`, path: '/', headers: { 'x-forwarded-for': '192.0.2.7' } }, res => res.resume().on('end', resolve)).on('error', reject))
  t.match(await behind.database.ipRows(), [{ ip: '192.0.2.7', ipSource: 'forwarded', peerIp: null, trustedHops: 1 }])
})

t.test('anonymisation applies to what is stored, not to what the host sees', async t => {
  const trust = { trustProxy: '10.0.0.0/8' }
  const ask = (app: FastifyInstance) => app.inject({ url: '/', remoteAddress: '10.1.2.3', headers: { 'x-forwarded-for': '192.0.2.77' } })
  const cut = await build(t, { server: trust, options: { anonymization: 'truncate' } })
  t.equal((await ask(cut.app)).json().address, '192.0.2.77')
  t.match(await cut.database.ipRows(), [{ ip: '192.0.2.0', peerIp: '10.1.2.0', peerPort: null }])
  t.equal(cut.app.ipTracking.anonymize('2001:db8:1:2::3'), '2001:db8:1::')

  const hashed = await build(t, { server: trust, options: { anonymization: 'hash' } })
  await ask(hashed.app)
  await ask(hashed.app)
  const [first, second] = await hashed.database.ipRows()
  t.match(first?.ip, /^h_[\w-]{16}$/)
  t.match(first?.peerIp, /^h_[\w-]{16}$/)
  t.equal(first?.ip, second?.ip)
  t.notMatch(JSON.stringify(hashed.database.rows), /192\.0\.2|10\.1\.2/)
})

t.test('what a client sends is bounded and cleaned', async t => {
  const { app, database } = await build(t, { options: { userAgentLimit: 10 } })
  await app.inject({ url: `/${'x'.repeat(2000)}?secret`, headers: { 'user-agent': 'a\tb\u0085😀'.repeat(20), referer: 'https://example.com/secret', authorization: 'Bearer secret', cookie: 'secret=1' } })
  const [row] = await database.ipRows()
  t.equal(row?.path, '/' + 'x'.repeat(999))
  t.equal(row?.userAgent, 'ab😀ab😀ab😀a')
  t.equal(row?.referer, 'https://example.com')
  t.notMatch(JSON.stringify(row), /secret/)
})

t.test('the path that was asked for, where the server rewrites URLs', async t => {
  const { app, database } = await build(t, { server: { rewriteUrl: () => '/' } })
  t.equal((await app.inject('/old?x')).statusCode, 200)
  t.match(await database.ipRows(), [{ path: '/old', route: '/' }])
})

t.test('a request routed twice is one request', async t => {
  const { app, database } = await build(t, { routes: app => app.get('/again', (request, reply) => { reply.hijack(); request.raw.url = '/'; app.routing(request.raw, reply.raw) }) })
  t.equal((await app.inject('/again')).statusCode, 200)
  t.match(await database.ipRows(), [{ route: '/again', status: 200, outcome: 'replied' }])
})

// ---------------------------------------------------------------- ignore rules

t.test('requests that leave no row', async t => {
  const { app, database } = await build(t, {
    server: { frameworkErrors },
    options: { ignore: { paths: ['/health', '/assets/*', '/%zz'], addresses: ['10.0.0.0/8', '2001:db8::7'] } },
    routes (app) {
      app.get('/untracked', { config: { ipTracking: false } }, async request => request.clientAddress)
    }
  })
  for (const url of ['/health', '/health?x', '/assets/', '/assets/app.js', '/untracked', '/%zz']) await app.inject(url)
  for (const remoteAddress of ['10.1.2.3', '2001:DB8::7']) await app.inject({ url: '/', remoteAddress })
  t.equal((await app.inject('/untracked')).body, '127.0.0.1', 'the address is there all the same')
  t.strictSame(await database.ipRows(), [])
  for (const url of ['/healthy', '/', '/assets', '/%yy']) await app.inject(url)
  await app.inject({ url: '/', remoteAddress: '2001:db8::8' })
  await app.inject({ url: '/', remoteAddress: 'no address' })
  t.equal((await database.ipRows()).length, 6)
  t.match(app.ipTracking.stats(), { open: 0, ignored: 9, outcomes: { replied: 5, refused: 1 } })
})

t.test('ignore rules for addresses alone, for paths alone', async t => {
  const byAddress = await build(t, { options: { ignore: { addresses: ['10.0.0.0/8'] } } })
  for (const remoteAddress of ['10.1.2.3', '192.0.2.7']) await byAddress.app.inject({ url: '/', remoteAddress })
  t.match((await byAddress.database.ipRows()).map(row => row.ip), ['192.0.2.7'])
  const byPath = await build(t, { options: { ignore: { paths: ['/'] } } })
  for (const url of ['/', '/other']) await byPath.app.inject(url)
  t.match((await byPath.database.ipRows()).map(row => row.path), ['/other'])
})

t.test('a body that breaks in a request without a row leaves none', async t => {
  const { app, database } = await build(t, { server: { forceCloseConnections: true }, options: { ignore: { paths: ['/upload'] } }, routes: app => app.post('/upload', async () => 'ok') })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect((app.addresses()[0] as { port: number }).port)
  client.write('POST /upload HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n')
  t.match(await client.closed(), /400/)
  t.strictSame(await database.ipRows(), [])
})

// ---------------------------------------------------------------- blocks

t.test('blocked addresses are refused', async t => {
  const { app, database } = await build(t, {
    options: { ignore: { paths: ['/ignored'] } },
    routes: app => app.get('/ignored', async () => 'ok')
  })
  const ask = async (remoteAddress: string, url = '/') => (await app.inject({ url, remoteAddress })).statusCode
  t.equal(await ask('192.0.2.7'), 200)
  const block = await app.ipTracking.blocks.add({ cidr: '192.0.2.0/24', reason: 'probing' })
  const reply = await app.inject({ url: '/?x', remoteAddress: '192.0.2.7' })
  t.match(reply.json(), { statusCode: 403, code: 'DOORMAN_ADDRESS_BLOCKED' })
  t.notMatch(reply.body, /probing/)
  t.equal(await ask('192.0.3.7'), 200)
  t.equal(await ask('no address'), 200)
  t.equal(await ask('192.0.2.7', '/ignored'), 403, 'whether there is a row or not')
  t.strictSame(await app.ipTracking.blocks.list(), [block])
  t.equal(await app.ipTracking.blocks.remove(block.id), true)
  t.equal(await ask('192.0.2.7'), 200)
  t.match((await database.ipRows()).map(row => [row.status, row.outcome]), [[200, 'replied'], [403, 'blocked'], [200, 'replied'], [200, 'replied'], [200, 'replied']])
})

t.test('blocks that are stored already count from the start; those of other processes within a second', async t => {
  let now = 0
  const { app, database } = await build(t, { fake: { clock: () => now } })
  const ask = async () => (await app.inject({ url: '/', remoteAddress: '192.0.2.7' })).statusCode
  t.equal(await ask(), 200)
  database.blocks.push({ id: 'other', cidr: '192.0.2.7/32', until: 5000, reason: null, createdAt: 0 })
  database.counter++
  now = 1000
  t.equal(await ask(), 200, 'this request prompts the look')
  await tick()
  t.equal(await ask(), 403)
  now = 5000
  t.equal(await ask(), 200, 'over')

  const other = fakeDatabase()
  other.blocks.push({ id: 'stored', cidr: '192.0.2.7/32', until: null, reason: null, createdAt: 0 })
  const second = Fastify()
  t.teardown(() => second.close())
  await second.register(other.plugin)
  await second.register(ipTracking)
  t.equal((await second.inject({ url: '/', remoteAddress: '192.0.2.7' })).statusCode, 403)
})

t.test('blocking can be left to others', async t => {
  const { app } = await build(t, { options: { blocking: false } })
  await app.ipTracking.blocks.add({ cidr: '192.0.2.7' })
  t.equal((await app.inject({ url: '/', remoteAddress: '192.0.2.7' })).statusCode, 200)
})

t.test('blocks that cannot be read again stay in force, with a warning', async t => {
  let now = 0
  let fail = false
  const { app, logged } = await build(t, { fake: { clock: () => now, storage: { changeCounter: () => { if (fail) throw new Error('locked'); return 0 } } } })
  await app.ipTracking.blocks.add({ cidr: '192.0.2.7' })
  fail = true
  now = 2000
  t.equal((await app.inject({ url: '/', remoteAddress: '192.0.2.7' })).statusCode, 403)
  await tick()
  t.match(logged, [{ level: 40, msg: /stay in force/ }])
})

t.test('storage that cannot be read at the start stops the start', async t => {
  const database = fakeDatabase({ storage: { listBlocks: async () => { throw new Error('unreadable') } } })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(database.plugin)
  await t.rejects(async () => await app.register(ipTracking), /unreadable/)
})

// ---------------------------------------------------------------- durability: queued

/** A store that commits when told to. */
function gate () {
  const state: { release: () => void, batches: number, fail: Error | null } = { release: () => {}, batches: 0, fail: null }
  const open = new Promise<void>(resolve => { state.release = resolve })
  return { state, commit: async () => { state.batches++; await open; if (state.fail !== null) throw state.fail } }
}

t.test('queued: the reply does not wait for the store', async t => {
  const { state, commit } = gate()
  const { app, database } = await build(t, { fake: { commit } })
  t.equal((await app.inject('/')).statusCode, 200)
  t.match(database.log.stats(), { pushed: 1, committed: 0 })
  state.release()
})

t.test('queued, and full: a request waits for room, then goes on; its row is stored if there is room by then', async t => {
  const { app, database } = await build(t, { fake: { limit: 1, wait: 20 } })
  t.equal(database.log.reserve(), true)
  t.equal((await app.inject('/')).statusCode, 200)
  t.strictSame(database.log.stats().dropped, { 'queue-full': 1 })
  const waiting = app.inject('/')
  await tick()
  database.log.release()
  t.equal((await waiting).statusCode, 200)
  t.equal((await database.ipRows()).length, 1)
  t.strictSame(database.log.stats().dropped, { 'queue-full': 1 }, 'counted once')
  t.equal(database.log.stats().reserved, 0)
})

t.test('queued, and full: a client that leaves while it waits', async t => {
  for (const freed of [true, false]) {
    const { app, database } = await build(t, { server: { forceCloseConnections: true }, fake: { limit: 1, wait: 50 } })
    await app.listen({ port: 0, host: '127.0.0.1' })
    t.equal(database.log.reserve(), true)
    const client = await connect((app.addresses()[0] as { port: number }).port)
    const arrived = new Promise(resolve => app.server.once('request', resolve))
    client.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n')
    await arrived
    client.socket.destroy()
    while (app.ipTracking.stats().open > 0) await tick()
    if (freed) {
      database.log.release()
      t.match(await database.ipRows(), [{ route: '/', status: 0, outcome: 'aborted' }])
      t.strictSame(database.log.stats().dropped, {})
    } else {
      await new Promise(resolve => setTimeout(resolve, 80))
      t.strictSame(database.log.stats().dropped, { 'queue-full': 1 })
    }
  }
})

t.test('a stream that stays does not keep a place', async t => {
  let now = 0
  const { app, database } = await build(t, { fake: { clock: () => now }, routes: app => app.get('/stream', (_request, reply) => reply.send(source)) })
  const source = new PassThrough()
  const stream = app.inject('/stream')
  await tick()
  t.equal(database.log.stats().reserved, 1)
  now = 9999
  await app.inject('/')
  t.equal(database.log.stats().reserved, 1)
  now = 12_000
  await app.inject('/')
  t.equal(database.log.stats().reserved, 0)
  source.end('done')
  t.equal((await stream).body, 'done')
  t.match(await database.ipRows(), [{ route: '/' }, { route: '/' }, { route: '/stream', status: 200, at: 0 }])
})

t.test('a fault in writing a row never reaches the request', async t => {
  const { app, database, logged } = await build(t)
  const broken = new Error('row')
  database.log.push = () => { throw broken }
  t.equal((await app.inject('/')).statusCode, 200)
  await tick()
  t.match(logged, [{ level: 50, msg: 'what follows a request failed' }])
})

t.test('a route whose path says too much has its pattern stored', async t => {
  const { app, database } = await build(t, { routes: app => app.get('/reset/:code', { config: { ipTracking: { path: 'route' } } }, () => 'ok') })
  await app.inject('/reset/4711?user=anna')
  await app.inject({ url: '/reset/4711', method: 'POST' })
  t.match(await database.ipRows(), [{ path: '/reset/:code', route: '/reset/:code' }, { path: '/reset/4711', route: null }])
})

t.test('who asks to be told of the end of requests may throw', async t => {
  const { app, database, logged } = await build(t)
  const told: [number, number][] = []
  app.ipTracking.onRequestEnd(() => { throw new Error('listener') })
  app.ipTracking.onRequestEnd((status, duration) => { told.push([status, duration]) })
  t.equal((await app.inject('/')).statusCode, 200)
  await tick()
  t.match(told, [[200, Number]])
  t.match(logged, [{ level: 50, msg: 'what follows a request failed', err: { message: 'listener' } }])
  t.match(await database.ipRows(), [{ route: '/', status: 200 }])
})

// ---------------------------------------------------------------- durability: committed

t.test('committed: the reply leaves after the commit of its row', async t => {
  const { state, commit } = gate()
  const { app, database } = await build(t, { fake: { commit }, options: { durability: 'committed' } })
  let replied = false
  const reply = app.inject('/').then(response => { replied = true; return response })
  while (state.batches === 0) await tick()
  await tick()
  t.equal(replied, false)
  state.release()
  t.equal((await reply).statusCode, 200)
  t.match(database.log.stats(), { pushed: 1, committed: 1, reserved: 0 })
  t.match(app.ipTracking.stats(), { open: 0, outcomes: { replied: 1 } })
})

t.test('committed: one row with the status of the reply, in every case', async t => {
  const { app, database } = await build(t, {
    server: { frameworkErrors, handlerTimeout: 30 },
    options: { durability: 'committed' },
    routes (app) {
      app.get('/throws', async () => { throw new Error('broken') })
      app.get('/fetch', async () => new Response('made', { status: 418 }))
      app.get('/slow', () => new Promise<never>(() => {}))
      app.get('/raw', (_request, reply) => { reply.hijack(); reply.raw.end('raw') })
      app.get('/queued', { config: { ipTracking: { durability: 'queued' } } }, async () => 'ok')
      app.get('/default', { config: { ipTracking: {} } }, async () => 'ok')
    }
  })
  await app.ipTracking.blocks.add({ cidr: '192.0.2.7' })
  for (const url of ['/', '/nowhere', '/throws', '/fetch', '/slow', '/raw', '/queued', '/default', '/%zz']) await app.inject(url)
  await app.inject({ url: '/', remoteAddress: '192.0.2.7' })
  t.match((await database.ipRows()).map(row => [row.path, row.status, row.outcome]), [
    ['/', 200, 'replied'], ['/nowhere', 404, 'replied'], ['/throws', 500, 'error'], ['/fetch', 418, 'replied'], ['/slow', 503, 'timeout'], ['/raw', 200, 'replied'],
    ['/queued', 200, 'replied'], ['/default', 200, 'replied'], ['/%zz', 400, 'refused'], ['/', 403, 'blocked']
  ])
})

t.test('committed: a payload that cannot be sent is an error, not the end of the process', async t => {
  const { app } = await build(t, { options: { durability: 'committed' }, routes: app => app.get('/bad', (_request, reply) => { reply.type('text/plain').send({ not: 'text' }) }) })
  t.match((await app.inject('/bad')).json(), { statusCode: 500, code: 'FST_ERR_REP_INVALID_PAYLOAD_TYPE' })
})

t.test('committed on one route only', async t => {
  const { state, commit } = gate()
  const { app } = await build(t, { fake: { commit }, routes: app => app.get('/exact', { config: { ipTracking: { durability: 'committed' } } }, async () => 'ok') })
  t.equal((await app.inject('/')).statusCode, 200)
  let replied = false
  const reply = app.inject('/exact').then(response => { replied = true; return response })
  await new Promise(resolve => setTimeout(resolve, 10))
  t.equal(replied, false)
  state.release()
  t.equal((await reply).statusCode, 200)
})

t.test('committed, and no room in time: 503 before anything is done', async t => {
  let handled = 0
  const { app, database } = await build(t, { server: { frameworkErrors }, fake: { limit: 1, wait: 10 }, options: { durability: 'committed' }, routes: app => app.get('/count', async () => ++handled) })
  database.log.reserve()
  const reply = await app.inject('/count')
  t.match(reply.json(), { statusCode: 503, code: 'DOORMAN_ROW_NOT_STORED' })
  t.equal(reply.headers['retry-after'], '1')
  t.equal(handled, 0)
  t.strictSame(database.log.stats().dropped, { 'queue-full': 1 })
  const refused = await app.inject('/%zz')
  t.match(refused.json(), { statusCode: 503, code: 'DOORMAN_ROW_NOT_STORED' })
  t.equal(refused.headers['retry-after'], '1')
  database.log.release()
})

t.test('committed, and the store does not take the row: 503, and the payload is let go', async t => {
  const source = new PassThrough()
  const queue = createRowQueue<LogRow>({ name: 'log', limit: 10, batchSize: 10, linger: 0, wait: 10, clock: Date.now, random: Math.random, commit: () => new Promise(() => {}) })
  const { app, database } = await build(t, { options: { durability: 'committed' }, routes: app => app.get('/stream', async () => source) })
  for (const name of ['reserve', 'pushCommitted', 'offer'] as const) Object.assign(database.log, { [name]: queue[name] })
  const waiting = Promise.all(['/', '/stream', '/nowhere'].map(url => app.inject(url)))
  while (queue.stats().pushed < 3) await tick()
  await queue.close(0)
  for (const reply of await waiting) {
    t.equal(reply.statusCode, 503)
    t.match(reply.json(), { statusCode: 503, code: 'DOORMAN_ROW_NOT_STORED' })
    t.equal(reply.headers['retry-after'], '1')
  }
  t.equal(source.destroyed, true)
  t.match(app.ipTracking.stats(), { open: 0, outcomes: { error: 3, replied: 0 } })
})

t.test('committed, and the client leaves while its row is being stored', async t => {
  const { state, commit } = gate()
  const { app, database } = await build(t, { server: { forceCloseConnections: true }, fake: { commit }, options: { durability: 'committed' } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect((app.addresses()[0] as { port: number }).port)
  client.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n')
  while (state.batches === 0) await tick()
  const gone = new Promise(resolve => app.server.getConnections(() => resolve(undefined)))
  client.socket.destroy()
  await gone
  state.release()
  await app.close()
  t.match(database.log.stats(), { pushed: 1, committed: 1 })
})

t.test('committed, the client leaves, and the row cannot be stored: the next one says what became of it', async t => {
  const queue = createRowQueue<LogRow>({ name: 'log', limit: 10, batchSize: 10, linger: 0, wait: 10, clock: Date.now, random: Math.random, commit: () => new Promise(() => {}) })
  const { app, database } = await build(t, { server: { forceCloseConnections: true }, options: { durability: 'committed' } })
  Object.assign(database.log, { reserve: queue.reserve, pushCommitted: queue.pushCommitted })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect((app.addresses()[0] as { port: number }).port)
  const closed = new Promise(resolve => app.server.once('request', raw => raw.socket.once('close', resolve)))
  client.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n')
  while (queue.stats().inFlight === 0) await tick()
  client.socket.destroy()
  await closed
  await queue.close(0)
  const rows = await database.ipRows()
  t.match(rows, [{ route: '/', status: 0, outcome: 'aborted' }])
  t.equal(app.ipTracking.stats().open, 0)
})

t.test('committed: a place that a long request gave back is taken again', async t => {
  let now = 0
  const { app, database } = await build(t, {
    fake: { clock: () => now, limit: 1, wait: 5 },
    options: { durability: 'committed' },
    routes: app => app.get('/slow', async () => { await gone; return 'ok' })
  })
  let release = () => {}
  const gone = new Promise<void>(resolve => { release = resolve })
  const slow = app.inject('/slow')
  await tick()
  now = 20_000
  t.equal((await app.inject('/')).statusCode, 200, 'the place is free for others')
  t.equal(database.log.reserve(), true)
  release()
  t.equal((await slow).statusCode, 503, 'and may be missing then')
  database.log.release()
})

// ---------------------------------------------------------------- the service

t.test('reading goes to storage, with the address in its stored form', async t => {
  const { app, database } = await build(t, { options: { anonymization: 'truncate' } })
  await app.ipTracking.list({ ip: '::ffff:192.0.2.7', status: 404 }, { limit: 5 })
  await app.ipTracking.top('path', {}, 3)
  await app.ipTracking.series({ ip: '2001:DB8:1:2::7' }, 60_000, 10)
  t.strictSame(database.calls, [
    ['listIpLogs', { ip: '192.0.2.0', status: 404 }, { limit: 5 }],
    ['topIpLogs', 'path', {}, 3],
    ['seriesIpLogs', { ip: '2001:db8:1::' }, 60_000, 10]
  ])
  await t.rejects(app.ipTracking.list({ ip: 'localhost' }, { limit: 5 }), { code: 'DOORMAN_VALUE_INVALID', message: /"ip" must be an IPv4 or IPv6 address; got "localhost"/ })
  await app.ipTracking.list({ ip: 'h_0123456789abcdef' }, { limit: 5 })
  t.strictSame(database.calls.at(-1), ['listIpLogs', { ip: 'h_0123456789abcdef' }, { limit: 5 }])
})

t.test('rows that other services report', async t => {
  const { app, database } = await build(t, { fake: { clock: () => 1_000_000 }, options: { anonymization: 'truncate' } })
  t.strictSame(await app.ipTracking.report([
    { requestId: 'a1', ip: '[2001:DB8:1:2::7]:80', method: 'GET', path: '/x?token=secret', status: 200, at: 5, durationMs: 1.5, route: '/:x', userAgent: 'curl\x07', referer: 'https://example.com/page', sessionId: 's1', userId: 'ann' },
    { method: 'POST', path: '/y', status: 0, ip: null },
    { method: 'POST', path: '/z', status: 500 }
  ]), { accepted: 3, committed: false })
  const [first, second] = await database.ipRows()
  t.strictSame(first, {
    kind: 'ip',
    at: 5,
    ip: '2001:db8:1::',
    ipSource: 'reported',
    peerIp: null,
    peerPort: null,
    trustedHops: 0,
    method: 'GET',
    path: '/x',
    route: '/:x',
    status: 200,
    durationUs: 1500,
    userAgent: 'curl',
    referer: 'https://example.com',
    sessionId: 's1',
    userId: 'ann',
    requestId: 'a1',
    outcome: 'reported',
    idempotencyKey: 'a1'
  })
  t.strictSame(second, {
    kind: 'ip',
    at: 1_000_000,
    ip: null,
    ipSource: 'reported',
    peerIp: null,
    peerPort: null,
    trustedHops: 0,
    method: 'POST',
    path: '/y',
    route: null,
    status: 0,
    durationUs: 0,
    userAgent: null,
    referer: null,
    sessionId: null,
    userId: null,
    requestId: null,
    outcome: 'reported'
  })
  t.strictSame(await app.ipTracking.report([]), { accepted: 0, committed: false })
  t.match(app.ipTracking.stats(), { outcomes: { reported: 3 } })
})

t.test('reports that make no sense: none of them is taken', async t => {
  const { app, database } = await build(t, { fake: { clock: () => 1_000_000 } })
  const good = { method: 'GET', path: '/', status: 200 }
  const bad: [unknown, RegExp][] = [
    [null, /"items\[1\]" must be an object; got null/],
    [7, /"items\[1\]"/],
    [{ ...good, method: '' }, /"items\[1\]\.method"/],
    [{ ...good, path: undefined }, /"items\[1\]\.path"/],
    [{ ...good, status: '200' }, /"items\[1\]\.status" must be an integer from 0 to 999; got "200"/],
    [{ ...good, status: 1000 }, /status/],
    [{ ...good, ip: 'localhost' }, /"items\[1\]\.ip" must be an IPv4 or IPv6 address; got "localhost"/],
    [{ ...good, ip: 7 }, /ip/],
    [{ ...good, at: 1_300_001 }, /"items\[1\]\.at".*at most 5 minutes ahead/],
    [{ ...good, at: -1 }, /at/],
    [{ ...good, at: 1.5 }, /at/],
    [{ ...good, requestId: '' }, /requestId/],
    [{ ...good, requestId: 'x'.repeat(201) }, /requestId/],
    [{ ...good, requestId: 'a\nb' }, /requestId/],
    [{ ...good, sessionId: 7 }, /sessionId/],
    [{ ...good, userId: '' }, /"items\[1\]\.userId"/],
    [{ ...good, route: 7 }, /route/],
    [{ ...good, userAgent: 7 }, /userAgent/],
    [{ ...good, referer: 7 }, /referer/],
    [{ ...good, durationMs: -1 }, /durationMs/],
    [{ ...good, durationMs: NaN }, /durationMs/]
  ]
  for (const [item, message] of bad) {
    await t.rejects(app.ipTracking.report([good, item as typeof good]), { code: 'DOORMAN_VALUE_INVALID', message }, String(message))
  }
  await t.rejects(app.ipTracking.report('x' as unknown as []), { code: 'DOORMAN_VALUE_INVALID', message: /"items" must be a list/ })
  t.strictSame(await database.ipRows(), [])
  t.equal((await app.ipTracking.report([{ ...good, at: 1_300_000, ip: '127.0.0.1' }])).accepted, 1)
})

t.test('reports, committed: stored when the promise resolves', async t => {
  const { state, commit } = gate()
  const { app, database } = await build(t, { fake: { commit }, options: { durability: 'committed' } })
  const reported = app.ipTracking.report([{ method: 'GET', path: '/', status: 200 }, { method: 'GET', path: '/', status: 200 }])
  while (state.batches === 0) await tick()
  state.release()
  t.strictSame(await reported, { accepted: 2, committed: true })
  t.equal(database.log.stats().committed, 2)
})

t.test('reports that find no room', async t => {
  const item = { method: 'GET', path: '/', status: 200 }
  const { commit } = gate()
  const queued = await build(t, { fake: { limit: 2, wait: 5, commit } })
  t.strictSame(await queued.app.ipTracking.report([item, item, item]), { accepted: 2, committed: false })
  t.strictSame(queued.database.log.stats().dropped, { 'queue-full': 1 })

  const committed = await build(t, { fake: { limit: 1, wait: 5 }, options: { durability: 'committed' } })
  committed.database.log.reserve()
  await t.rejects(committed.app.ipTracking.report([item]), { code: 'DOORMAN_ROW_NOT_STORED' })
  committed.database.log.release()
})

// ---------------------------------------------------------------- wiring

t.test('wrong options stop the start', async t => {
  const start = async (options: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(fakeDatabase().plugin)
    await app.register(ipTracking, options)
  }
  const bad: [object, string, RegExp][] = [
    [{ durabilty: 'queued' }, 'DOORMAN_OPTION_UNKNOWN', /"ipTracking.durabilty"; did you mean "durability"/],
    [{ durability: 'sometimes' }, 'DOORMAN_OPTION_INVALID', /"ipTracking.durability" must be one of queued, committed; got "sometimes"/],
    [{ anonymization: true }, 'DOORMAN_OPTION_INVALID', /none, truncate, hash/],
    [{ ignore: ['/health'] }, 'DOORMAN_OPTION_INVALID', /"ipTracking.ignore" must be an object/],
    [{ ignore: { path: [] } }, 'DOORMAN_OPTION_UNKNOWN', /"ipTracking.ignore.path"; did you mean "paths"/],
    [{ ignore: { paths: ['health'] } }, 'DOORMAN_OPTION_INVALID', /"ipTracking.ignore.paths"/],
    [{ ignore: { paths: ['/a*b'] } }, 'DOORMAN_OPTION_INVALID', /"ipTracking.ignore.paths"/],
    [{ ignore: { addresses: ['10.0.0.0/33'] } }, 'DOORMAN_OPTION_INVALID', /"ipTracking.ignore.addresses".*got "10.0.0.0\/33"/],
    [{ blocking: 'yes' }, 'DOORMAN_OPTION_INVALID', /"ipTracking.blocking"/],
    [{ userAgentLimit: 0 }, 'DOORMAN_OPTION_INVALID', /"ipTracking.userAgentLimit"/]
  ]
  for (const [options, code, message] of bad) await t.rejects(start(options), { code, message }, String(message))
})

t.test('wrong options of a route stop the start', async t => {
  const { app } = await build(t, {
    routes: app => {
      for (const [config, code, message] of [
        [true, 'DOORMAN_OPTION_INVALID', /"config.ipTracking of GET \/x" must be false or an object; got true/],
        [{ durability: 'never' }, 'DOORMAN_OPTION_INVALID', /"config.ipTracking of GET \/x.durability"/],
        [{ path: 'none' }, 'DOORMAN_OPTION_INVALID', /"config.ipTracking of GET \/x.path"/],
        [{ durable: 'queued' }, 'DOORMAN_OPTION_UNKNOWN', /durable/]
      ] as const) t.throws(() => app.get('/x', { config: { ipTracking: config as false } }, async () => 'ok'), { code, message }, String(message))
    }
  })
  t.ok(app)
})

t.test('wrong registrations fail at boot', async t => {
  const { app } = await build(t)
  t.ok(app.hasPlugin('doorman-ip-tracking'))
  const twice = Fastify()
  t.teardown(() => twice.close())
  await twice.register(fakeDatabase().plugin)
  await twice.register(ipTracking)
  await t.rejects(async () => await twice.register(ipTracking), { code: 'DOORMAN_ALREADY_REGISTERED' })
  const early = Fastify()
  t.teardown(() => early.close())
  await t.rejects(async () => await early.register(ipTracking), /doorman-database/)
})

t.test('routes registered before, after and in plugins are all tracked', async t => {
  const database = fakeDatabase()
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/before', async () => 'ok')
  app.register(async app => { app.get('/inside', async () => 'ok') })
  app.register(database.plugin)
  app.register(ipTracking)
  app.get('/after', async () => 'ok')
  for (const url of ['/before', '/inside', '/after']) await app.inject(url)
  t.match((await database.ipRows()).map(row => row.route), ['/before', '/inside', '/after'])
})

t.test('in a part of an application, only that part is tracked; two parts have two databases', async t => {
  const [first, second] = [fakeDatabase(), fakeDatabase()]
  const app = Fastify({ forceCloseConnections: true, frameworkErrors })
  t.teardown(() => app.close())
  for (const [prefix, database] of [['/one', first], ['/two', second]] as const) {
    app.register(async app => {
      await app.register(database.plugin)
      await app.register(ipTracking)
      app.get('/', async () => 'ok')
    }, { prefix })
  }
  app.get('/', async () => 'ok')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  for (const path of ['/', '/one/', '/two/', '/two/', '/%zz']) await (await fetch(`http://127.0.0.1:${port}${path}`)).text()
  const client = await connect(port)
  client.write('garbage\r\n\r\n')
  await client.closed()
  const noHost = await connect(port)
  noHost.write('GET /one/ HTTP/1.1\r\n\r\n')
  t.match(await noHost.closed(), /400/)
  t.match((await first.ipRows()).map(row => row.route), ['/one'])
  t.match((await second.ipRows()).map(row => row.route), ['/two', '/two'])
})

t.test('two applications do not know of each other', async t => {
  const [first, second] = [await build(t), await build(t)]
  await first.app.inject('/')
  await second.app.inject('/nowhere')
  t.match(await first.database.ipRows(), [{ path: '/' }])
  t.match(await second.database.ipRows(), [{ path: '/nowhere' }])
})

t.test('frameworkErrors without the plugin sends the usual reply', async t => {
  const app = Fastify({ frameworkErrors })
  t.teardown(() => app.close())
  t.match((await app.inject('/%zz')).json(), { statusCode: 400, code: 'FST_ERR_BAD_URL', error: 'Bad Request' })
})

t.test('frameworkErrors: an error without a status is one of the server', async t => {
  const { app, database } = await build(t, {
    server: {
      frameworkErrors: (error: { statusCode?: number }, request: never, reply: never) => {
        delete error.statusCode
        frameworkErrors(error as never, request, reply)
      }
    }
  })
  t.equal((await app.inject('/%zz')).statusCode, 500)
  t.match(await database.ipRows(), [{ status: 500, outcome: 'refused' }])
})

t.test('after the close no listener of ours is left on the server', async t => {
  const bare = Fastify()
  const { app } = await build(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.ok(app.server.listenerCount('clientError') > bare.server.listenerCount('clientError'))
  await app.close()
  for (const event of ['request', 'clientError', 'connection', 'checkExpectation', 'dropRequest', 'connect', 'upgrade', 'checkContinue']) {
    t.equal(app.server.listenerCount(event), bare.server.listenerCount(event), event)
  }
})
