/** Why a session ended and who is told; tokens that come back; changes asked for by other sites; what a logout makes browsers forget. On both engines. */
import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { describeEnd } from '../../index.js'
import { SESSION_EVENTS, type SessionEvent } from '../../lib/session-events.js'
import databasePlugin from '../../plugins/database.js'
import sessionsPlugin, { type SessionsPluginOptions } from '../../plugins/sessions.js'
import { databaseUrl } from '../engine.js'

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000
const HTTPS = { 'x-forwarded-proto': 'https' }

async function setUp (t: Test, options: SessionsPluginOptions = {}, { url, add }: { url?: string, add?: (app: FastifyInstance) => void } = {}) {
  const time = { now: START }
  const app = Fastify({ trustProxy: '127.0.0.1' })
  t.teardown(() => app.close())
  await app.register(databasePlugin, { url: url ?? await databaseUrl(), clock: () => time.now })
  await app.register(sessionsPlugin, options)
  app.get('/me', async request => ({ user: request.session?.userId ?? null, refusal: request.sessionRefusal, end: request.sessionEnd }))
  app.get('/private', { config: { session: 'required' } }, async () => 'private')
  app.post('/change', async request => ({ user: request.session?.userId ?? null }))
  app.all('/any', async request => ({ user: request.session?.userId ?? null }))
  app.post('/hook', { config: { session: false }, preHandler: app.requireSession }, async () => 'changed')
  app.post('/open', { config: { crossSite: 'allow' } }, async request => ({ user: request.session?.userId ?? null }))
  app.post('/logout', { config: { session: 'required' } }, async (request, reply) => {
    await app.sessions.remove(request.session!.id)
    app.clearSessionCookie(reply)
    return 'bye'
  })
  add?.(app)
  const events: SessionEvent[] = []
  for (const name of SESSION_EVENTS) app.sessions.on(name, event => events.push(event))
  const send = (url: string, headers: Record<string, string> = {}, method = 'GET') => app.inject({ url, headers, method: method as 'GET' })
  const cookie = (token: string, https = false) => ({ cookie: `${https ? '__Host-' : ''}sid=${token}` })
  return { app, time, send, cookie, events, login: async (userId = 'ada') => app.sessions.create({ userId }), names: () => events.map(({ name }) => name) }
}

// ---------------------------------------------------------------- why

t.test('the host knows why, when and whose; in what form, is its own affair', async t => {
  const { app, time, send, cookie, login } = await setUp(t, { maxPerUser: 2 }, {
    add: app => app.get('/goodbye', async request => request.sessionEnd === null ? 'Please sign in.' : describeEnd(request.sessionEnd.reason))
  })
  const look = async (token: string) => (await send('/me', cookie(token))).json<{ refusal: string | null, end: unknown }>()
  t.strictSame(await look('junk'), { user: null, refusal: 'malformed', end: null })
  t.strictSame((await send('/me')).json(), { user: null, refusal: 'missing', end: null })
  const { token, session } = await login()
  const { token: other, session: otherSession } = await login()
  t.strictSame(await look(token), { user: 'ada', refusal: null, end: null })
  time.now += 1000
  await app.sessions.remove(session.id)
  t.strictSame(await look(token), { user: null, refusal: 'revoked', end: { reason: 'revoked', at: time.now, sessionId: session.id, userId: 'ada' } })
  time.now = START + 24 * HOUR
  t.strictSame(await look(other), { user: null, refusal: 'idle', end: { reason: 'idle', at: time.now, sessionId: otherSession.id, userId: 'ada' } })
  t.equal((await send('/goodbye', cookie(other))).body, 'You were signed out because you were inactive for too long.')
  t.equal((await send('/goodbye')).body, 'Please sign in.')
  const { token: first } = await login()
  time.now++
  await login()
  await login()
  t.match(await look(first), { refusal: 'limit', end: { reason: 'limit', at: time.now, userId: 'ada' } })
})

t.test('clients learn no more than expired or invalid', async t => {
  const { app, time, send, cookie, login } = await setUp(t)
  const { token, session } = await login()
  const { token: other } = await login()
  await app.sessions.remove(session.id)
  time.now += 24 * HOUR
  for (const [ended, message] of [[token, 'No valid session'], [other, 'The session has expired']] as const) {
    const reply = await send('/private', cookie(ended))
    t.match(reply.json(), { statusCode: 401, message })
    t.notOk('session-end-reason' in reply.headers)
  }
})

t.test('tellReason: who has a token that was good once is told', async t => {
  const { app, time, send, cookie, login } = await setUp(t, { tellReason: true })
  const { token, session } = await login()
  const { token: other } = await login()
  await app.sessions.remove(session.id)
  time.now += 24 * HOUR
  for (const [ended, code, reason] of [[token, 'DOORMAN_SESSION_INVALID', 'revoked'], [other, 'DOORMAN_SESSION_EXPIRED', 'idle']] as const) {
    for (const headers of [cookie(ended), { authorization: `Bearer ${ended}` }]) {
      const reply = await send('/private', headers)
      t.equal(reply.statusCode, 401)
      t.equal(reply.headers['session-end-reason'], reason)
      t.match(reply.json(), { code, message: describeEnd(reason) })
    }
  }
  const stranger = await (await setUp(t)).login()
  for (const headers of [{}, cookie('junk'), cookie(stranger.token), { authorization: 'Bearer dm_junk' }] as Record<string, string>[]) {
    const reply = await send('/private', headers)
    t.match(reply.json(), { statusCode: 401, code: 'DOORMAN_SESSION_INVALID', message: 'No valid session' })
    t.notOk('session-end-reason' in reply.headers, JSON.stringify(headers))
  }
})

// ---------------------------------------------------------------- reuse

t.test('R18: a replaced token that comes back is reported; by default the session goes on', async t => {
  const { app, time, send, cookie, login, events } = await setUp(t, { renewGrace: '30s' })
  const { token } = await login()
  const { token: next } = await app.sessions.rotate(token)
  const uses = () => events.filter(({ name }) => name === 'session_use_after_expire').map(({ reason, detail }) => ({ reason, detail }))
  time.now += 30_000
  t.equal((await send('/private', cookie(token))).statusCode, 401)
  t.strictSame(uses(), [{ reason: 'rotated', detail: {} }], 'may have been under way')
  time.now++
  t.equal((await send('/private', cookie(token))).statusCode, 401)
  t.strictSame(uses()[1], { reason: 'rotated', detail: { reuse: true } })
  t.equal((await send('/private', cookie(next))).statusCode, 200)
})

t.test('tokenReuse "end": the whole session ends, whatever its token is by then', async t => {
  const { app, time, send, cookie, login, events, names } = await setUp(t, { tokenReuse: 'end', renewGrace: '1s' })
  const { token: first, session } = await login()
  const { token: other } = await login()
  const { token: second } = await app.sessions.rotate(first, { grace: 60_000 })
  const { token: third } = await app.sessions.rotate(second, { grace: 1000 })
  time.now += 10_000
  t.equal((await send('/private', cookie(second))).statusCode, 401, 'past its grace, but within 10 s of its replacement')
  t.equal((await send('/private', cookie(third))).statusCode, 200)
  time.now += 20_000
  t.equal((await send('/private', cookie(first))).statusCode, 200, 'in the grace that was asked for')
  events.splice(0)
  const stolen = await send('/me', cookie(second))
  t.strictSame(stolen.json(), { user: null, refusal: 'reused', end: { reason: 'reused', at: time.now, sessionId: session.id, userId: 'ada' } })
  t.match(events, [
    { name: 'session_use_after_expire', sessionId: session.id, userId: 'ada', reason: 'rotated', detail: { reuse: true } },
    { name: 'session_ended', sessionId: session.id, userId: 'ada', reason: 'reused' }
  ])
  t.match((await send('/me', cookie(third))).json(), { refusal: 'reused' })
  t.match((await send('/me', cookie(first))).json(), { user: null }, 'its grace was for a session that is no more')
  t.equal((await send('/private', cookie(other))).statusCode, 200, 'another session of the user')
  t.equal(app.sessions.stats().ended.reused, 1)
  t.equal(names().filter(name => name === 'session_ended').length, 1)
})

t.test('tokenReuse "end": of many at once, on two instances, one ends it; then nothing is written any more', async t => {
  const url = await databaseUrl()
  const one = await setUp(t, { tokenReuse: 'end' }, { url })
  const two = await setUp(t, { tokenReuse: 'end' }, { url })
  const { token } = await one.login()
  await one.app.sessions.rotate(token)
  for (const { time } of [one, two]) time.now += 30_001
  const refusals = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await (i % 2 === 0 ? one : two).send('/me', one.cookie(token))).json<{ refusal: string }>().refusal))
  t.equal(refusals.filter(refusal => refusal === 'reused').length, 1)
  t.equal(refusals.filter(refusal => refusal === 'rotated').length, 19)
  t.strictSame([...one.events, ...two.events].filter(({ name }) => name === 'session_ended').map(({ reason }) => reason), ['reused'])
  let writes = 0
  const { storage } = one.app.database
  const { endSessions } = storage
  storage.endSessions = (...args) => {
    writes++
    return endSessions.apply(storage, args)
  }
  for (let i = 0; i < 3; i++) t.match((await one.send('/me', one.cookie(token))).json(), { refusal: 'rotated' })
  t.equal(writes, 0)

  const { token: old } = await one.login()
  await one.app.sessions.rotate(old)
  one.time.now += 24 * HOUR
  t.match((await one.send('/me', one.cookie(old))).json(), { refusal: 'rotated' })
  t.equal(writes, 0, 'nor for a session that has timed out')
})

t.test('tokenReuse "end" fails closed', async t => {
  const { app, time, send, cookie, login } = await setUp(t, { tokenReuse: 'end' })
  const { token } = await login()
  const { token: next } = await app.sessions.rotate(token)
  time.now += 30_001
  const { storage } = app.database
  const { endSessions } = storage
  storage.endSessions = async () => { throw new Error('locked') }
  t.match((await send('/private', cookie(token))).json(), { statusCode: 503, code: 'DOORMAN_SESSION_UNAVAILABLE' })
  storage.endSessions = endSessions
  t.equal((await send('/private', cookie(next))).statusCode, 200)
  t.equal((await send('/private', cookie(token))).statusCode, 401)
  t.equal((await send('/private', cookie(next))).statusCode, 401)
})

// ---------------------------------------------------------------- other sites

t.test('R32: a change that another site sends along with the cookie is refused', async t => {
  const { app, time, send, cookie, login } = await setUp(t)
  const { token, session } = await login()
  time.now += 120_000
  const change = (headers: Record<string, string>, method = 'POST', url = '/any') => send(url, { host: 'app.example', ...cookie(token), ...headers }, method)
  const foreign = { 'sec-fetch-site': 'cross-site' }
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
    const reply = await change(foreign, method)
    t.equal(reply.statusCode, 403, method)
    t.match(reply.json(), { code: 'DOORMAN_CROSS_SITE', message: 'The request came from another site' })
  }
  for (const headers of [{ 'sec-fetch-site': 'same-site' }, { origin: 'https://evil.example' }, { origin: 'null' }]) t.equal((await change(headers)).statusCode, 403, JSON.stringify(headers))
  t.equal((await change(foreign, 'POST', '/hook')).statusCode, 403, 'where the session is demanded by a hook')
  t.equal((await change({ origin: 'https://evil.example', connection: 'Upgrade', upgrade: 'websocket' }, 'GET')).statusCode, 403, 'a WebSocket')
  t.equal((await change(foreign, 'POST', '/nowhere')).statusCode, 403)
  t.equal((await app.sessions.info(session.id))?.lastActiveAt, START, 'none of that was a use of the session')
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'TRACE']) t.equal((await change(foreign, method)).statusCode, 200, method)
  for (const headers of [{}, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-site': 'none' }, { origin: 'https://app.example' }]) t.equal((await change(headers)).statusCode, 200, JSON.stringify(headers))
  t.equal((await change({ origin: 'https://app.example', connection: 'Upgrade', upgrade: 'websocket' }, 'GET')).statusCode, 200)
  t.strictSame((await change(foreign, 'POST', '/open')).json(), { user: 'ada' }, 'a route that takes it')
})

t.test('R32: nobody else is refused for it', async t => {
  const { app, send, login, cookie } = await setUp(t)
  const foreign = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
  const { token, session } = await login()
  t.strictSame((await send('/any', { ...foreign, authorization: `Bearer ${token}` }, 'POST')).json(), { user: 'ada' }, 'no browser adds a bearer token by itself')
  t.strictSame((await send('/any', foreign, 'POST')).json(), { user: null }, 'no session')
  await app.sessions.remove(session.id)
  t.strictSame((await send('/any', { ...foreign, ...cookie(token) }, 'POST')).json(), { user: null }, 'none any more')
})

t.test('R32: origins that are trusted, and no check at all', async t => {
  const { send, cookie, login } = await setUp(t, { trustedOrigins: ['https://www.app.example', 'http://localhost:5173'] })
  const { token } = await login()
  const change = (origin: string, more: Record<string, string> = {}) => send('/any', { ...cookie(token), origin, 'sec-fetch-site': 'cross-site', ...more }, 'POST')
  for (const origin of ['https://www.app.example', 'http://localhost:5173']) t.equal((await change(origin)).statusCode, 200, origin)
  for (const origin of ['http://www.app.example', 'https://app.example', 'http://localhost:5174']) t.equal((await change(origin)).statusCode, 403, origin)
  const open = await setUp(t, { crossSite: 'allow' })
  const { token: other } = await open.login()
  t.equal((await open.send('/any', { ...cookie(other), 'sec-fetch-site': 'cross-site' }, 'POST')).statusCode, 200)
})

t.test('a wrong value of config.crossSite stops the start', async t => {
  await t.rejects(setUp(t, {}, { add: app => app.post('/x', { config: { crossSite: 'refuse' as 'allow' } }, async () => '') }), { code: 'DOORMAN_OPTION_INVALID', message: /config\.crossSite of POST \/x/ })
})

// ---------------------------------------------------------------- logout

t.test('R26: a logout over HTTPS makes the browser forget what it is told to', async t => {
  const { app, send, cookie, login } = await setUp(t, { cookie: { clearSiteData: true } }, {
    add: app => app.post('/switch', async (_request, reply) => {
      app.clearSessionCookie(reply)
      const { token, session } = await app.sessions.create({ userId: 'bob' })
      app.setSessionCookie(reply, token, session)
    })
  })
  const out = async (headers: Record<string, string>, https: boolean) => (await send('/logout', { ...headers, ...cookie((await login()).token, https) }, 'POST')).headers['clear-site-data']
  t.equal(await out(HTTPS, true), '"cookies", "storage", "cache"')
  t.equal(await out({}, false), undefined, 'browsers ignore it there')
  const { headers } = await send('/switch', HTTPS, 'POST')
  t.equal(headers['clear-site-data'], undefined, 'it would take the new cookie, too')
  t.match(headers['set-cookie'], /^__Host-sid=dm_/)
  t.equal((await app.inject({ url: '/me', headers: { ...HTTPS, cookie: String(headers['set-cookie']).split(';')[0]! } })).json().user, 'bob')
  const plain = await setUp(t)
  const reply = await plain.send('/logout', { ...HTTPS, ...cookie((await plain.login()).token, true) }, 'POST')
  t.match(reply.headers['set-cookie'], /^__Host-sid=;/)
  t.notOk('clear-site-data' in reply.headers, 'off by default')
})
