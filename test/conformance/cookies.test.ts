/** R27 to R33: the cookie as browsers are told it, requests from other sites, and caches. */
import t from 'tap'
import type { SessionCookieOptions } from '../../index.js'
import { connect } from '../helpers/raw-http.js'
import { KEY, startApi } from '../routes/helper.js'
import { DAY, HTTPS, readCookie, registerSessions, START, startApp } from './helper.js'

t.test('R27: by default the cookie is Secure, HttpOnly, SameSite=Lax, for this host only, with the __Host- prefix', async t => {
  const { login } = await startApp(t)
  const { reply, token } = await login(HTTPS)
  t.strictSame(readCookie(reply.headers['set-cookie']), {
    name: '__Host-sid',
    value: token,
    attributes: { 'max-age': '2592000', path: '/', httponly: undefined, secure: undefined, samesite: 'lax' }
  })
})

t.test('R27: what browsers would refuse, or what is less safe than its name says, stops the start', async t => {
  const wrong: [SessionCookieOptions, RegExp][] = [
    [{ name: '__Host-sid', domain: 'example.org' }, /cookie\.domain/],
    [{ name: '__Host-sid', path: '/app' }, /cookie\.path/],
    [{ name: '__Host-sid', secure: false }, /cookie\.secure/],
    [{ name: '__Secure-sid', secure: false }, /cookie\.secure/],
    [{ sameSite: 'none' }, /cookie\.sameSite/],
    [{ sameSite: 'none', secure: false }, /cookie\.sameSite/],
    [{ name: 'a b' }, /cookie\.name/],
    [{ domain: 'example.org; Path=/x' }, /cookie\.domain/],
    [{ path: '/; HttpOnly' }, /cookie\.path/],
    [{ httpOnly: false } as SessionCookieOptions, /httpOnly/]
  ]
  for (const [cookie, message] of wrong) {
    await t.rejects(registerSessions({ cookie }), { code: /^DOORMAN_OPTION_/, message }, JSON.stringify(cookie))
  }
  const { login } = await startApp(t, { sessions: { cookie: { domain: 'example.org', path: '/app' } } })
  t.match(readCookie((await login(HTTPS)).reply.headers['set-cookie']), { name: '__Secure-sid', attributes: { domain: 'example.org', path: '/app' } }, 'shared with other hosts it has the other prefix')
})

t.test('R28: neither the cookie nor a reply says what made it', async t => {
  const { send, login } = await startApi(t, { TRUST_PROXY: 'loopback' })
  const { token } = await login()
  const replies = [await send('POST', '/session/rotate', undefined, { ...HTTPS, cookie: `__Host-sid=${token}` }), await send('GET', '/session'), await send('GET', '/nowhere')]
  t.equal(readCookie(replies[0]!.headers['set-cookie']).name, '__Host-sid')
  for (const { headers } of replies) {
    t.notMatch(Object.keys(headers).join(), /x-powered-by|server(?!-)/i)
    t.notMatch(JSON.stringify({ ...headers, 'set-cookie': readCookie(headers['set-cookie']).name }), /doorman|fastify|connect\.sid|express/i)
  }
})

t.test('R29: the cookie ends no later than the session and within 400 days, and the server does not rely on it', async t => {
  const longest = await startApp(t, { sessions: { absoluteTimeout: '400d', idleTimeout: '400d' } })
  t.equal(readCookie((await longest.login()).reply.headers['set-cookie']).attributes['max-age'], String(400 * 86_400))
  await t.rejects(registerSessions({ absoluteTimeout: '401d' }), { code: 'DOORMAN_OPTION_INVALID' })

  const { app, login, get, time } = await startApp(t, {
    sessions: { idleTimeout: '1d', absoluteTimeout: '1d' },
    routes: app => app.post('/rotate', { config: { session: 'required' } }, async (request, reply) => {
      const { token, session } = await app.sessions.rotate(request.sessionToken!)
      app.setSessionCookie(reply, token, session)
    })
  })
  const { cookie, id } = await login()
  time.now = START + DAY - 1500
  const rotated = await app.inject({ method: 'POST', url: '/rotate', headers: { cookie } })
  const { value, attributes } = readCookie(rotated.headers['set-cookie'])
  const { expiresAt } = (await app.sessions.info(id))!
  t.strictSame([attributes['max-age'], expiresAt - time.now], ['1', 1500], 'rounded down to seconds')
  time.now = START + DAY
  t.equal((await get('/private', { cookie: `sid=${value}` })).statusCode, 401, 'a client that keeps it longer has nothing of it')
})

t.test('R30: name and value are far below 4096 bytes, whatever the options', async t => {
  const longest = 'n'.repeat(100)
  const { login } = await startApp(t, { sessions: { cookie: { name: longest } } })
  const { name, value } = readCookie((await login()).reply.headers['set-cookie'])
  t.equal(name, longest)
  t.equal(Buffer.byteLength(name + value), 152)
  await t.rejects(registerSessions({ cookie: { name: `${longest}n` } }), { code: 'DOORMAN_OPTION_INVALID' }, 'no longer name is accepted')
})

t.test('R31: plain HTTP is warned about once with the remedy, and never loses the cookie silently', async t => {
  const warnings = (lines: string[]) => lines.filter(line => /plain HTTP/.test(line))
  const auto = await startApp(t)
  for (let i = 0; i < 3; i++) t.match(readCookie((await auto.login()).reply.headers['set-cookie']), { name: 'sid' }, 'under a name that browsers keep')
  t.match(warnings(auto.lines), [/without Secure and the __Host- prefix.*Serve HTTPS.*trustProxy/])
  t.equal(warnings(auto.lines).length, 1)

  const always = await startApp(t, { sessions: { cookie: { secure: true } } })
  for (let i = 0; i < 3; i++) t.ok('secure' in readCookie((await always.login()).reply.headers['set-cookie']).attributes)
  t.match(warnings(always.lines), [/browsers drop it.*cookie\.secure to \\?"auto\\?" or false/])
  t.equal(warnings(always.lines).length, 1)

  const insecure = await startApp(t, { sessions: { cookie: { secure: false } } })
  t.notOk('secure' in readCookie((await insecure.login(HTTPS)).reply.headers['set-cookie']).attributes)
  t.strictSame(warnings(insecure.lines), [], 'said on purpose')

  const untrusted = await startApp(t, { server: { trustProxy: '10.0.0.1' } })
  t.equal(readCookie((await untrusted.login(HTTPS)).reply.headers['set-cookie']).name, 'sid', 'a client that is no trusted proxy cannot claim HTTPS')
})

const FOREIGN: Record<string, string>[] = [{ 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'https://evil.example' }, { origin: 'null' }, { origin: 'https://localhost.evil.example' }]

t.test('R32: no GET of the API changes anything, and changes with a cookie are refused from other sites', async t => {
  const { app, send, login, admin } = await startApi(t)
  const { paths } = (await admin('GET', '/docs/json')).body as { paths: Record<string, Record<string, unknown>> }
  const { token, session } = await login()
  const before = await app.sessions.info(session.id)
  const cookie = `sid=${token}`
  const gets = Object.entries(paths).filter(([, methods]) => 'get' in methods).map(([url]) => url.replace(/\{\w+\}/g, session.id))
  t.ok(gets.length > 10)
  for (const url of gets) {
    for (const method of ['GET', 'HEAD'] as const) {
      await app.inject({ method, url, headers: { cookie } })
      await app.inject({ method, url, headers: { authorization: `Bearer ${KEY}` } })
    }
  }
  t.same(await app.sessions.info(session.id), before)
  const left = ['/admin/sessions', '/admin/blocks', '/admin/cleanup'].map(async url => (await admin('GET', url)).body.items.length as number)
  t.strictSame(await Promise.all(left), [1, 0, 0])

  const changes: [string, string, object?][] = [
    ['PATCH', '/session', { data: {} }], ['POST', '/session/rotate'], ['DELETE', '/session'], ['DELETE', '/sessions'], ['DELETE', `/sessions/${session.id}`]
  ]
  const ofSessions = Object.entries(paths).filter(([url]) => /^\/sessions?(\/|$)/.test(url)).flatMap(([, methods]) => Object.keys(methods)).filter(method => method !== 'get')
  t.equal(changes.length, ofSessions.length - 1, 'all there are, but POST /sessions, which takes a key')
  for (const [method, url, body] of changes) {
    for (const headers of FOREIGN) t.match((await send(method, url, body, { cookie, ...headers })).body, { statusCode: 403, code: 'DOORMAN_CROSS_SITE' }, `${method} ${url}`)
  }
  t.same(await app.sessions.info(session.id), before)
  t.equal((await send('PATCH', '/session', { data: {} }, { cookie, 'sec-fetch-site': 'same-origin' })).status, 200)
})

t.test('R32: as a plugin, too, other sites change nothing and open no WebSocket with the cookie', async t => {
  const done: string[] = []
  const { app, login } = await startApp(t, {
    routes: app => app.route({
      method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
      url: '/any',
      handler: async request => {
        done.push(request.method)
        return request.session?.userId ?? 'nobody'
      }
    })
  })
  const { cookie, id, token } = await login()
  const before = await app.sessions.info(id)
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const) {
    for (const headers of FOREIGN) {
      t.match((await app.inject({ method, url: '/any', headers: { host: 'localhost', cookie, ...headers } })).json(), { statusCode: 403, code: 'DOORMAN_CROSS_SITE' }, `${method} ${JSON.stringify(headers)}`)
    }
  }
  const address = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const upgrade = async (headers: Record<string, string>) => {
    const raw = await connect(Number(address.port))
    const lines = Object.entries({ host: address.host, 'user-agent': 'lightMyRequest', cookie, connection: 'Upgrade', upgrade: 'websocket', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
    raw.write(`GET /any HTTP/1.1\r\n${lines.join('')}\r\n`)
    const text = await raw.until(/^HTTP\/1\.1 \d+ [^]*\r\n\r\n./)
    raw.socket.destroy()
    return text.slice('HTTP/1.1 '.length).slice(0, 3)
  }
  for (const headers of FOREIGN) t.equal(await upgrade(headers), '403', JSON.stringify(headers))
  t.strictSame(done, [], 'no handler ran')
  t.same(await app.sessions.info(id), before, 'nor was it a use of the session')
  t.equal(await upgrade({ origin: address.origin }), '200', 'one\'s own passes, here to a route that knows no upgrade')
  for (const headers of [{}, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-site': 'none' }, { origin: 'http://localhost' }] as Record<string, string>[]) {
    t.equal((await app.inject({ method: 'POST', url: '/any', headers: { host: 'localhost', cookie, ...headers } })).body, 'ada')
  }
  t.equal((await app.inject({ method: 'POST', url: '/any', headers: { authorization: `Bearer ${token}`, ...FOREIGN[0] } })).body, 'ada', 'no browser adds a bearer token by itself')
})

t.test('R33: replies that depend on the session are for nobody\'s cache', async t => {
  const { get, login } = await startApp(t, {
    routes: app => {
      app.get('/none', { config: { session: false } }, async () => 'the same for everybody')
      app.get('/own', { config: { session: 'required' } }, async (_request, reply) => { reply.header('cache-control', 'private, no-cache').header('vary', 'Accept').send('said by the host') })
    }
  })
  const { cookie, reply } = await login()
  const headers = async (url: string, cookie?: string) => {
    const { headers } = await get(url, cookie === undefined ? {} : { cookie })
    return [headers['cache-control'], headers['vary']]
  }
  t.strictSame([reply.headers['cache-control'], reply.headers['vary']], ['no-store', 'Cookie'])
  t.strictSame(await headers('/private', cookie), ['no-store', 'Cookie'])
  t.strictSame(await headers('/private'), ['no-store', 'Cookie'], 'the refusal, too')
  t.strictSame(await headers('/', cookie), ['no-store', 'Cookie'])
  t.strictSame(await headers('/', 'sid=dm_junk'), ['no-store', 'Cookie'])
  t.strictSame(await headers('/'), [undefined, 'Cookie'], 'for those without a cookie it may be kept, and for nobody else')
  t.strictSame(await headers('/none', cookie), [undefined, undefined])
  t.strictSame(await headers('/own', cookie), ['private, no-cache', 'Accept'], 'set in the handler')
})
