/**
 * Nothing secret is emitted: every route is used in every way, at log level trace, and all that comes out (replies, log, standard output,
 * metrics, events, what the decorators hold) is searched for tokens, keys and the database's password, in every encoding.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import type { AddressInfo } from 'node:net'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { buildApp } from '../app.js'
import { loadConfig } from '../config.js'
import { SESSION_EVENTS } from '../lib/session-events.js'
import { createToken } from '../lib/token.js'
import { startChild } from './child.js'
import { databaseUrl, onlySqlite } from './engine.js'
import { operationsOf } from './fuzz/openapi.js'
import { Secrets } from './fuzz/secrets.js'
import { connect } from './helpers/raw-http.js'

const KEY = 'leak-test-key-8Zq4wN7tXc2Lr9Vb5Hs3'
const TOKEN = /dm_[A-Za-z0-9_-]{49}/g

interface Emitted { from: string, text: string }

/** The service with everything it emits written down, and a client that writes down its replies. */
async function recorded (t: Test) {
  const url = await databaseUrl()
  const secrets = new Secrets()
  secrets.addText('API key', KEY)
  const { password } = new URL(url)
  if (password !== '') secrets.addText('password of the database', password)
  const emitted: Emitted[] = []
  const emit = (from: string, text: string) => { emitted.push({ from, text }) }
  const app = await buildApp(loadConfig({ DATABASE_URL: url, API_KEYS: KEY, LOG_LEVEL: 'trace', TRUST_PROXY: 'loopback', SESSION_REVOKE_FRESHNESS: '1h' }, { file: null }), { logStream: { write: line => { emit('log', line) } } })
  t.teardown(() => app.close())
  for (const name of SESSION_EVENTS) app.sessions.on(name, event => { emit(`event ${name}`, inspect(event, { depth: 9 }) + JSON.stringify(event)) })

  // What a host sees, were it to log it.
  const shown = (request: FastifyRequest) => emit('request', [request.session, request.sessionRefusal, app.sessions.stats(), app.ipTracking.stats(), app.sessions, app.activity].map(value => inspect(value, { depth: 6 }) + JSON.stringify(value)).join('\n'))
  app.addHook('onResponse', async request => { shown(request) })
  app.get('/broken', { config: { access: 'session' } }, async request => {
    shown(request)
    throw Object.assign(new Error('it broke'), { session: request.session })
  })
  const traced = (message: unknown) => { emit('diagnostics channel', JSON.stringify((message as { route?: unknown }).route)) }
  subscribe('tracing:fastify.request.handler:start', traced)
  t.teardown(() => { unsubscribe('tracing:fastify.request.handler:start', traced) })
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write
    stream.write = function (this: typeof stream, ...args: Parameters<typeof write>) {
      emit('standard output', String(args[0]))
      return write.apply(this, args)
    } as typeof write
    t.teardown(() => { stream.write = write })
  }

  const address = await app.listen({ host: '127.0.0.1', port: 0 })
  const used = new Set<string>()

  /** Sends a request; what may show a token says so, and is written down without it. */
  async function send (method: string, path: string, { headers = {}, body, shows = false }: { headers?: Record<string, string>, body?: unknown, shows?: boolean } = {}) {
    const reply = await fetch(address + path, { method, headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }) })
    used.add(`${method} ${path.split('?', 1)[0]}`)
    const text = await reply.text()
    const whole = [...reply.headers].map(header => header.join(': ')).join('\n') + '\n' + text
    if (!shows) {
      emit(`reply of ${method} ${path}`, whole)
      return { status: reply.status, text, token: '' }
    }
    const token = TOKEN.exec(whole)![0]
    TOKEN.lastIndex = 0
    secrets.addToken(token)
    const inBody = text.split(token).length - 1
    t.ok(inBody <= 1 && (reply.headers.get('set-cookie') ?? '').split(token).length <= 2, `${method} ${path} shows the token once in its body and once in its cookie, if at all`)
    emit(`reply of ${method} ${path}`, whole.replaceAll(token, ''))
    return { status: reply.status, text, token }
  }

  return { app, secrets, emitted, send, used, port: (app.server.address() as AddressInfo).port }
}

type Recorded = Awaited<ReturnType<typeof recorded>>

const leaks = ({ emitted, secrets }: Pick<Recorded, 'emitted' | 'secrets'>) => emitted.flatMap(({ from, text }) => secrets.find(text).map(name => `${from}: ${name} in ${text.slice(0, 500)}`))

const asKey = { headers: { authorization: `Bearer ${KEY}` } }
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
const cookie = (token: string) => ({ headers: { cookie: `sid=${token}` } })

t.test('no route, however it is used, shows a secret', async t => {
  const service = await recorded(t)
  const { app, send, used, secrets, emitted, port } = service
  const login = async (userId = 'alice') => {
    const { text, token } = await send('POST', '/sessions', { ...asKey, body: { userId, ip: '192.0.2.7', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', data: { theme: 'dark' } }, shows: true })
    return { token, id: (JSON.parse(text) as { session: { id: string } }).session.id }
  }
  const first = await login()
  const second = await login()
  const other = await login('bob')

  // The session's own routes, both ways, and a rotation each.
  for (const [credential, { token }] of [[bearer, first], [cookie, second]] as const) {
    await send('GET', '/session', credential(token))
    await send('PATCH', '/session', { ...credential(token), body: { data: { cart: 1 } } })
    await send('GET', '/sessions?limit=1', credential(token))
    await send('GET', '/broken', credential(token))
  }
  const rotated = (await send('POST', '/session/rotate', { ...bearer(first.token), shows: true })).token
  const renewed = (await send('POST', '/session/rotate', { ...cookie(second.token), shows: true })).token
  for (const ended of [first.token, second.token]) for (const credential of [bearer, cookie]) t.equal((await send('GET', '/session', credential(ended))).status, 401)

  // Wrong ones: not ours, of the right shape but unknown, wrong by one letter, twice, from another site.
  const unknown = createToken(size => Buffer.alloc(size, 77))
  secrets.addToken(unknown)
  for (const token of [unknown, `${rotated.slice(0, -1)}!`, rotated.slice(0, -1), `${rotated}x`, 'junk']) for (const credential of [bearer, cookie]) t.equal((await send('GET', '/session', credential(token))).status, 401)
  await send('GET', '/session', { headers: { cookie: `sid=${rotated}; sid=${renewed}` } })
  await send('DELETE', '/session', { headers: { cookie: `sid=${rotated}`, 'sec-fetch-site': 'cross-site' } })
  await send('GET', '/admin/sessions', { headers: { authorization: `Bearer ${KEY.slice(0, -1)}` } })
  await send('GET', '/admin/sessions', bearer(rotated))
  await send('GET', '/session', asKey)

  // A secret where none belongs.
  for (const path of [`/${rotated}`, `/nowhere?token=${rotated}&key=${KEY}`, `/%zz?token=${rotated}`, `/${rotated}/%zz`, `/docs/${rotated}`, `/${rotated}?${rotated}=${KEY}`]) await send('GET', path)
  for (const query of [`ip=${rotated}`, `cursor=${rotated}`, `${rotated}=1`, `userId=${rotated}`, `from=${rotated}`, `limit=${rotated}`]) await send('GET', `/admin/sessions?${query}`, asKey)
  await send('GET', `/admin/ip-logs/series?bucket=${rotated}`, asKey)
  for (const body of [{ userId: 'a', [rotated]: 1 }, { userId: 'a', ip: rotated }, { userId: rotated.repeat(6) }, `{"userId":"${rotated}`, `"${rotated}"`]) await send('POST', '/sessions', { ...asKey, body })
  await send('POST', '/admin/blocks', { ...asKey, body: { cidr: rotated } })
  await send('POST', '/admin/activity', { ...asKey, body: { userId: 'a', action: 'login', ip: rotated } })
  await send('POST', '/admin/activity', { ...asKey, body: { userId: 'a', action: 'login' } })
  await send('POST', '/admin/ip-logs', { ...asKey, body: { items: [{ requestId: 'leak-1', method: 'GET', path: `/reset/${rotated}?token=${rotated}`, status: 200, referer: `https://example.com/${rotated}?${rotated}` }] } })
  await send('DELETE', `/sessions/${rotated}`, bearer(rotated))
  await send('DELETE', `/admin/sessions/${rotated}`, asKey)
  await send('DELETE', `/admin/blocks/${rotated}`, asKey)
  await send('GET', '/session', { headers: { ...bearer(rotated).headers, 'x-forwarded-for': rotated, 'x-request-id': rotated, referer: `https://example.com/${rotated}`, origin: `https://${rotated}.example`, 'content-type': rotated } })

  // What the parser refuses, with everything in it.
  for (const request of [`GET /session HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${rotated}\r\nX: \0\r\n\r\n`, `${rotated}\r\n\r\n`, `GET /admin/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${KEY}\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`]) {
    const raw = await connect(port)
    raw.write(request)
    const reply = await raw.closed()
    t.match(JSON.parse(reply.slice(reply.indexOf('{'))), { code: 'DOORMAN_REQUEST_REFUSED' })
    emitted.push({ from: 'reply to what is no HTTP', text: reply })
  }

  // All that hands out what is stored.
  for (const token of [rotated, unknown, first.token, 'junk']) await send('POST', '/admin/sessions/introspect', { ...asKey, body: { token, ip: '192.0.2.8', userAgent: 'curl/8' } })
  const block = await send('POST', '/admin/blocks', { ...asKey, body: { cidr: '203.0.113.0/24', reason: 'scan' } })
  await app.database.flush(5000)
  for (const path of ['/admin/sessions', '/admin/ip-logs?limit=500', '/admin/ip-logs/top?by=path', '/admin/ip-logs/series', '/admin/activity', '/admin/blocks', '/admin/cleanup', '/metrics', '/health/live', '/health/ready', '/docs', '/docs/json', '/docs/yaml', '/admin/', '/admin/users/alice/export', '/admin/users/alice/devices', '/admin/addresses/192.0.2.8/export', '/admin/abuse']) await send('GET', path, asKey)
  await send('POST', '/admin/cleanup', { ...asKey, body: { dryRun: true } })

  // And all that ends.
  await send('DELETE', `/admin/blocks/${(JSON.parse(block.text) as { id: string }).id}`, asKey)
  await send('DELETE', `/sessions/${first.id}`, cookie(renewed))
  await send('DELETE', '/sessions?except=current', cookie(renewed))
  await send('DELETE', '/session', cookie(renewed))
  await send('DELETE', `/admin/sessions/${other.id}`, asKey)
  await login('bob')
  await send('DELETE', '/admin/users/bob/sessions', asKey)
  await send('DELETE', '/admin/users/alice', asKey)
  await send('DELETE', '/admin/addresses/192.0.2.8', asKey)
  await app.close()

  t.strictSame(leaks(service), [])
  t.ok(emitted.some(({ from }) => from === 'diagnostics channel') && emitted.some(({ from }) => from === 'event session_use_after_expire') && emitted.filter(({ from }) => from === 'log').length > 200, 'all of it was heard')

  const missed = operationsOf(app.swagger()).filter(({ method, path }) => {
    const pattern = new RegExp(`^${method} ${path.replace(/\{\w+\}/g, '[^/]+')}$`)
    return ![...used].some(request => pattern.test(request))
  })
  t.strictSame(missed.map(({ label }) => label), [], 'no route was left out')
})

t.test('a leak would be seen, wherever it is', async t => {
  const service = await recorded(t)
  const { app, send } = service
  const { token } = await send('POST', '/sessions', { ...asKey, body: { userId: 'alice' }, shows: true })
  t.strictSame(leaks(service), [])
  const planted = async (leak: () => unknown, where: RegExp) => {
    service.emitted.length = 0
    await leak()
    t.match(leaks(service).join('\n'), where)
  }
  await planted(() => app.log.trace({ packet: [...Buffer.from(`Cookie: sid=${token}`)] }, 'x'), /^log: token.*as numbers/)
  await planted(() => app.log.warn({ key: KEY }, 'x'), /^log: API key/)
  await planted(() => send('GET', '/session', bearer(token)).then(() => service.emitted.push({ from: 'reply', text: token })), /^reply: token/)
  await planted(() => process.stderr.write(`# ${token}\n`), /^standard output: token/)
  await planted(async () => {
    // What the suite tells its listeners would be seen by a listener that comes later.
    app.sessions.on('session_ended', event => { service.emitted.push({ from: 'event', text: JSON.stringify({ ...event, token }) }) })
    await send('DELETE', '/session', bearer(token))
  }, /^event: token/)
})

t.test('the process says nothing secret on its way up and down', onlySqlite('about the process, whatever its engine'), async t => {
  const secrets = new Secrets()
  secrets.addText('API key', KEY)
  secrets.addText('password', 'pass-Word-of-postgres-7')
  const server = startChild(t, 'server.js', [], { API_KEYS: KEY, LOG_LEVEL: 'trace' })
  const [, address] = await server.output(/listens on (\S+)/)
  const reply = await fetch(`${address}/sessions`, { method: 'POST', headers: { ...asKey.headers, 'content-type': 'application/json' }, body: '{"userId":"alice"}' })
  const { token } = await reply.json() as { token: string }
  secrets.addToken(token)
  await fetch(`${address}/session`, cookie(token))
  await fetch(`${address}/session`, bearer(token))
  server.process.kill('SIGTERM')
  const { code, stdout, stderr } = await server.ended
  t.equal(code, 0)
  t.match(stdout, '"path":"/session"', 'and it did log')
  t.strictSame(secrets.find(stdout + stderr), [])

  const refused = ['postgres://doorman:pass-Word-of-postgres-7@127.0.0.1:1/x', 'postgres://doorman:pass-Word-of-postgres-7@', 'mysql://doorman:pass-Word-of-postgres-7@127.0.0.1/x'].map(url => ({ API_KEYS: KEY, DATABASE_URL: url, LOG_LEVEL: 'trace' }))
  await Promise.all([...refused, { API_KEYS: `${KEY},${KEY} ${KEY}` }].map(async env => {
    const { code, stdout, stderr } = await startChild(t, 'server.js', [], env).ended
    t.equal(code, 1)
    t.match(stderr, 'did not start')
    t.strictSame(secrets.find(stdout + stderr), [], stderr)
  }))
})
