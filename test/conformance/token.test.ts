/** R1 to R9: what a token is, where it is, and what is taken for one. */
import t from 'tap'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { buildApp, loadConfig } from '../../app.js'
import { createToken, pooledRandomBytes } from '../../lib/token.js'
import { databaseUrl } from '../engine.js'
import { connect } from '../helpers/raw-http.js'
import { KEY } from '../routes/helper.js'
import { bearer, countCalls, startApp } from './helper.js'

const SHAPE = /^dm_[\w-]{43}[0-9A-Za-z]{6}$/
const secretOf = (token: string) => Buffer.from(token.slice(3, 46), 'base64url')
const hashOf = (token: string) => createHash('sha256').update(token).digest()
/** A token of the right shape that nobody issued. */
const foreignToken = () => createToken(pooledRandomBytes())
/** Every way somebody may have written a secret down. */
const spellings = (token: string) => {
  const secret = secretOf(token)
  return [token, token.slice(3, 46), secret.toString('hex'), secret.toString('hex').toUpperCase(), secret.toString('base64'), [...secret].join(',')]
}

t.test('R1: a token has 256 random bits of the system\'s generator, each of them in use, and none comes twice', async t => {
  const { app } = await startApp(t, { activity: false })
  const issued = await Promise.all(Array.from({ length: 1000 }, (_, i) => app.sessions.create({ userId: `user ${i}` })))
  const secrets = issued.map(({ token }) => secretOf(token))
  t.ok(secrets.every(secret => secret.length === 32))
  const stuck = Array.from({ length: 256 }, (_, bit) => secrets.filter(secret => (secret[bit >> 3]! >> (bit & 7)) & 1).length).filter(ones => ones < 350 || ones > 650)
  t.strictSame(stuck, [], 'each bit is set in about half of them')
  const random = pooledRandomBytes()
  t.equal(new Set(Array.from({ length: 100_000 }, () => createToken(random))).size, 100_000)
  const source = readFileSync('lib/token.ts', 'utf8')
  t.match(source, 'crypto.randomFillSync')
  t.notMatch(source, /randomUUID|Math\.random/)
})

t.test('R2: the secret is in no file of the database, in no spelling', async t => {
  const { app, db, login, get } = await startApp(t)
  const { token } = await login()
  const next = await app.sessions.rotate(token)
  const other = await login()
  await app.sessions.remove(other.id)
  for (const used of [token, next.token, other.token]) await get('/private', bearer(used))
  await app.database.flush()
  const search = async (when: string) => {
    t.ok(await db.contains(hashOf(next.token)), `${when}: the hash is there, so this search finds things`)
    for (const secret of [token, next.token, other.token]) {
      for (const text of spellings(secret)) t.notOk(await db.contains(text), when)
      t.notOk(await db.contains(secretOf(secret)), `${when}, as bytes`)
    }
  }
  await search('while the service runs, WAL included')
  await app.close()
  await search('after the last checkpoint')
})

t.test('R3: a session is looked up by the hash of its token, and keys are compared in constant time', async t => {
  const { app, login, refusal } = await startApp(t)
  const { token } = await login()
  const asked: string[] = []
  const { storage } = app.database
  const findSession = storage.findSession.bind(storage)
  storage.findSession = (hash, ...rest) => {
    asked.push(hash)
    return findSession(hash, ...rest)
  }
  // All but the last bit of the secret is right, and the checksum, too.
  const near = secretOf(token)
  near[31]! ^= 1
  const nearly = createToken(() => near)
  t.equal(nearly.slice(0, 45), token.slice(0, 45))
  const guesses = [nearly, foreignToken()]
  t.equal(await refusal(token), null)
  for (const guess of guesses) t.equal(await refusal(guess), 'unknown', 'nearly right is as wrong as any')
  t.strictSame(asked, [token, ...guesses].map(text => hashOf(text).toString('hex')), 'one way for all of them')
  t.match(readFileSync('lib/api-keys.ts', 'utf8'), 'timingSafeEqual')
})

t.test('R4: a token says nothing about its user', async t => {
  const { app } = await startApp(t)
  const users = ['a', 'ada@example.org', 'x'.repeat(255), '雪'.repeat(20)]
  for (const userId of users) {
    const { token, session } = await app.sessions.create({ userId, ip: '192.0.2.77', data: { role: 'admin' } })
    t.match(token, SHAPE)
    const readable = [token, secretOf(token).toString('latin1'), secretOf(token).toString('utf8')].join(' ')
    for (const fact of [userId.length > 3 ? userId : 'user', '192.0.2', 'admin', session.id.slice(2)]) t.notOk(readable.includes(fact), fact)
  }
})

t.test('R5: an id that was not issued here is never adopted', async t => {
  const { get, login, count } = await startApp(t)
  const chosen = foreignToken()
  const before = await get('/', { cookie: `sid=${chosen}` })
  t.match(before.json(), { userId: null, refusal: 'unknown' })
  t.notOk(before.headers['set-cookie'])
  t.equal(await count('sessions'), 0)
  const { token, reply } = await login({ cookie: `sid=${chosen}` })
  t.not(token, chosen)
  t.notOk(String(reply.headers['set-cookie']).includes(chosen))
  t.match((await get('/', { cookie: `sid=${chosen}` })).json(), { refusal: 'unknown' }, 'nor by the login that was made with it')
  t.equal(await count('sessions'), 1)
})

t.test('R6: hostile credentials are refused before the database is asked anything', async t => {
  const { app, get, login } = await startApp(t, { ipTracking: false, activity: false })
  const { token } = await login()
  const calls = countCalls(app.database.storage)
  const hostile = [
    'x'.repeat(1_000_000), '\0', `${token}\0`, "' OR 1=1--", 'dm_\'; DROP TABLE sessions;--', '["a","b"]', '[object Object]', 'dm_', 'dm_' + 'A'.repeat(49), 'dm_' + '☃'.repeat(49),
    token.slice(0, -1), `${token}x`, token.toUpperCase(), token.replace('dm_', 'dk_'), `${token}, ${token}`, encodeURIComponent(`${token} `)
  ]
  for (const value of hostile) {
    t.match((await get('/', { cookie: `sid=${value}` })).json(), { userId: null, refusal: 'malformed' }, JSON.stringify(value.slice(0, 30)))
    t.equal((await get('/private', bearer(value))).statusCode, 401)
    t.equal((await app.sessions.validate(value)).valid, false)
  }
  for (const value of [{}, [token], 5, null]) t.match(await app.sessions.validate(value as unknown as string), { valid: false, reason: 'malformed' })
  t.match((await get('/', { cookie: `sid=${token}; sid=${foreignToken()}` })).json(), { refusal: 'malformed' }, 'two cookies: which one is right cannot be known')
  const port = Number(new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port)
  const raw = await connect(port)
  raw.write(`GET /private HTTP/1.1\r\nHost: a\r\nCookie: sid=${token}\0\r\n\r\n`)
  t.match(await raw.closed(), /^HTTP\/1\.1 400 /, 'on the wire a NUL does not even arrive')
  t.strictSame(calls, {}, 'no operation of the storage was called')
  t.match((await get('/', { cookie: `sid=${token}` })).json(), { userId: 'ada' })
  t.strictSame(calls, { findSession: 1 }, 'and would have been counted')
})

t.test('R7: tokens in the URL, in a body or in another header are not looked at', async t => {
  const { app, get, login } = await startApp(t, {
    routes: app => app.post('/body', async request => ({ userId: request.session?.userId ?? null, refusal: request.sessionRefusal }))
  })
  const { token } = await login()
  const missing = { userId: null, refusal: 'missing' }
  t.same((await get(`/?sid=${token}&token=${token}&access_token=${token}`)).json(), missing)
  t.same((await app.inject({ method: 'POST', url: '/body', payload: { sid: token, token, session: { token } } })).json(), missing)
  t.same((await get('/', { 'x-session-id': token, authorization: `Basic ${token}`, cookie: `session=${token}; xsid=${token}; sidx=${token}` })).json(), missing)
  t.match((await get('/', { cookie: `sid=${token}` })).json(), { userId: 'ada' })
  t.match((await get('/', bearer(token))).json(), { userId: 'ada' })
  const { get: cookieOnly, login: loginThere } = await startApp(t, { sessions: { bearer: false } })
  t.same((await cookieOnly('/', bearer((await loginThere()).token))).json(), missing, 'bearer tokens can be switched off')
})

t.test('R8: after the reply that made it a token is in no reply, list, export, log line, error or dump', async t => {
  const lines: string[] = []
  const config = loadConfig({ DATABASE_URL: await databaseUrl(), API_KEYS: KEY, LOG_LEVEL: 'trace' }, { file: null })
  const app = await buildApp(config, { logStream: { write: line => { lines.push(line) } } })
  t.teardown(() => app.close())
  const shown: string[] = []
  const send = async (method: string, url: string, headers: Record<string, string>, payload?: object) => {
    const reply = await app.inject({ method: method as 'GET', url, headers, ...payload === undefined ? {} : { payload } })
    const { 'set-cookie': setCookie, ...rest } = reply.headers
    if (url !== '/sessions' || method !== 'POST') shown.push(reply.body, JSON.stringify(rest))
    return { reply, setCookie: String(setCookie) }
  }
  const { reply } = await send('POST', '/sessions', bearer(KEY), { userId: 'ada' })
  const { token, session } = reply.json<{ token: string, session: { id: string } }>()
  const renewed = await send('POST', '/session/rotate', { cookie: `sid=${token}` })
  const next = /^sid=([^;]+)/.exec(renewed.setCookie)![1]!
  t.match(next, SHAPE, 'a token in a cookie is replaced in the cookie only (ASVS 3.3.4)')
  for (const url of ['/session', '/sessions', `/session?token=${next}`, `/nowhere/${session.id}`]) await send('GET', url, bearer(next))
  await send('PATCH', '/session', bearer(next), { data: { a: 1 } })
  await send('GET', '/admin/sessions', bearer(next))
  await send('GET', '/session', bearer(token))
  await send('POST', '/admin/sessions/introspect', bearer(KEY), { token: next })
  await app.database.flush()
  for (const url of ['/admin/sessions', '/admin/activity', '/admin/ip-logs', '/admin/users/ada/export', '/metrics']) t.equal((await send('GET', url, bearer(KEY))).reply.statusCode, 200, url)
  const info = await app.sessions.info(session.id)
  app.log.info({ session: info, stats: app.sessions.stats() }, inspect(info, { depth: 9, showHidden: true }))
  shown.push(JSON.stringify(info), JSON.stringify(await app.sessions.validate(next)))
  shown.push(inspect(await app.sessions.rotate(token).catch((error: unknown) => error)))
  await send('DELETE', '/session', bearer(next))
  const text = shown.concat(lines).join('\n')
  t.match(text, session.id, 'the public id is what is shown')
  for (const secret of [token, next]) {
    const hash = hashOf(secret)
    for (const form of [...spellings(secret), hash.toString('hex'), hash.toString('base64'), hash.toString('base64url')]) t.notOk(text.includes(form))
  }
})

t.test('R9: what a token is worth is decided by the server\'s rows, at each request anew', async t => {
  const { app, get, login, refusal } = await startApp(t, {
    routes: app => app.get('/data', { config: { session: 'required' } }, async request => request.session?.data)
  })
  const elsewhere = await startApp(t)
  const { token, id } = await login()
  t.equal(await elsewhere.refusal(token), 'unknown', 'it proves nothing by itself')
  await app.sessions.update(id, { role: 'admin' })
  t.same((await get('/data', bearer(token))).json(), { role: 'admin' })
  await app.sessions.update(id, { role: 'guest' })
  t.same((await get('/data', bearer(token))).json(), { role: 'guest' }, 'with the next request')
  await app.sessions.remove(id)
  t.equal(await refusal(token), 'revoked')
})
