/** The plugin `sessions` in a host: cookies, bearer tokens, policies of routes. */
import t, { type Test } from 'tap'
import cookiePlugin from '@fastify/cookie'
import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions } from 'fastify'
import fp from 'fastify-plugin'
import { inspect } from 'node:util'
import { createAnonymizer } from '../../lib/anonymizer.js'
import type { Database as DoormanDatabase } from '../../lib/database.js'
import { requestSession, sessionOf } from '../../lib/request-session.js'
import databasePlugin from '../../plugins/database.js'
import sessionsPlugin, { type SessionsPluginOptions } from '../../plugins/sessions.js'
import type { SessionEvent } from '../../lib/session-events.js'
import type { SessionView } from '../../lib/session-types.js'
import { createFakeStorage } from '../fake-storage.js'
import { databaseUrl, newDatabase } from '../engine.js'

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000
const DAY = 24 * HOUR
const HTTPS = { 'x-forwarded-proto': 'https' }
const FIREFOX = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0'

function routes (app: FastifyInstance) {
  app.post<{ Querystring: { user?: string } }>('/login', async (request, reply) => {
    const { token, session } = await app.sessions.create({ userId: request.query.user ?? 'ada' })
    app.setSessionCookie(reply, token, session)
    return { token, id: session.id, now: request.session?.id ?? null }
  })
  app.get('/me', async request => ({ session: request.session, refusal: request.sessionRefusal, source: request.sessionSource }))
  app.get('/private', { config: { session: 'required' } }, async request => ({ userId: request.session?.userId }))
  app.get('/fresh', { config: { session: { fresh: '5m' } } }, async () => 'fresh')
  app.get('/off', { config: { session: false } }, async request => ({ session: request.session, refusal: request.sessionRefusal, token: request.sessionToken }))
  app.post('/logout', { config: { session: 'required' } }, async (request, reply) => {
    await app.sessions.remove(request.session!.id)
    app.clearSessionCookie(reply)
    return { token: request.sessionToken?.length }
  })
  app.post('/rotate', { config: { session: 'required' } }, async (request, reply) => {
    const { token, session } = await app.sessions.rotate(request.sessionToken!)
    app.setSessionCookie(reply, token, session)
    return { current: request.sessionToken === token, source: request.sessionSource }
  })
}

interface SetUp { options?: SessionsPluginOptions, server?: FastifyServerOptions, before?: (app: FastifyInstance) => unknown, after?: (app: FastifyInstance) => unknown }

async function setUp (t: Test, { options = {}, server = {}, before, after }: SetUp = {}) {
  const time = { now: START }
  const lines: string[] = []
  const db = await newDatabase(t)
  const app = Fastify({ trustProxy: '127.0.0.1', logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } }, ...server })
  t.teardown(() => app.close())
  await app.register(databasePlugin, { url: db.url, clock: () => time.now })
  await before?.(app)
  await app.register(sessionsPlugin, options)
  routes(app)
  await after?.(app)
  await app.ready()
  const login = async (headers: Record<string, string> = {}, user = 'ada') => {
    const reply = await app.inject({ method: 'POST', url: `/login?user=${user}`, headers })
    return { ...reply.json<{ token: string, id: string }>(), cookie: String(reply.headers['set-cookie']).split(';')[0]!, reply }
  }
  const get = (url: string, headers: Record<string, string> = {}) => app.inject({ url, headers })
  const sessionRows = async () => Number((await app.database.get('SELECT count(*) AS n FROM sessions'))?.['n'])
  return { app, time, lines, db, login, get, sessionRows }
}

async function appOnFake (t: Test) {
  const storage = createFakeStorage()
  const time = { now: START }
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  const database = { storage, clock: () => time.now, random: Math.random, registerQueue () {}, sessionTimeouts: new Set() } as unknown as DoormanDatabase
  await app.register(fp(async fastify => { fastify.decorate('database', database) }, { name: 'doorman-database' }))
  return { app, storage, time, lines }
}

/** An app whose sessions are in a fake storage, for what a real one does not do on demand. */
async function setUpFake (t: Test, options: SessionsPluginOptions = {}) {
  const { app, storage, time, lines } = await appOnFake(t)
  await app.register(sessionsPlugin, options)
  routes(app)
  await app.ready()
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  return { app, storage, time, lines, token, session, headers: { cookie: `sid=${token}` } }
}

t.test('R27: over HTTPS the cookie is as safe as cookies get', async t => {
  const { login, get, lines } = await setUp(t)
  const { reply, cookie, token } = await login(HTTPS)
  t.equal(reply.headers['set-cookie'], `__Host-sid=${token}; Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax`)
  t.equal(reply.headers['cache-control'], 'no-store')
  t.equal(reply.headers['vary'], 'Cookie')
  t.ok(String(reply.headers['set-cookie']).length < 4096, 'R30')
  t.match((await get('/me', { ...HTTPS, cookie })).json(), { session: { userId: 'ada' }, refusal: null, source: 'cookie' })
  t.match((await get('/me', { ...HTTPS, cookie: `sid=${token}` })).json(), { session: null, refusal: 'missing' }, 'not under the name of plain HTTP, which anybody on the way could plant')
  t.notMatch(lines.join(''), /plain HTTP/)
})

t.test('R31: over plain HTTP the cookie works, with one warning', async t => {
  const { login, get, lines } = await setUp(t)
  const { reply, cookie, token } = await login()
  await login()
  t.equal(reply.headers['set-cookie'], `sid=${token}; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax`)
  t.equal((await get('/private', { cookie })).statusCode, 200)
  t.match(lines.filter(line => line.includes('plain HTTP')), [/without Secure and the __Host- prefix.*trustProxy/])
  t.equal(lines.filter(line => line.includes('plain HTTP')).length, 1)
})

t.test('R31: Secure over plain HTTP is warned about, and without Secure on purpose is not', async t => {
  const { login, lines } = await setUp(t, { options: { cookie: { secure: true } } })
  t.match((await login()).reply.headers['set-cookie'], /^__Host-sid=.*Secure/)
  await login()
  t.equal(lines.filter(line => line.includes('browsers drop it')).length, 1)
  const insecure = await setUp(t, { options: { cookie: { secure: false } } })
  t.notMatch((await insecure.login(HTTPS)).reply.headers['set-cookie'], /Secure/)
  t.notMatch(insecure.lines.join(''), /plain HTTP/)
})

t.test('R4, R5: a token that is not ours is never taken over', async t => {
  const { get, login, sessionRows, app } = await setUp(t)
  const { token: foreign } = await (await setUp(t)).login()
  const reply = await get('/me', { cookie: `sid=${foreign}` })
  t.match(reply.json(), { session: null, refusal: 'unknown' })
  t.notOk(reply.headers['set-cookie'])
  t.equal(await sessionRows(), 0)
  const { token } = await app.inject({ method: 'POST', url: '/login', headers: { cookie: `sid=${foreign}` } }).then(reply => reply.json<{ token: string }>())
  t.not(token, foreign)
  t.not((await login({}, 'bob')).token.slice(0, 10), token.slice(0, 10))
})

t.test('R6: hostile credentials never reach the database', async t => {
  const { app, get } = await setUp(t)
  let lookUps = 0
  const { storage } = app.database
  const { findSession } = storage
  storage.findSession = (...args) => {
    lookUps++
    return findSession.apply(storage, args)
  }
  const { token } = await app.sessions.create({ userId: 'ada' })
  const hostile = ['', 'x', 'x'.repeat(1_000_000), "' OR 1=1--", 'dm_' + 'A'.repeat(49), `${token}; sid=${token}`, `"${token}"`, `${token}x`, `%00${token}`, token.toLowerCase()]
  for (const value of hostile) {
    const reply = await get('/me', { cookie: `sid=${value}` })
    t.match(reply.json(), { session: null, refusal: 'malformed' }, value.slice(0, 30))
    t.equal((await get('/private', { cookie: `sid=${value}` })).statusCode, 401)
  }
  t.equal(lookUps, 0)
  t.match((await get('/me', { cookie: `sid=${token}` })).json(), { session: { userId: 'ada' } })
  t.equal(lookUps, 1)
})

t.test('R7: only the cookie and the bearer token count', async t => {
  const { app, login, get } = await setUp(t)
  const { token } = await login()
  app.log.level = 'silent'
  t.match((await get(`/me?sid=${token}&token=${token}&access_token=${token}`)).json(), { session: null, refusal: 'missing' })
  t.match((await get('/me', { 'x-session': token, authorization: `Basic ${token}` })).json(), { session: null, refusal: 'missing' })
  t.match((await get('/me', { authorization: `Bearer ${token}` })).json(), { session: { userId: 'ada' }, source: 'bearer' })
  t.match((await get('/me', { authorization: 'Bearer key-of-the-host' })).json(), { session: null, refusal: 'missing' })
  t.match((await get('/me', { authorization: 'Bearer dm_junk' })).json(), { session: null, refusal: 'malformed' })
  const login2 = await app.inject({ method: 'POST', url: '/login', payload: { sid: token } })
  t.not(login2.json<{ token: string }>().token, token)
})

t.test('bearer: false leaves the header to the host', async t => {
  const { login, get } = await setUp(t, { options: { bearer: false } })
  const { token } = await login()
  const reply = await get('/private', { authorization: `Bearer ${token}` })
  t.equal(reply.statusCode, 401)
  t.notOk(reply.headers['www-authenticate'])
})

t.test('R2, R8: the token is in no file, reply or log', async t => {
  const { app, login, get, lines, db } = await setUp(t, {
    after: app => {
      app.get('/log', async request => {
        request.log.info({ session: request.session, req: request, stats: app.sessions.stats() }, 'everything')
        request.log.error(new Error(inspect(request.session)))
        return { list: await app.sessions.list(), session: request.session }
      })
    }
  })
  const { token, cookie } = await login()
  const secret = token.slice(3, 46)
  const replies = [await get('/log', { cookie }), await get('/me', { cookie }), await get('/private', { cookie }), await get('/off', { cookie })]
  await app.database.flush()
  const forms = [token, secret, Buffer.from(secret, 'base64url').toString('hex'), Buffer.from(secret, 'base64url').toString('base64')]
  t.equal(await db.contains('ada'), true)
  for (const form of forms) {
    t.notOk(await db.contains(form) || await db.contains(form.toUpperCase()), 'stored')
    t.notOk(lines.join('').includes(form), 'log')
    t.notOk(replies.map(reply => reply.body).join('').includes(form), 'replies')
  }
  t.notOk(await db.contains(Buffer.from(secret, 'base64url')), 'stored as bytes')
})

t.test('R8: the token is invisible to JSON and inspect of a request', async t => {
  const { login, get } = await setUp(t, {
    after: app => {
      app.get('/shown', async request => {
        const state = request[requestSession]
        return { keys: Object.keys(request), shown: inspect(state, { depth: 5, showHidden: true }) + JSON.stringify(state), length: request.sessionToken?.length }
      })
    }
  })
  const { cookie, token } = await login()
  const { keys, shown, length } = (await get('/shown', { cookie })).json<{ keys: string[], shown: string, length: number }>()
  t.equal(length, token.length)
  t.notOk(keys.some(key => key.startsWith('session')))
  t.ok(shown.includes('RequestSession'))
  t.notOk(shown.includes(token))
})

t.test('R11: anonymous traffic leaves nothing behind', async t => {
  const { app, get, sessionRows } = await setUp(t)
  for (let i = 0; i < 100; i++) {
    const reply = await get('/me')
    if (reply.headers['set-cookie'] !== undefined || reply.headers['cache-control'] !== undefined) return t.fail('a header for nobody')
  }
  t.equal((await get('/nowhere')).statusCode, 404)
  t.equal(await sessionRows(), 0)
  t.match(app.sessions.stats(), { created: 0, refused: { missing: 101 } })
})

t.test('routes say what they ask of the session', async t => {
  const { app, login, get, time } = await setUp(t)
  t.match((await get('/me')).json(), { session: null, refusal: 'missing', source: null })
  const anonymous = await get('/private')
  t.equal(anonymous.statusCode, 401)
  t.match(anonymous.json(), { code: 'DOORMAN_SESSION_INVALID' })
  t.equal(anonymous.headers['www-authenticate'], 'Bearer')
  t.equal(anonymous.headers['cache-control'], 'no-store', 'R33')
  t.equal(anonymous.headers['vary'], 'Cookie')
  const { cookie } = await login()
  t.same((await get('/private', { cookie })).json(), { userId: 'ada' })
  t.same((await get('/off', { cookie })).json(), { session: null, refusal: null, token: null })
  t.equal(app.sessions.stats().refused.missing, 3)
  t.equal((await get('/fresh', { cookie })).statusCode, 200)
  time.now += 5 * 60_000
  const stale = await get('/fresh', { cookie })
  t.equal(stale.statusCode, 403)
  t.match(stale.json(), { code: 'DOORMAN_SESSION_NOT_FRESH' })
  t.equal((await get('/private', { cookie })).statusCode, 200, 'R22: only what asks for it')
  t.match((await get('/fresh')).json(), { code: 'DOORMAN_SESSION_INVALID' })
  t.match((await get('/nowhere', { cookie })).json(), { statusCode: 404 })
})

t.test('wrong values of config.session stop the start', async t => {
  const { app } = await setUp(t, {
    before: app => { app.get('/unchecked', { config: { session: 'sometimes' as 'optional' } }, async () => '') }
  })
  const late = await app.inject('/unchecked')
  t.equal(late.statusCode, 500, 'a route from before the plugin is checked when it is used')
  const { app: other } = await appOnFake(t)
  await other.register(sessionsPlugin)
  t.throws(() => other.get('/x', { config: { session: 'require' as 'required' } }, async () => ''), { code: 'DOORMAN_OPTION_INVALID', message: /config\.session of GET \/x/ })
})

t.test('R12, R13: refusals to clients say expired or invalid, the host knows more', async t => {
  const { app, login, get, time } = await setUp(t)
  const { cookie, id } = await login()
  const { cookie: other } = await login()
  time.now = START + DAY - 1
  t.equal((await get('/me', { cookie })).json<{ refusal: null }>().refusal, null)
  await app.database.flush()
  time.now++
  t.equal((await get('/private', { cookie })).statusCode, 200, 'used a moment ago')
  t.match((await get('/private', { cookie: other })).json(), { statusCode: 401, code: 'DOORMAN_SESSION_EXPIRED', message: 'The session has expired' })
  t.match((await get('/me', { cookie: other })).json(), { session: null, refusal: 'idle' })
  await app.sessions.remove(id)
  const revoked = await get('/private', { cookie })
  t.match(revoked.json(), { statusCode: 401, code: 'DOORMAN_SESSION_INVALID', message: 'No valid session' })
  t.notOk(revoked.headers['set-cookie'], 'a parallel reply may just have set a new one')
  t.match((await get('/me', { cookie })).json(), { session: null, refusal: 'revoked' })
})

t.test('R26: logout ends the session and clears the cookie with the same attributes', async t => {
  const { app, login, get } = await setUp(t, { options: { cookie: { domain: 'example.com', sameSite: 'strict' } } })
  const { cookie, reply } = await login(HTTPS)
  t.match(reply.headers['set-cookie'], /^__Secure-sid=.*; Domain=example\.com; Path=\/; HttpOnly; Secure; SameSite=Strict$/)
  const logout = await app.inject({ method: 'POST', url: '/logout', headers: { ...HTTPS, cookie } })
  t.equal(logout.headers['set-cookie'], '__Secure-sid=; Max-Age=0; Domain=example.com; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=Strict')
  t.equal(logout.headers['cache-control'], 'no-store')
  t.match(logout.json(), { token: 52 })
  t.match((await get('/private', { ...HTTPS, cookie })).json(), { code: 'DOORMAN_SESSION_INVALID' })
})

t.test('R33: what the host says about caching is left alone', async t => {
  const { login, get } = await setUp(t, {
    before: app => {
      app.addHook('onRequest', (request, reply, done) => {
        if (request.url.startsWith('/set')) reply.header('cache-control', 'private, max-age=5').header('vary', request.url === '/set/star' ? '*' : 'Accept-Encoding')
        if (request.url === '/set/list') reply.header('vary', 'X-Cookie-Consent')
        if (request.url === '/set/cookie') reply.header('vary', ['Accept', 'cookie'].join(', '))
        done()
      })
      app.get('/set/*', async () => '')
    }
  })
  const { cookie } = await login()
  const headers = async (url: string) => { const { headers } = await get(url, { cookie }); return [headers['cache-control'], headers['vary']] }
  t.same(await headers('/set/a'), ['private, max-age=5', 'Accept-Encoding, Cookie'])
  t.same(await headers('/set/star'), ['private, max-age=5', '*'])
  t.same(await headers('/set/cookie'), ['private, max-age=5', 'Accept, cookie'])
  t.same(await headers('/set/list'), ['private, max-age=5', 'X-Cookie-Consent, Cookie'])
  t.same(await headers('/me'), ['no-store', 'Cookie'])
})

t.test('wherever the session is looked at the reply varies by cookie, also for those who sent none', async t => {
  const { app, get } = await setUp(t, {
    before: app => {
      app.addHook('onRequest', (request, reply, done) => {
        if (request.url === '/empty') reply.header('vary', '')
        if (request.url === '/origin') reply.header('vary', ['Origin', 'Accept'] as unknown as string)
        done()
      })
      app.get('/empty', async () => '')
      app.get('/origin', async () => '')
    }
  })
  const seen = async (url: string) => { const { headers } = await get(url); return [headers['vary'], headers['cache-control']] }
  t.same(await seen('/me'), ['Cookie', undefined], 'a shared cache may keep it, for others without a cookie')
  t.same(await seen('/empty'), ['Cookie', undefined])
  t.same(await seen('/origin'), ['Origin,Accept, Cookie', undefined])
  t.same(await seen('/private'), ['Cookie', 'no-store'])
  t.same(await seen('/off'), [undefined, undefined], 'does not depend on it')
  t.equal((await app.inject({ url: '/me', headers: { cookie: 'other=1' } })).headers['vary'], 'Cookie')
})

t.test('what a request knows of its client goes into a session as it is, undefined included', async t => {
  const { app } = await setUp(t, {
    before: app => {
      app.post('/as-documented', async request => {
        const client = { ip: request.clientAddress, userAgent: request.headers['user-agent'] }
        return (await app.sessions.create({ userId: 'ada', ...client })).session
      })
    }
  })
  t.match((await app.inject({ method: 'POST', url: '/as-documented', headers: { 'user-agent': '' } })).json(), { ip: null, userAgent: null })
  t.match(await app.sessions.create({ userId: 'ada', ip: undefined, userAgent: undefined }), { session: { ip: null, userAgent: null } })
})

t.test('R41: new devices are told of, and of truncated addresses nothing finer is stored', async t => {
  const anonymizer = createAnonymizer({ mode: 'truncate', clock: () => START })
  const { app, db } = await setUp(t, {
    after: app => { app.decorate('ipTracking', { anonymize: anonymizer.apply } as unknown as typeof app.ipTracking) }
  })
  const news: SessionEvent[] = []
  app.sessions.on('session_new_device', event => news.push(event))
  const login = (ip: string, userAgent = FIREFOX) => app.sessions.create({ userId: 'ada', ip, userAgent })
  await login('192.0.2.177')
  await login('192.0.2.99', FIREFOX.replaceAll('128', '129'))
  await login('2001:db8:1:2:a8d3:15ff:fe3c:77d1')
  await login('2001:db8:1:2:b000::1')
  await login('192.0.2.177', 'curl/8.5.0')
  t.strictSame(news.map(({ detail }) => detail), [
    { device: 'Firefox on Windows', network: '2001:db8:1::/64', newDevice: false, newNetwork: true },
    { device: 'curl', network: '192.0.2.0/24', newDevice: true, newNetwork: false }
  ])
  t.match((await app.sessions.devices('ada')).map(({ device, network, sessions }) => [device, network, sessions]).sort(), [
    ['Firefox on Windows', '192.0.2.0/24', 2], ['Firefox on Windows', '2001:db8:1::/64', 2], ['curl', '192.0.2.0/24', 1]
  ])
  t.ok(await db.contains('2001:db8:1::/64'))
  for (const text of ['192.0.2.177', '192.0.2.99', '2001:db8:1:2', 'a8d3']) t.notOk(await db.contains(text), text)
})

t.test('devices: false remembers none', async t => {
  const { app, db } = await setUp(t, { options: { devices: false } })
  app.sessions.on('session_new_device', () => t.fail())
  for (const ip of ['192.0.2.1', '198.51.100.1']) await app.sessions.create({ userId: 'ada', ip, userAgent: FIREFOX })
  t.strictSame(await app.sessions.devices('ada'), [])
  t.strictSame(await db.look('SELECT * FROM session_devices'), [])
})

t.test('logging in and rotating change the session of the request', async t => {
  const { app, login, get } = await setUp(t)
  const { cookie, reply, id } = await login()
  t.match(reply.json(), { now: id })
  const rotated = await app.inject({ method: 'POST', url: '/rotate', headers: { cookie } })
  t.same(rotated.json(), { current: true, source: 'cookie' })
  t.equal((await get('/private', { cookie })).statusCode, 401, 'R10')
  const next = String(rotated.headers['set-cookie']).split(';')[0]!
  t.equal((await get('/private', { cookie: next })).statusCode, 200)
  const bearer = await app.inject({ method: 'POST', url: '/rotate', headers: { authorization: `Bearer ${next.slice(4)}` } })
  t.same(bearer.json(), { current: true, source: 'bearer' })
})

t.test('a session opened for somebody else is not the request\'s', async t => {
  const { app } = await setUp(t, {
    before: app => {
      app.post('/open', { config: { session: false } }, async (request, reply) => {
        const { token, session } = await app.sessions.create({ userId: 'ada' })
        app.setSessionCookie(reply, token, session)
        return { session: request.session }
      })
    }
  })
  const reply = await app.inject({ method: 'POST', url: '/open' })
  t.same(reply.json(), { session: null })
  t.match(reply.headers['set-cookie'], /^sid=dm_/)
})

t.test('R15: 20 parallel requests with an old token all pass, and one gets a new token', async t => {
  const { app, login, get, time } = await setUp(t, { options: { renewAfter: '1h', renewGrace: '30s' } })
  const { cookie, token } = await login()
  time.now = START + HOUR
  t.equal((await get('/private', { authorization: `Bearer ${token}` })).headers['set-cookie'], undefined, 'a bearer token is never replaced behind the client\'s back')
  const replies = await Promise.all(Array.from({ length: 20 }, () => get('/private', { cookie })))
  t.ok(replies.every(reply => reply.statusCode === 200))
  const cookies = replies.map(reply => reply.headers['set-cookie']).filter(Boolean)
  t.equal(cookies.length, 1)
  t.equal(app.sessions.stats().renewed, 1)
  const next = String(cookies[0]).split(';')[0]!
  t.equal((await get('/private', { cookie: next })).statusCode, 200)
  time.now += 29_999
  const inGrace = await get('/private', { cookie })
  t.equal(inGrace.statusCode, 200)
  t.notOk(inGrace.headers['set-cookie'])
  time.now++
  t.match((await get('/me', { cookie })).json(), { session: null, refusal: 'rotated' })
  t.equal((await get('/private', { cookie: next })).statusCode, 200)
})

t.test('a renewal that fails leaves the token in hand good', async t => {
  const { app, storage, time, headers, lines } = await setUpFake(t, { renewAfter: '1h' })
  time.now += HOUR
  storage.failing['rotateSession'] = new Error('locked')
  const reply = await app.inject({ url: '/private', headers })
  t.equal(reply.statusCode, 200)
  t.notOk(reply.headers['set-cookie'])
  t.match(lines.join(''), 'could not be renewed')
})

t.test('renewals that go on failing are tried now and then, and reported once a minute', async t => {
  const { app, storage, time, headers, lines } = await setUpFake(t, { renewAfter: '1h' })
  time.now += HOUR
  storage.failing['rotateSession'] = new Error('locked')
  const seconds = async (n: number) => {
    for (let i = 0; i < n; i++) {
      t.equal((await app.inject({ url: '/private', headers })).statusCode, 200)
      time.now += 1000
    }
  }
  await seconds(60)
  const reports = () => lines.filter(line => line.includes('could not be renewed')).map(line => (JSON.parse(line) as { failures: number }).failures)
  t.equal(storage.calls['rotateSession'], 12, 'every 5 s')
  t.same(reports(), [1])
  await seconds(1)
  t.same(reports(), [1, 12])
})

t.test('while another program holds the write lock, a renewal does not hold up the request', async t => {
  const { app, time, db, login, get, lines } = await setUp(t, { options: { renewAfter: '1h' } })
  const { cookie } = await login()
  time.now += HOUR
  let asked = 0
  const { storage } = app.database
  const { rotateSession } = storage
  storage.rotateSession = params => {
    asked++
    return rotateSession.call(storage, params)
  }
  const lock = await db.lock('main')
  const start = performance.now()
  for (let i = 0; i < 5; i++) {
    const reply = await get('/private', { cookie })
    t.equal(reply.statusCode, 200)
    t.notOk(reply.headers['set-cookie'])
  }
  t.ok(performance.now() - start < 3000, 'far from the lock wait of 10 s')
  t.equal(asked, 1, 'one request waited, not every one')
  t.match(lines.filter(line => line.includes('could not be renewed')), [/DOORMAN_STORAGE_BUSY/])
  await lock.release()
  time.now += 4999
  t.notOk((await get('/private', { cookie })).headers['set-cookie'], 'nothing happened behind the back of the request')
  time.now++
  const renewed = await get('/private', { cookie })
  t.match(renewed.headers['set-cookie'], /^sid=dm_/)
  t.equal((await get('/private', { cookie: String(renewed.headers['set-cookie']).split(';')[0]! })).statusCode, 200)
  t.equal(app.sessions.stats().renewed, 1)
})

t.test('no renewal where the reply may never carry the cookie', async t => {
  const { app, time, headers, storage } = await setUpFake(t, { renewAfter: '1h' })
  time.now += HOUR
  const streams = [{ upgrade: 'websocket', connection: 'Upgrade' }, { accept: 'text/event-stream' }, { accept: 'Text/Event-Stream, */*' }]
  for (const stream of streams) {
    const reply = await app.inject({ url: '/private', headers: { ...headers, ...stream } })
    t.equal(reply.statusCode, 200)
    t.notOk(reply.headers['set-cookie'])
  }
  t.equal(storage.calls['rotateSession'], undefined)
  t.ok((await app.inject({ url: '/private', headers: { ...headers, accept: 'text/html, */*' } })).headers['set-cookie'])
})

t.test('a renewal that another process has made', async t => {
  const { app, storage, time, headers } = await setUpFake(t, { renewAfter: '1h' })
  time.now += HOUR
  storage.rotateSession = async () => false
  const reply = await app.inject({ url: '/private', headers })
  t.equal(reply.statusCode, 200)
  t.notOk(reply.headers['set-cookie'])
})

t.test('R42: sessions that cannot be read are 503 on every route that looks at them', async t => {
  const { app, storage, headers } = await setUpFake(t)
  storage.failing['findSession'] = new Error('SELECT secrets FROM /var/lib/x.db')
  for (const asynchronous of [false, true]) {
    storage.asynchronous = asynchronous
    for (const url of ['/me', '/private']) {
      const reply = await app.inject({ url, headers })
      t.equal(reply.statusCode, 503)
      t.match(reply.json(), { code: 'DOORMAN_SESSION_UNAVAILABLE' })
      t.notMatch(reply.body, /SELECT|var/, 'R43')
    }
  }
  t.equal((await app.inject({ url: '/off', headers })).statusCode, 200)
  t.equal((await app.inject('/me')).statusCode, 200, 'nobody asked')
})

t.test('an engine that answers later', async t => {
  const { app, storage, headers } = await setUpFake(t)
  storage.asynchronous = true
  t.same((await app.inject({ url: '/private', headers })).json(), { userId: 'ada' })
  t.equal((await app.inject({ url: '/private', headers: { cookie: 'sid=x' } })).statusCode, 401)
})

t.test('requireSession and requireFresh as hooks', async t => {
  const { app, login, get, time } = await setUp(t, {
    options: { autoValidate: false, freshness: '10m' },
    before: app => {
      const late = (name: 'requireSession' | 'fresh5' | 'fresh') => (request: Parameters<typeof app.requireSession>[0], reply: Parameters<typeof app.requireSession>[1], done: (error?: Error) => void) => {
        const hook = name === 'requireSession' ? app.requireSession : name === 'fresh' ? app.requireFresh() : app.requireFresh('5m')
        hook.call(app, request, reply, done)
      }
      app.get('/hook', { preHandler: late('requireSession') }, async request => ({ userId: request.session?.userId }))
      app.get('/hook/5', { onRequest: [late('requireSession'), late('fresh5')] }, async () => '')
      app.get('/hook/10', { onRequest: late('fresh') }, async () => '')
      app.get('/optional', { config: { session: 'optional' } }, async request => ({ userId: request.session?.userId }))
    }
  })
  const { cookie } = await login()
  t.same((await get('/me', { cookie })).json(), { session: null, refusal: null, source: null }, 'not looked at by itself')
  t.same((await get('/optional', { cookie })).json(), { userId: 'ada' })
  t.same((await get('/hook', { cookie })).json(), { userId: 'ada' })
  t.equal((await get('/hook')).statusCode, 401)
  t.equal((await get('/hook/5', { cookie })).statusCode, 200)
  time.now += 5 * 60_000
  t.equal((await get('/hook/5', { cookie })).statusCode, 403)
  t.equal((await get('/hook/10', { cookie })).statusCode, 200)
  time.now += 5 * 60_000
  t.equal((await get('/hook/10', { cookie })).statusCode, 403)
  t.throws(() => app.requireFresh('soon'), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('another name for request.session', async t => {
  const { login, get } = await setUp(t, {
    options: { decoratorName: 'visitor' },
    after: app => {
      app.get('/visitor', async request => {
        const { visitor } = request as unknown as { visitor: SessionView | null }
        return { same: visitor === sessionOf(request), userId: visitor === null ? null : visitor.userId, session: 'session' in request }
      })
    }
  })
  const { cookie } = await login()
  t.same((await get('/visitor', { cookie })).json(), { same: true, userId: 'ada', session: false })
  t.same((await get('/visitor')).json(), { same: true, userId: null, session: false })
})

t.test('address and user agent of a request are recorded, throttled, and never lost by a close', async t => {
  const url = await databaseUrl()
  const time = { now: START }
  const build = async () => {
    const app = Fastify()
    await app.register(databasePlugin, { url, clock: () => time.now })
    await app.register(sessionsPlugin)
    routes(app)
    return app
  }
  const app = await build()
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  const use = (app: FastifyInstance, options: InjectOptions = {}) => app.inject({ url: '/me', remoteAddress: '192.0.2.7', headers: { cookie: `sid=${token}`, 'user-agent': FIREFOX }, ...options })
  time.now += 60_000
  await use(app)
  await use(app)
  t.match(await app.sessions.info(session.id), { lastActiveAt: time.now, lastIp: '192.0.2.7' })
  await app.close()
  const next = await build()
  t.teardown(() => next.close())
  t.match(await next.sessions.info(session.id), { lastActiveAt: time.now, lastIp: '192.0.2.7', flagged: false })
  t.match((await use(next, { headers: { cookie: `sid=${token}`, 'user-agent': 'curl/8.5.0' } })).json(), { session: { flagged: true } }, 'R41')
  t.equal((await next.database.stats()).queues['touches']?.pushed, 1)
})

t.test('the address of the IP tracking goes before Fastify\'s', async t => {
  const { app, login, get } = await setUp(t, {
    before: app => {
      app.decorateRequest('clientAddress', null)
      app.addHook('onRequest', (request, _reply, done) => {
        request.clientAddress = request.headers['x-test'] === 'none' ? null : '203.0.113.5'
        done()
      })
      app.decorate('ipTracking', { anonymize: (address: string) => address.replace(/\d+$/, '0') } as unknown as typeof app.ipTracking)
    }
  })
  const { cookie, id } = await login()
  await app.inject({ url: '/me', headers: { cookie } })
  t.equal((await app.sessions.info(id))?.lastIp, null, 'too soon')
  t.match(await app.sessions.create({ userId: 'bob', ip: '192.0.2.77' }), { session: { ip: '192.0.2.0' } }, 'anonymised like the log')
  t.match((await get('/me', { cookie, 'x-test': 'none' })).json(), { session: { flagged: false } })
})

t.test('without any address, as on a unix socket, and without a user agent', async t => {
  const { app, headers } = await setUpFake(t)
  const plain = Fastify()
  t.teardown(() => plain.close())
  plain.addHook('onRequest', (request, _reply, done) => {
    Object.defineProperty(request, 'ip', { value: undefined })
    delete request.raw.headers['user-agent']
    done()
  })
  await plain.register(fp(async fastify => { fastify.decorate('database', app.database) }, { name: 'doorman-database' }))
  await plain.register(sessionsPlugin, { touchInterval: 0 })
  routes(plain)
  t.match((await plain.inject({ url: '/me', headers })).json(), { session: { lastIp: null } })
})

for (const when of ['before', 'after'] as const) {
  t.test(`a cookie plugin of the host, registered ${when}: both set their cookies`, async t => {
    const register = (app: FastifyInstance) => app.register(cookiePlugin, { secret: 'a-secret-of-the-host-32-characters', parseOptions: { domain: 'example.org', signed: true, partitioned: true } })
    const both = (app: FastifyInstance) => app.post('/both', async (request, reply) => {
      reply.setCookie('theirs', 'x')
      const { token, session } = await app.sessions.create({ userId: 'ada' })
      app.setSessionCookie(reply, token, session)
      return { theirs: request.cookies['theirs'] ?? null, token }
    })
    const { app, login } = await setUp(t, when === 'before' ? { before: register, after: both } : { after: async app => { await register(app); both(app) } })
    const { reply, token, cookie } = await login(HTTPS)
    t.match(reply.headers['set-cookie'], `__Host-sid=${token}; Max-Age=2592000`)
    t.notMatch(reply.headers['set-cookie'], /Domain|Partitioned/i, 'its defaults have no say in ours')
    t.equal((await app.inject({ url: '/private', headers: { ...HTTPS, cookie } })).statusCode, 200)
    const set = await app.inject({ method: 'POST', url: '/both', headers: { ...HTTPS, cookie: 'theirs=y' } })
    t.match(set.headers['set-cookie'], [`__Host-sid=${set.json().token}; Max-Age`, /^theirs=x/])
  })
}

t.test('of several session cookies in one reply the last one is sent, beside those of the host', async t => {
  const { app } = await setUp(t, {
    after: app => app.post('/busy', async (_request, reply) => {
      reply.header('set-cookie', 'sids=1')
      const { token, session } = await app.sessions.create({ userId: 'ada' })
      app.setSessionCookie(reply, token, session)
      app.clearSessionCookie(reply)
      reply.header('set-cookie', 'other=2')
      const { token: last } = await app.sessions.rotate(token)
      app.setSessionCookie(reply, last, session)
      return { last }
    })
  })
  const reply = await app.inject({ method: 'POST', url: '/busy' })
  t.match(reply.headers['set-cookie'], ['sids=1', 'other=2', `sid=${reply.json().last}; Max-Age`])
  t.equal(reply.headers['set-cookie']?.length, 3)
})

t.test('listeners that fail are logged, the request goes on', async t => {
  const { app, login, lines } = await setUp(t)
  app.sessions.on('session_created', () => { throw new Error('listener') })
  t.equal((await login()).reply.statusCode, 200)
  t.match(lines.join(''), 'a listener of a session event failed')
})

t.test('wrong registrations stop the start', async t => {
  await t.rejects(async () => { await Fastify().register(sessionsPlugin) }, { code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED', message: /doorman-database/ })
  const base = async (t: Test, options: object, before?: (app: FastifyInstance) => void) => {
    const { app } = await appOnFake(t)
    before?.(app)
    await app.register(sessionsPlugin, options)
    return app
  }
  t.test('twice', async t => {
    const app = await base(t, {})
    await t.rejects(async () => { await app.register(sessionsPlugin) }, { code: 'DOORMAN_ALREADY_REGISTERED', message: /doorman-sessions/ })
  })
  const wrong: [object, RegExp][] = [
    [{ cokie: {} }, /sessions\.cokie.*did you mean "cookie"/],
    [{ cookie: { secure: 'yes' } }, /sessions\.cookie\.secure/],
    [{ cookie: { name: '__Host-a', path: '/x' } }, /sessions\.cookie\.path/],
    [{ idleTimeout: '2d', absoluteTimeout: '1d' }, /sessions\.absoluteTimeout/],
    [{ decoratorName: 'ip' }, /sessions\.decoratorName.*no other plugin/],
    [{ decoratorName: '' }, /sessions\.decoratorName/]
  ]
  for (const [options, message] of wrong) {
    t.test(JSON.stringify(options), async t => {
      await t.rejects(base(t, options), { message, code: /^DOORMAN_OPTION/ })
    })
  }
  t.test('a name that is taken', async t => {
    await t.rejects(base(t, {}, app => { app.decorateRequest('session', null as never) }), { message: /sessions\.decoratorName.*"session"/ })
  })
})

t.test('options of the caller are left alone, and two instances do not know of each other', async t => {
  const options = Object.freeze({ idleTimeout: '1h', cookie: Object.freeze({ name: 'a' }) })
  const one = await setUp(t, { options })
  const two = await setUp(t, { options })
  const { cookie } = await one.login()
  t.equal((await one.get('/private', { cookie })).statusCode, 200)
  t.equal((await two.get('/private', { cookie })).statusCode, 401)
})
