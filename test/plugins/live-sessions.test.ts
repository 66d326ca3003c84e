/** Connections that end with their session: real sockets, several instances on one database, both engines. */
import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { LiveEnd } from '../../index.js'
import databasePlugin from '../../plugins/database.js'
import sessionsPlugin, { type SessionsPluginOptions } from '../../plugins/sessions.js'
import { databaseUrl } from '../engine.js'
import { until } from '../helper.js'

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000
const SSE = { 'content-type': 'text/event-stream' }

async function setUp (t: Test, { url, options = {} }: { url?: string, options?: SessionsPluginOptions } = {}) {
  const time = { now: START }
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { lines.push(line) } } }, forceCloseConnections: true })
  const database = url ?? await databaseUrl()
  t.teardown(() => app.close())
  await app.register(databasePlugin, { url: database, clock: () => time.now })
  await app.register(sessionsPlugin, options)
  const ends: LiveEnd[] = []
  const sources: Readable[] = []

  app.get('/events', { config: { session: 'required' } }, (request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, SSE).write('data: hello\n\n')
    reply.endWithSession()
    // A host that does not know that it is over.
    const timer = setInterval(() => { reply.raw.write('data: tick\n\n') }, 5)
    reply.raw.once('close', () => setTimeout(() => clearInterval(timer), 50))
  })
  app.get('/stream', { config: { session: 'required' } }, (_request, reply) => {
    const source = new Readable({ read () {} })
    sources.push(source)
    source.push('hello')
    reply.endWithSession()
    reply.send(source)
  })
  app.get('/later', { config: { session: 'required' } }, (_request, reply) => {
    reply.endWithSession()
    reply.hijack()
  })
  app.get('/heard', { config: { session: 'required' } }, (request, reply) => {
    request.onSessionEnd(end => { ends.push(end) })
    reply.send('heard')
  })
  app.get('/once', { config: { session: 'required' } }, (request, reply) => {
    const stop = request.onSessionEnd(() => { throw new Error('too late') })
    stop()
    reply.send(app.sessions.live.size)
  })
  app.get('/twice', { config: { session: 'required' } }, (_request, reply) => {
    reply.raw.once('close', () => reply.endWithSession())
    reply.send('over')
  })
  app.get('/socket', { config: { session: 'required' } }, (request, reply) => {
    reply.hijack()
    const { socket } = request.raw
    request.onSessionEnd(({ reason }) => { socket.end(reason) })
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
  })
  app.get('/nobody', async request => { request.onSessionEnd(() => {}) })
  app.get('/unseen', { config: { session: false } }, async (_request, reply) => { reply.endWithSession() })
  app.post('/logout', { config: { session: 'required' } }, async request => app.sessions.removeAll(request.session!.userId))
  await app.listen({ port: 0 })
  const { port } = app.server.address() as AddressInfo
  const agents = new Set<http.Agent>()
  t.teardown(() => { for (const agent of agents) agent.destroy() })

  /** Opens a stream; resolves with its reply once its first bytes are there. */
  async function open (path: string, token: string, headers: http.OutgoingHttpHeaders = {}) {
    const agent = new http.Agent({ keepAlive: true })
    agents.add(agent)
    const request = http.get({ port, path, agent, headers: { cookie: `sid=${token}`, ...headers } })
    const [reply] = await once(request, 'response') as [IncomingMessage]
    const closed = new Promise(resolve => reply.once('close', resolve))
    reply.on('error', () => {})
    reply.resume()
    await once(reply, 'data')
    return { reply, request, agent, ended: async () => { await closed; return reply.complete } }
  }
  const send = (url: string, token: string, method: 'GET' | 'POST' = 'GET') => fetch(`http://localhost:${port}${url}`, { method, headers: { cookie: `sid=${token}` } })
  const login = (userId = 'ada') => app.sessions.create({ userId })
  return { app, port, time, lines, ends, sources, open, send, login, database }
}

t.test('server-sent events end with the session that another request ends, a token for it does not', async t => {
  const { app, open, send, login, lines } = await setUp(t)
  const { token } = await login()
  const stream = await open('/events', token)
  const { token: next } = await app.sessions.rotate(token)
  const other = await login('bob')
  const theirs = await open('/events', other.token)
  t.equal(app.sessions.live.size, 2)
  t.equal((await send('/logout', next, 'POST')).status, 200)
  t.equal(await stream.ended(), true, 'whole, as far as it went')
  t.notOk(theirs.reply.complete)
  t.equal(app.sessions.live.size, 1)
  t.equal((await send('/logout', other.token, 'POST')).status, 200)
  await theirs.ended()
  t.equal(app.sessions.live.size, 0)
  t.notMatch(lines.join(''), /WRITE_AFTER_END/)
})

t.test('a stream that is sent ends, and its source with it', async t => {
  const { app, open, login, sources, lines } = await setUp(t)
  const { token, session } = await login()
  const stream = await open('/stream', token)
  await app.sessions.remove(session.id)
  t.equal(await stream.ended(), true)
  await until(() => sources[0]!.destroyed, 'the source to be destroyed')
  t.notMatch(lines.join(''), /"level":[56]0/)
})

t.test('what has sent nothing so far is broken off: an empty reply would look like a good one', async t => {
  const { app, port, login } = await setUp(t)
  const { token, session } = await login()
  const request = http.get({ port, path: '/later', headers: { cookie: `sid=${token}` } })
  const failed = once(request, 'response').then(() => 'replied', (error: NodeJS.ErrnoException) => error.code)
  await until(() => app.sessions.live.size === 1)
  await app.sessions.remove(session.id)
  t.equal(await failed, 'ECONNRESET')
})

t.test('another instance on the same database ends it within about a second', async t => {
  const one = await setUp(t)
  const two = await setUp(t, { url: one.database })
  const { token, session } = await one.login()
  const stream = await one.open('/events', token)
  await one.open('/heard', token)
  two.time.now += 1000
  await two.app.sessions.remove(session.id)
  t.equal(await stream.ended(), true)
  t.strictSame(one.ends, [{ reason: 'revoked', at: START + 1000 }])
  t.equal(one.app.sessions.live.size, 0)
})

t.test('the idle timeout ends it: listening is no use, sessions.touch is', async t => {
  const { app, open, login, time, ends } = await setUp(t, { options: { idleTimeout: '1h' } })
  const { token, session } = await login()
  const used = await login()
  const stream = await open('/events', token)
  await open('/heard', token)
  const lasting = await open('/events', used.token)
  time.now += HOUR - 1
  app.sessions.touch(used.session)
  time.now++
  t.equal(await stream.ended(), true)
  t.strictSame(ends, [{ reason: 'idle', at: START + HOUR }])
  t.equal(app.sessions.live.size, 1)
  t.notOk(lasting.reply.complete)
  t.equal(await app.sessions.info(session.id), null)
})

t.test('what is over listens no more', async t => {
  const { app, open, send, login } = await setUp(t)
  const { token, session } = await login()
  const stream = await open('/events', token)
  stream.request.destroy()
  await until(() => app.sessions.live.size === 0, 'the reply to be over')
  const heard = await open('/heard', token)
  t.equal(app.sessions.live.size, 1, 'until the connection closes, which is kept')
  heard.agent.destroy()
  await until(() => app.sessions.live.size === 0, 'the connection to be closed')
  t.equal(await (await send('/once', token)).text(), '0')
  t.equal(await (await send('/twice', token)).text(), 'over')
  await until(() => app.sessions.live.size === 0)
  await app.sessions.remove(session.id)
})

t.test('a WebSocket is closed by its host when the session ends; another site\'s is not even opened', async t => {
  const { app, port, login } = await setUp(t)
  const upgraded = new Set<Socket>()
  t.teardown(() => { for (const socket of upgraded) socket.destroy() })
  // As @fastify/websocket has it: an upgrade goes through the hooks as a GET request.
  app.server.on('upgrade', (raw: IncomingMessage, socket: Socket) => {
    upgraded.add(socket)
    const response = new http.ServerResponse(raw)
    response.assignSocket(socket)
    app.routing(raw, response)
  })
  const { token, session } = await login()
  const connect = (origin: string) => http.get({ port, path: '/socket', headers: { cookie: `sid=${token}`, origin, connection: 'Upgrade', upgrade: 'websocket' } })
  const refused = connect('https://evil.example')
  const [reply] = await once(refused, 'response') as [IncomingMessage]
  t.equal(reply.statusCode, 403)
  reply.destroy()
  t.equal(app.sessions.live.size, 0)
  const [, socket] = await once(connect(`http://localhost:${port}`), 'upgrade') as [IncomingMessage, Socket]
  let text = ''
  socket.on('data', chunk => { text += String(chunk) })
  t.equal(app.sessions.live.size, 1)
  await app.sessions.remove(session.id)
  await once(socket, 'end')
  t.equal(text, 'revoked')
  t.equal(app.sessions.live.size, 0)
  socket.destroy()
})

t.test('without a session there is nothing to end with', async t => {
  const { app, login } = await setUp(t)
  for (const url of ['/nobody', '/unseen']) t.match((await app.inject(url)).json(), { statusCode: 401, code: 'DOORMAN_SESSION_INVALID' }, url)
  const { token } = await login()
  t.match((await app.inject({ url: '/unseen', headers: { cookie: `sid=${token}` } })).json(), { statusCode: 401 })
})

t.test('a close waits for no listener, and calls none', async t => {
  const { app, open, login, ends } = await setUp(t)
  const { token } = await login()
  await open('/heard', token)
  const { live } = app.sessions
  await (app as FastifyInstance).close()
  t.same([live.size, ends], [0, []])
})

t.test('R15: 20 parallel requests on several connections to two instances: all go on, there is one new token; after the grace the old one is a signal', async t => {
  const options: SessionsPluginOptions = { renewAfter: '1h', renewGrace: '30s' }
  const one = await setUp(t, { options })
  const two = await setUp(t, { url: one.database, options })
  const { token } = await one.login()
  for (const { time } of [one, two]) time.now += HOUR
  const signals: unknown[] = []
  for (const { app } of [one, two]) app.sessions.on('session_use_after_expire', ({ reason, detail }) => signals.push({ reason, detail }))
  const agents = [one, two].flatMap(({ port }) => Array.from({ length: 5 }, () => ({ port, agent: new http.Agent({ keepAlive: true, maxSockets: 1 }) })))
  t.teardown(() => { for (const { agent } of agents) agent.destroy() })
  const replies = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    const [reply] = await once(http.get({ ...agents[i % agents.length]!, path: '/once', headers: { cookie: `sid=${token}` } }), 'response') as [IncomingMessage]
    reply.resume()
    await once(reply, 'end')
    return reply
  }))
  t.strictSame(replies.map(({ statusCode }) => statusCode), Array(20).fill(200))
  const cookies = replies.flatMap(({ headers }) => headers['set-cookie'] ?? [])
  t.equal(cookies.length, 1)
  t.equal(one.app.sessions.stats().renewed + two.app.sessions.stats().renewed, 1)
  const next = /^sid=([^;]+)/.exec(cookies[0]!)![1]!
  t.not(next, token)
  const statuses = () => Promise.all([one, two].flatMap(({ send }) => [token, next].map(async which => (await send('/once', which)).status)))
  for (const { time } of [one, two]) time.now += 29_999
  t.strictSame(await statuses(), [200, 200, 200, 200])
  t.strictSame(signals, [])
  for (const { time } of [one, two]) time.now += 2
  t.strictSame(await statuses(), [401, 200, 401, 200])
  t.strictSame(signals, Array(2).fill({ reason: 'rotated', detail: { reuse: true } }))
})
