/** Each way a request can end is a test here: exactly one row, and what it says. Real sockets throughout. */
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import dns from 'node:dns'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { PassThrough, Readable, type Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import ipTracking, { frameworkErrors } from '../../plugins/ip-tracking.js'
import type { IpLogRow } from '../../storage/storage.js'
import { fakeDatabase } from '../helpers/fake-database.js'
import { connect } from '../helpers/raw-http.js'

interface Setup {
  server?: FastifyServerOptions | object
  options?: object
  host?: string
  before?: (app: FastifyInstance) => unknown
  routes?: (app: FastifyInstance) => unknown
}

async function serve (t: Test, { server = {}, options = {}, host = '127.0.0.1', before, routes }: Setup = {}) {
  const database = fakeDatabase()
  const app = Fastify({ forceCloseConnections: true, ...server }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(database.plugin)
  await before?.(app)
  await app.register(ipTracking, options)
  app.get('/', async () => ({ hello: 'world' }))
  app.post('/', async () => ({ hello: 'poster' }))
  await routes?.(app)
  await app.listen({ port: 0, host })
  const { port } = app.server.address() as AddressInfo
  /** Waits until as many rows are there, then a moment longer for one too many. */
  const rows = async (count: number): Promise<IpLogRow[]> => {
    for (let i = 0; i < 500; i++) {
      const rows = await database.ipRows()
      if (rows.length >= count) break
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    await new Promise(resolve => setTimeout(resolve, 5))
    const rows = await database.ipRows()
    t.equal(rows.length, count, `exactly ${count} row${count === 1 ? '' : 's'}`)
    t.equal(database.log.stats().reserved, 0, 'no place is held any longer')
    return rows
  }
  const open = async (atPort = port, atHost = '127.0.0.1') => {
    const client = await connect(atPort, atHost)
    t.teardown(() => client.socket.destroy())
    return client
  }
  return { app, database, port, rows, connect: open }
}

const GET = 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'
/** A socket that was taken over is its owner's to read and to end. */
const attend = (socket: Duplex) => socket.on('error', () => {}).on('end', () => socket.end()).resume()
const never = () => new Promise<never>(() => {})

t.test('a reply', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  const before = Date.now()
  client.write('GET /?token=secret HTTP/1.1\r\nHost: h\r\nUser-Agent: test/1.0\r\nReferer: https://example.com/page?q=1\r\n\r\n')
  await client.until(/world/)
  const [row] = await rows(1)
  t.match(row, {
    kind: 'ip',
    ip: '127.0.0.1',
    ipSource: 'socket',
    peerIp: null,
    peerPort: client.socket.localPort,
    method: 'GET',
    path: '/',
    route: '/',
    status: 200,
    userAgent: 'test/1.0',
    referer: 'https://example.com',
    sessionId: null,
    userId: null,
    requestId: 'req-1',
    outcome: 'replied'
  })
  t.ok(row!.at >= before && row!.at <= Date.now())
  t.ok(row!.durationUs > 0 && row!.durationUs < 5_000_000)
})

t.test('several requests on one connection', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  for (let i = 1; i <= 3; i++) {
    client.write(GET)
    await client.until(new RegExp(`(?:[^]*?world){${i}}`))
  }
  t.strictSame((await rows(3)).map(row => [row.outcome, row.status]), [['replied', 200], ['replied', 200], ['replied', 200]])
})

t.test('pipelined requests', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write(GET.repeat(20))
  await client.until(/(?:[^]*?world){20}/)
  t.ok((await rows(20)).every(row => row.outcome === 'replied'))
})

t.test('pipelined requests whose client leaves while the first is being served', async t => {
  const { connect, rows, app } = await serve(t, { routes: app => app.get('/slow', never) })
  const client = await connect()
  const arrived = new Promise<void>(resolve => {
    let seen = 0
    app.server.on('request', () => { if (++seen === 3) resolve() })
  })
  client.write(`GET /slow HTTP/1.1\r\nHost: h\r\n\r\n${GET}POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`)
  await arrived
  client.socket.destroy()
  const all = await rows(3)
  t.strictSame(all.map(row => [row.route, row.outcome, row.status]).sort(), [['/', 'aborted', 0], ['/', 'aborted', 0], ['/slow', 'aborted', 0]])
})

t.test('an error', async t => {
  const { connect, rows } = await serve(t, { routes: app => app.get('/throws', () => { throw new Error('broken') }) })
  const client = await connect()
  client.write('GET /throws HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/broken/)
  t.match(await rows(1), [{ route: '/throws', status: 500, outcome: 'error' }])
})

t.test('404', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('GET /nowhere?x=1 HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/not found/)
  t.match(await rows(1), [{ path: '/nowhere', route: null, status: 404, outcome: 'replied' }])
})

t.test('a body that is no JSON', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{')
  await client.until(/400/)
  t.match(await rows(1), [{ method: 'POST', route: '/', status: 400, outcome: 'replied' }])
})

t.test('targets that are no path, methods that no route has', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/404/)
  client.write('GET http://h/absolute?x=1 HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/(?:404[^]*){2}/)
  client.write('PROPFIND /dav HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/(?:404[^]*){3}/)
  t.match((await rows(3)).map(row => [row.method, row.path, row.status]), [['OPTIONS', '*', 404], ['GET', '/absolute', 404], ['PROPFIND', '/dav', 404]])
})

t.test('PRI, which Node cuts off after handing it over', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('PRI * HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.closed()
  t.match(await rows(1), [{ method: 'PRI', path: '*' }])
})

t.test('the client leaves before there is a reply', async t => {
  const { connect, rows, app } = await serve(t, { routes: app => app.get('/slow', never) })
  const client = await connect()
  const arrived = once(app.server, 'request')
  client.write('GET /slow HTTP/1.1\r\nHost: h\r\n\r\n')
  await arrived
  client.socket.resetAndDestroy()
  t.match(await rows(1), [{ route: '/slow', status: 0, outcome: 'aborted' }])
})

t.test('the client leaves in the middle of a streamed reply', async t => {
  const source = new PassThrough()
  const { connect, rows } = await serve(t, { routes: app => app.get('/stream', (_request, reply) => reply.send(source)) })
  const client = await connect()
  source.write('first part')
  client.write('GET /stream HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/first part/)
  client.socket.destroy()
  t.match(await rows(1), [{ route: '/stream', status: 200, outcome: 'aborted' }])
})

t.test('a streamed reply that ends well', async t => {
  const { connect, rows } = await serve(t, { routes: app => app.get('/stream', async () => Readable.from(['a', 'b', 'the end'])) })
  const client = await connect()
  client.write('GET /stream HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/the end/)
  t.match(await rows(1), [{ route: '/stream', status: 200, outcome: 'replied' }])
})

t.test('a streamed reply whose source fails: the server broke it off', async t => {
  const source = new PassThrough()
  const { connect, rows } = await serve(t, { routes: app => app.get('/stream', (_request, reply) => reply.send(source)) })
  const client = await connect()
  source.write('first part')
  client.write('GET /stream HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/first part/)
  source.destroy(new Error('disk gone'))
  await client.closed()
  t.match(await rows(1), [{ status: 200, outcome: 'error' }])
})

t.test('a response destroyed by the host', async t => {
  const { connect, rows } = await serve(t, { routes: app => app.get('/cut', (_request, reply) => { reply.raw.destroy(new Error('no')) }) })
  const client = await connect()
  client.write('GET /cut HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.closed()
  t.match(await rows(1), [{ route: '/cut', status: 0, outcome: 'error' }])
})

t.test('a handler that takes too long', async t => {
  const { connect, rows } = await serve(t, { server: { handlerTimeout: 20 }, routes: app => app.get('/slow', never) })
  const client = await connect()
  client.write('GET /slow HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/503/)
  t.match(await rows(1), [{ route: '/slow', status: 503, outcome: 'timeout' }])
})

t.test('a handler that takes too long in the middle of its reply', async t => {
  const source = new PassThrough()
  const { connect, rows } = await serve(t, { server: { handlerTimeout: 300 }, routes: app => app.get('/stream', (_request, reply) => reply.send(source)) })
  const client = await connect()
  source.write('first part')
  client.write('GET /stream HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.closed()
  t.match(await rows(1), [{ route: '/stream', status: 200, outcome: 'timeout' }])
})

t.test('a connection that is idle for too long', async t => {
  const { connect, rows } = await serve(t, { server: { connectionTimeout: 400 }, routes: app => app.get('/slow', never) })
  const client = await connect()
  client.write('GET /slow HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.closed()
  t.match(await rows(1), [{ route: '/slow', status: 0, outcome: 'timeout' }])
})

t.test('a request that does not come in time', async t => {
  const { connect, rows } = await serve(t, { server: { requestTimeout: 400, http: { connectionsCheckingInterval: 20, headersTimeout: 400 } } })
  const headers = await connect()
  headers.write('GET /half HTTP/1.1\r\nHost:')
  t.match(await headers.closed(), /408/)
  const body = await connect()
  body.write('POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{')
  t.match(await body.closed(), /408/)
  const silent = await connect()
  await silent.closed()
  t.match(await rows(2), [
    { method: '', path: '', route: null, status: 408, outcome: 'refused', ip: '127.0.0.1', requestId: null },
    { method: 'POST', path: '/', route: '/', status: 408, outcome: 'timeout', requestId: 'req-1' }
  ])
})

t.test('a hijacked reply', async t => {
  const { connect, rows } = await serve(t, {
    routes: app => app.get('/mine', (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(202)
      reply.raw.end('taken over')
    })
  })
  const client = await connect()
  client.write('GET /mine HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/taken over/)
  t.match(await rows(1), [{ route: '/mine', status: 202, outcome: 'replied' }])
})

t.test('an upgrade taken over by a route, such as a web socket', async t => {
  const { connect, rows } = await serve(t, {
    routes: app => app.get('/socket', (request, reply) => {
      reply.hijack()
      request.raw.socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\nhello')
    })
  })
  const client = await connect()
  client.write('GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n')
  await client.until(/hello/)
  client.socket.destroy()
  t.match(await rows(1), [{ route: '/socket', status: 101, outcome: 'replied' }])
})

t.test('an upgrade that nobody takes over is a request like any other', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await client.until(/world/)
  t.match(await rows(1), [{ status: 200, outcome: 'replied' }])
})

t.test('an upgrade that a listener of the host takes over, or refuses, or hands to Fastify', async t => {
  const { connect, rows } = await serve(t, {
    routes (app) {
      app.server.on('upgrade', (raw, socket) => {
        attend(socket)
        if (raw.url === '/no') socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')
        else if (raw.url === '/') {
          const res = new http.ServerResponse(raw)
          res.assignSocket(socket as Socket)
          app.routing(raw, res)
        } else socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\nhello')
      })
    }
  })
  const headers = 'HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: test\r\nUser-Agent: ws\r\n\r\n'
  const taken = await connect()
  taken.write(`GET /ws ${headers}`)
  await taken.until(/hello/)
  const refused = await connect()
  refused.write(`GET /no ${headers}`)
  await refused.until(/403/)
  const routed = await connect()
  routed.write(`GET / ${headers}`)
  await routed.until(/world/)
  t.match(await rows(3), [
    { path: '/ws', route: null, status: 101, outcome: 'replied', userAgent: 'ws' },
    { path: '/no', route: null, status: 0, outcome: 'refused' },
    { path: '/', route: '/', status: 200, outcome: 'replied' }
  ])
})

// ---------------------------------------------------------------- refused before any hook

t.test('a URL that Fastify refuses, with frameworkErrors', async t => {
  const { connect, rows } = await serve(t, { server: { frameworkErrors, trustProxy: '127.0.0.1' } })
  const client = await connect()
  client.write('GET /%zz?token=secret HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 2001:DB8::7\r\nUser-Agent: probe\r\n\r\n')
  const reply = await client.until(/\}$/)
  t.match(reply, /^HTTP\/1\.1 400 Bad Request/)
  t.match(JSON.parse(reply.slice(reply.indexOf('{'))), { statusCode: 400, code: 'FST_ERR_BAD_URL', error: 'Bad Request', message: "'/%zz?token=secret' is not a valid url component" })
  t.match(await rows(1), [{
    ip: '2001:db8::7', ipSource: 'forwarded', peerIp: '127.0.0.1', trustedHops: 1, method: 'GET', path: '/%zz', route: null, status: 400, userAgent: 'probe', requestId: 'req-1', outcome: 'refused'
  }])
})

t.test('a URL that Fastify refuses, without frameworkErrors', async t => {
  const { connect, rows } = await serve(t, { server: { trustProxy: '127.0.0.1', routerOptions: { maxParamLength: 5 } }, routes: app => app.get('/param/:p', async () => 'ok') })
  const client = await connect()
  client.write('GET /%zz HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n')
  await client.until(/FST_ERR_BAD_URL/)
  client.write('GET /param/too-long HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/FST_ERR_MAX_PARAM_LENGTH/)
  t.match(await rows(2), [
    { ip: '192.0.2.9', ipSource: 'forwarded', peerIp: '127.0.0.1', trustedHops: 1, path: '/%zz', status: 400, outcome: 'refused', requestId: null },
    { ip: '127.0.0.1', ipSource: 'socket', path: '/param/too-long', status: 414, outcome: 'refused' }
  ])
})

t.test('what the parser refuses', async t => {
  const { connect, rows } = await serve(t)
  const send = async (text: string, status: RegExp) => {
    const client = await connect()
    client.write(text)
    t.match(await client.closed(), status, 'Fastify still answers')
  }
  await send('NONSENSE /path?x HTTP/1.1\r\nHost: h\r\n\r\n', /^HTTP\/1\.1 400 Bad Request\r\n[^]*Client Error/)
  await send('Get /lower HTTP/1.1\r\n\r\n', /400/)
  await send('\x16\x03\x01\x02\x00\x01\x00', /400/)
  await send('GET / HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n', /400/)
  await send(`GET /big HTTP/1.1\r\nHost: h\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431/)
  const all = await rows(5)
  t.match(all, [
    { method: 'NONSENSE', path: '/path', status: 400 },
    { method: 'Get', path: '/lower', status: 400 },
    { method: '', path: '', status: 400 },
    { method: 'GET', path: '/', status: 400 },
    { status: 431 }
  ])
  for (const row of all) t.match(row, { ip: '127.0.0.1', ipSource: 'socket', route: null, outcome: 'refused', userAgent: null, requestId: null })
})

t.test('half a request, and then nothing more', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.socket.end('GET /half HTTP/1.1\r\nHost: h\r\n')
  await client.closed()
  t.match(await rows(1), [{ status: 400, outcome: 'refused', ip: '127.0.0.1' }])
})

t.test('connections without a request leave nothing', async t => {
  const { connect, rows } = await serve(t)
  const silent = await connect()
  silent.socket.end()
  await silent.closed()
  const reset = await connect()
  reset.socket.resetAndDestroy()
  const used = await connect()
  used.write(GET)
  await used.until(/world/)
  used.socket.resetAndDestroy()
  await rows(1)
})

t.test('a second request that is refused, after one that was served', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write(`${GET}garbage\r\n\r\n`)
  await client.closed()
  t.match((await rows(2)).map(row => row.outcome).sort(), ['refused', 'replied'])
})

t.test('a body that breaks', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\nzz\r\n')
  t.match(await client.closed(), /400/)
  t.match(await rows(1), [{ method: 'POST', route: '/', status: 400, outcome: 'refused' }])
})

t.test('a body that breaks after the reply has begun', async t => {
  const source = new PassThrough()
  const { connect, rows } = await serve(t, { routes: app => app.route({ method: 'GET', url: '/early', handler: (_request, reply) => reply.send(source) }) })
  const client = await connect()
  source.write('first part')
  client.write('GET /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n')
  await client.until(/first part/)
  client.write('zz\r\n')
  await client.closed()
  t.match(await rows(1), [{ route: '/early', status: 200, outcome: 'refused' }])
})

t.test('a body that breaks after the reply', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('PUT /nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n')
  await client.until(/404/)
  client.write('zz\r\n')
  await client.closed()
  t.match(await rows(1), [{ method: 'PUT', status: 404, outcome: 'replied' }])
})

t.test('a client that stops in the middle of a body', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.socket.end('POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{')
  await client.closed()
  t.match(await rows(1), [{ route: '/', status: 400, outcome: 'aborted' }])
})

t.test('a request without Host', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('GET /path HTTP/1.1\r\n\r\n')
  const reply = await client.closed()
  t.match(reply, /^HTTP\/1\.1 400 Bad Request\r\n/)
  t.match(JSON.parse(reply.slice(reply.indexOf('{'))), { statusCode: 400, code: 'DOORMAN_REQUEST_REFUSED', message: 'The Host header is missing' })
  const old = await connect()
  old.write('GET / HTTP/1.0\r\n\r\n')
  t.match(await old.closed(), /world/, 'HTTP/1.0 needs none')
  t.match(await rows(2), [{ path: '/path', status: 400, outcome: 'refused' }, { status: 200, outcome: 'replied' }])
})

t.test('a host that lets requests without Host pass is left alone', async t => {
  const { connect, rows } = await serve(t, { server: { http: { requireHostHeader: false } } })
  const client = await connect()
  client.write('GET / HTTP/1.1\r\n\r\n')
  await client.until(/world/)
  t.match(await rows(1), [{ status: 200, outcome: 'replied' }])
})

t.test('Expect', async t => {
  const { connect, rows } = await serve(t)
  const body = 'Host: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n'
  const client = await connect()
  client.write(`POST / HTTP/1.1\r\n${body}Expect: 100-continue\r\n\r\n`)
  await client.until(/100 Continue/)
  client.write('{}')
  await client.until(/poster/)
  const refused = await connect()
  refused.write(`POST /what HTTP/1.1\r\n${body}Expect: miracles\r\n\r\n`)
  await refused.until(/417/)
  t.match(await rows(2), [{ status: 200, outcome: 'replied' }, { path: '/what', status: 417, outcome: 'refused' }])
})

t.test('Expect, where the host decides', async t => {
  const { connect, rows } = await serve(t, {
    routes (app) {
      app.server.on('checkExpectation', (raw, res) => {
        if (raw.url === '/') app.server.emit('request', raw, res)
        else setTimeout(() => { res.writeHead(204).end() }, 5)
      })
      app.server.on('checkContinue', (raw, res) => {
        if (raw.url === '/') app.server.emit('request', raw, res)
        else res.writeHead(413).end()
      })
    }
  })
  for (const [path, expect] of [['/', 'miracles'], ['/x', 'miracles'], ['/', '100-continue'], ['/y', '100-continue']]) {
    const client = await connect()
    client.write(`GET ${path} HTTP/1.1\r\nHost: h\r\nExpect: ${expect}\r\n\r\n`)
    await client.until(/HTTP\/1.1 \d+ /)
  }
  t.match((await rows(4)).map(row => [row.path, row.route, row.status, row.outcome]), [
    ['/', '/', 200, 'replied'], ['/x', null, 204, 'replied'], ['/', '/', 200, 'replied'], ['/y', null, 413, 'refused']
  ])
})

t.test('more requests than a connection may carry', async t => {
  const { connect, rows } = await serve(t, { server: { maxRequestsPerSocket: 1 } })
  const client = await connect()
  client.write(`${GET}GET /second HTTP/1.1\r\nHost: h\r\n\r\n`)
  t.match((await rows(2)).map(row => [row.path, row.status, row.outcome]).sort(), [['/', 200, 'replied'], ['/second', 503, 'refused']])
})

t.test('CONNECT', async t => {
  const { connect, rows } = await serve(t)
  const client = await connect()
  client.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
  t.equal(await client.closed(), '', 'closed without an answer, as Node does')
  t.match(await rows(1), [{ method: 'CONNECT', path: 'example.com:443', status: 0, outcome: 'refused', ip: '127.0.0.1' }])
})

t.test('CONNECT, where the host is a proxy', async t => {
  const { connect, rows } = await serve(t, { before: app => app.server.on('connect', (_raw, socket) => { attend(socket).write('HTTP/1.1 200 OK\r\n\r\n') }) })
  const client = await connect()
  client.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
  await client.until(/200 OK/)
  t.match(await rows(1), [{ method: 'CONNECT', status: 200, outcome: 'replied' }])
})

t.test('a reply by a hook that ran before ours', async t => {
  const { app, connect, rows } = await serve(t, {
    before (app) {
      app.addHook('onRequest', (request, reply, done) => {
        if (request.url === '/now') reply.code(204).send()
        else if (request.url === '/later') setTimeout(() => reply.code(401).send('not you'), 5)
        else if (request.url === '/part') reply.hijack().raw.writeHead(200).write('first part')
        else if (request.url !== '/lost') setTimeout(done, 2)
      })
    }
  })
  const client = await connect()
  client.write('GET /now HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/204/)
  client.write('GET /later HTTP/1.1\r\nHost: h\r\n\r\n')
  await client.until(/not you/)
  client.write(GET)
  await client.until(/world/)
  client.write('GET /lost HTTP/1.1\r\nHost: h\r\n\r\n')
  setTimeout(() => client.socket.destroy(), 10)
  await rows(4)
  const other = await connect()
  other.write('GET /part HTTP/1.1\r\nHost: h\r\n\r\n')
  await other.until(/first part/)
  app.server.closeAllConnections()
  const all = await rows(5)
  t.match(all, [
    { path: '/now', route: null, status: 204, outcome: 'replied' },
    { path: '/later', route: null, status: 401, outcome: 'refused' },
    { path: '/', route: '/', status: 200, outcome: 'replied' },
    { path: '/lost', route: null, status: 0, outcome: 'aborted' },
    { path: '/part', route: null, status: 200, outcome: 'error' }
  ])
  t.ok(all[1]!.durationUs > 3000)
})

t.test('a server that is closing', async t => {
  const { connect, rows, app } = await serve(t, { server: { forceCloseConnections: false }, routes: app => app.get('/slow', async () => { await new Promise(resolve => setTimeout(resolve, 50)); return 'slow' }) })
  const client = await connect()
  const arrived = once(app.server, 'request')
  client.write('GET /slow HTTP/1.1\r\nHost: h\r\n\r\n')
  await arrived
  const closed = app.close()
  await new Promise(resolve => setTimeout(resolve, 10))
  client.write(GET)
  await client.closed()
  await closed
  t.match((await rows(2)).map(row => [row.path, row.status, row.outcome]).sort(), [['/', 503, 'refused'], ['/slow', 200, 'replied']])
})

t.test('the server closes while a client waits for its reply', async t => {
  const { connect, rows, app } = await serve(t, { routes: app => app.get('/slow', never) })
  const client = await connect()
  const arrived = once(app.server, 'request')
  client.write('GET /slow HTTP/1.1\r\nHost: h\r\n\r\n')
  await arrived
  await app.close()
  await client.closed()
  t.match(await rows(1), [{ route: '/slow', status: 0, outcome: 'error' }])
})

// ---------------------------------------------------------------- other servers

/** Gives localhost two addresses: not every machine has them. */
function twoAddresses (t: Test) {
  const { lookup } = dns
  const found = ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 }))
  dns.lookup = ((host: string, ...rest: unknown[]) => {
    if (host !== 'localhost') return Reflect.apply(lookup, dns, [host, ...rest])
    const done = rest.pop() as (error: null, ...found: unknown[]) => void
    if (rest.length > 0) done(null, found)
    else done(null, '127.0.0.1', 4)
  }) as typeof lookup
  t.teardown(() => { dns.lookup = lookup })
}

t.test('localhost: one server per address, all watched', async t => {
  twoAddresses(t)
  const { app, rows, connect } = await serve(t, { host: 'localhost' })
  const second = (app.addresses() as AddressInfo[]).find(({ address }) => address === '127.0.0.2')!
  const send = async (text: string, expected: RegExp) => {
    const client = await connect(second.port, second.address)
    client.write(text)
    await client.until(expected)
  }
  await send(GET, /world/)
  await send('GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n', /FST_ERR_BAD_URL/)
  await send('garbage\r\n\r\n', /Client Error/)
  await send('GET /host HTTP/1.1\r\n\r\n', /DOORMAN_REQUEST_REFUSED/)
  t.match((await rows(4)).map(row => [row.path, row.status, row.outcome]), [['/', 200, 'replied'], ['/%zz', 400, 'refused'], ['', 400, 'refused'], ['/host', 400, 'refused']])
})

t.test('HTTP/2', async t => {
  const { rows, port } = await serve(t, { server: { http2: true, forceCloseConnections: undefined }, routes: app => app.get('/slow', never) })
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const ask = async (path: string) => {
    const stream = session.request({ ':path': path, 'user-agent': 'h2' })
    stream.resume()
    const [headers] = await once(stream, 'response')
    await once(stream, 'close')
    return (headers as http2.IncomingHttpHeaders & { ':status': number })[':status']
  }
  t.equal(await ask('/'), 200)
  t.equal(await ask('/%zz'), 400)
  const slow = session.request({ ':path': '/slow' })
  slow.on('error', () => {})
  await new Promise(resolve => setTimeout(resolve, 20))
  slow.close(http2.constants.NGHTTP2_CANCEL)
  t.match((await rows(3)).map(row => [row.ip, row.path, row.status, row.outcome]), [['127.0.0.1', '/', 200, 'replied'], ['127.0.0.1', '/%zz', 400, 'refused'], ['127.0.0.1', '/slow', 0, 'aborted']])
  session.destroy()
})

t.test('HTTP/2 on localhost', async t => {
  twoAddresses(t)
  const { rows, port } = await serve(t, { host: 'localhost', server: { http2: true, forceCloseConnections: undefined } })
  const session = http2.connect(`http://127.0.0.2:${port}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/%zz' })
  await once(stream.resume(), 'close')
  t.match(await rows(1), [{ path: '/%zz', status: 400, outcome: 'refused' }])
  session.destroy()
})
