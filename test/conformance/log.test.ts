/** R40 to R45: what is told of sessions, what failures do, and who may read and manage. */
import t from 'tap'
import Fastify from 'fastify'
import { doorman, metrics, type AbuseEvent } from '../../index.js'
import { createToken, pooledRandomBytes } from '../../lib/token.js'
import { KEY, startApi } from '../routes/helper.js'
import { databaseUrl } from '../engine.js'
import { until } from '../helper.js'
import { bearer, DAY, eventsOf, MINUTE, startApp } from './helper.js'

const FIREFOX = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0'

t.test('R40: the life of a session is recorded: created, renewed, expired, ended, used after its end, over the limit', async t => {
  const { app, login, refusal, time } = await startApp(t, { sessions: { maxPerUser: 1, tokenReuse: 'end' } })
  const events = eventsOf(app)
  const first = await login({}, 'ada')
  const second = await login({}, 'ada')
  await refusal(first.token)
  const { token } = await app.sessions.rotate(second.token, { reauthenticated: true })
  await app.sessions.remove(second.id)
  await refusal(token)
  const third = await login({ 'user-agent': FIREFOX }, 'ada')
  const { token: next } = await app.sessions.rotate(third.token)
  time.now += MINUTE
  await refusal(third.token)
  await refusal(next)
  const idle = await login({}, 'bob')
  time.now += DAY
  await refusal(idle.token)
  t.strictSame(events.map(({ name, reason, sessionId }) => [name, reason, sessionId]), [
    ['session_created', null, first.id],
    ['session_created', null, second.id],
    ['excess_sessions_exceeded', null, second.id],
    ['session_ended', 'limit', first.id],
    ['session_use_after_expire', 'limit', first.id],
    ['session_renewed', null, second.id],
    ['session_ended', 'revoked', second.id],
    ['session_use_after_expire', 'revoked', second.id],
    ['session_created', null, third.id],
    ['session_new_device', null, third.id],
    ['session_renewed', null, third.id],
    ['session_use_after_expire', 'rotated', third.id],
    ['session_ended', 'reused', third.id],
    ['session_use_after_expire', 'reused', third.id],
    ['session_created', null, idle.id],
    ['session_expired', 'idle', idle.id]
  ])
  t.ok(events.every(event => event.at <= time.now && event.userId !== ''))
  await app.database.flush()
  const { items } = await app.activity.list({}, { limit: 50 })
  const deeds = events.filter(({ name, detail }) => name !== 'session_renewed' || detail['reauthenticated'] === true).map(({ name }) => name === 'session_created' ? 'login' : name)
  t.strictSame(items.reverse().map(item => item.action), deeds, 'each is in the trail, but new tokens that nobody did anything for')
})

t.test('R40: tokens that are none are counted by what is wrong with them, and their requests have a row with the address', async t => {
  const { app, get } = await startApp(t)
  const made = `dm_${'A'.repeat(49)}`
  for (let i = 0; i < 30; i++) await get('/private', { cookie: `sid=${made}` }, `198.51.100.${i % 3}`)
  t.match(app.sessions.stats().refused, { malformed: 30, unknown: 0 })
  t.match(await app.metrics.render(), /doorman_session\w*refus\w*\{[^}]*"malformed"\} 30/)
  await app.database.flush()
  t.strictSame((await app.ipTracking.top('ip', { status: 401 }, 10)).map(({ value, count }) => [value, count]).sort(), [['198.51.100.0', 10], ['198.51.100.1', 10], ['198.51.100.2', 10]])
})

t.test('R40: guessing is a signal: many different tokens that are none, from one network', async t => {
  const { app, get, lines } = await startApp(t)
  const events: AbuseEvent[] = []
  app.abuse.on('*', event => { events.push(event) })
  const random = pooledRandomBytes()
  const signals = async () => {
    await new Promise(resolve => setImmediate(resolve)) // they come after the reply
    return events.map(({ name, network, count, limit }) => ({ name, network, count, limit }))
  }
  const guess = (i: number, token: string) => get('/private', bearer(token), `203.0.113.${i}`)
  for (let i = 0; i < 60; i++) await guess(i, `dm_${'A'.repeat(49)}`)
  t.strictSame(await signals(), [], 'one cookie that is stale guesses nothing, however often it comes')
  for (let i = 0; i < 28; i++) await guess(i, i % 2 === 0 ? createToken(random) : `dm_${i}`)
  t.strictSame(await signals(), [], 'the 29th different one')
  for (let i = 0; i < 20; i++) await guess(i, createToken(random))
  t.strictSame(await signals(), [{ name: 'session_token_guessing', network: '203.0.113.0/24', count: 30, limit: 30 }], 'once')
  t.equal(lines.filter(line => line.includes('"signal":"session_token_guessing"')).length, 1, 'in the log as well')
  t.strictSame(await app.ipTracking.blocks.list(), [], 'nobody is blocked unless the host wants it')
})

t.test('R41: a session used from another network or device is reported; what moves within them is not', async t => {
  const unchanged = [
    ['192.0.2.1', '192.0.2.9', FIREFOX], ['2001:db8:1:2::a', '2001:db8:1:2:ffff:eeee:dddd:cccc', FIREFOX], ['192.0.2.1', '192.0.2.1', FIREFOX.replaceAll('128.0', '129.0.1')], ['192.0.2.1', '::ffff:192.0.2.77', FIREFOX]
  ] as const
  const changed = [
    ['192.0.2.1', '192.0.3.1', FIREFOX, ['network']], ['2001:db8:1:2::a', '2001:db8:1:3::a', FIREFOX, ['network']],
    ['192.0.2.1', '192.0.2.1', FIREFOX.replace('Windows NT 10.0; Win64; x64', 'X11; Linux x86_64'), ['device']], ['192.0.2.1', '192.0.2.1', 'curl/8.5.0', ['device']]
  ] as const
  const { app, get } = await startApp(t)
  const events = eventsOf(app)
  const open = async (ip: string) => app.sessions.create({ userId: 'ada', ip, userAgent: FIREFOX })
  for (const [from, to, userAgent] of unchanged) {
    await get('/private', { ...bearer((await open(from)).token), 'user-agent': userAgent }, to)
    t.strictSame(events.filter(event => event.name === 'session_client_changed'), [], `${from} to ${to}, ${userAgent}`)
  }
  for (const [from, to, userAgent, changes] of changed) {
    events.length = 0
    const { token, session } = await open(from)
    for (let i = 0; i < 2; i++) t.equal((await get('/private', { ...bearer(token), 'user-agent': userAgent }, to)).statusCode, 200)
    t.match(events.filter(event => event.name === 'session_client_changed'), [{ sessionId: session.id, userId: 'ada', ip: to, userAgent, detail: { changes } }])
    t.equal(events.filter(event => event.name === 'session_client_changed').length, 1, 'once')
    t.match(await app.sessions.info(session.id), { flagged: true })
  }
  const another = FIREFOX.replace('Windows NT 10.0; Win64; x64', 'X11; Linux x86_64')
  for (const [i, [from, to, userAgent, news]] of [
    ...unchanged.map(([from, to, userAgent]) => [from, to, userAgent, null] as const),
    ['192.0.2.1', '192.0.2.9', another, { newDevice: true, newNetwork: false }] as const,
    ['192.0.2.1', '198.51.100.1', FIREFOX, { newDevice: false, newNetwork: true }] as const,
    ['2001:db8:1:2::a', '2001:db8:1:3::a', 'curl/8.5.0', { newDevice: true, newNetwork: true }] as const
  ].entries()) {
    events.length = 0
    await app.sessions.create({ userId: `user ${i}`, ip: from, userAgent: FIREFOX })
    const { session } = await app.sessions.create({ userId: `user ${i}`, ip: to, userAgent })
    const told = events.filter(event => event.name === 'session_new_device')
    t.match(told, news === null ? [] : [{ sessionId: session.id, userId: `user ${i}`, ip: to, userAgent, detail: news }], `login at ${from}, then ${to}, ${userAgent}`)
    t.equal(told.length, news === null ? 0 : 1)
  }
  const strict = await startApp(t, { sessions: { clientChange: 'revoke' } })
  const { token } = await strict.app.sessions.create({ userId: 'ada', ip: '192.0.2.1', userAgent: FIREFOX })
  t.equal((await strict.get('/private', { ...bearer(token), 'user-agent': FIREFOX }, '198.51.100.1')).statusCode, 401)
  t.equal((await strict.get('/private', { ...bearer(token), 'user-agent': FIREFOX }, '192.0.2.1')).statusCode, 401, 'ended, not only refused')
})

t.test('R42: with a broken database the log fails open and is counted, and sessions fail closed', async t => {
  const { app, lines, get, login } = await startApp(t, {
    database: { closeTimeout: 100 },
    routes: app => app.get('/public', { config: { session: false } }, async () => 'public')
  })
  const { token } = await login()
  await app.database.flush()
  await app.database.storage.close(1000)
  for (let i = 0; i < 20; i++) {
    const reply = await get('/public', bearer(token))
    t.strictSame([reply.statusCode, reply.body], [200, 'public'], 'a row that cannot be stored changes no reply')
  }
  for (const url of ['/private', '/']) {
    const reply = await get(url, bearer(token))
    t.match(reply.json(), { statusCode: 503, code: 'DOORMAN_SESSION_UNAVAILABLE' }, 'neither a session nor none')
  }
  t.equal((await get('/private')).statusCode, 401)
  await until(() => app.database.health().status === 'degraded', 'the health to say so')
  await t.rejects(app.close(), { code: 'DOORMAN_CLOSE_INCOMPLETE' })
  const told = lines.map(line => JSON.parse(line) as { msg: string, dropped?: { 'close-deadline'?: number } })
  t.equal(told.filter(line => line.msg.startsWith('log rows cannot be stored')).length, 1, 'told once, not per request')
  const dropped = told.filter(line => line.dropped !== undefined)
  t.equal(dropped.length, 1)
  t.ok(dropped[0]!.dropped!['close-deadline']! >= 20, 'each of them counted')
})

t.test('R43: errors say nothing of the inside: no SQL, no path, no stack', async t => {
  const inside = Object.assign(new Error('SELECT token_hash FROM sessions at /var/lib/doorman.db: near "x"'), { code: 'SQLITE_ERROR' })
  const { app, as, login, send, admin } = await startApi(t)
  app.get('/broken', { config: { access: 'public' } }, async () => { throw inside })
  const { token } = await login()
  t.intercept(app.database.storage, 'listSessions', { value: async () => { throw inside } })
  t.intercept(app.database.storage, 'findSession', { value: () => { throw inside } })
  const replies = [await send('GET', '/broken'), await as(token, 'GET', '/session'), await admin('GET', '/admin/sessions'), await send('GET', '/nowhere'), await send('GET', '/%zz'), await admin('POST', '/sessions', { userId: '' })]
  t.strictSame(replies.map(({ status, body }) => [status, body.code]), [
    [500, 'DOORMAN_INTERNAL'], [503, 'DOORMAN_SESSION_UNAVAILABLE'], [500, 'DOORMAN_INTERNAL'], [404, 'DOORMAN_NOT_FOUND'], [400, 'DOORMAN_REQUEST_REFUSED'], [400, 'DOORMAN_REQUEST_INVALID']
  ])
  for (const { body, reply } of replies) {
    t.strictSame(Object.keys(body), ['statusCode', 'code', 'error', 'message'])
    t.notMatch(reply.body, /SELECT|SQLITE|token_hash|\/var|\.db|at .*\.js|stack/)
  }
})

t.test('R44: who may read the log is said for every route, or the start fails', async t => {
  const { app, admin, send, login, as, advance } = await startApi(t)
  t.throws(() => app.get('/unguarded', async () => 'open'), { code: 'DOORMAN_ROUTE_UNGUARDED' })
  const { paths } = (await admin('GET', '/docs/json')).body as { paths: Record<string, Record<string, unknown>> }
  const { token } = await login()
  const routes = Object.entries(paths).filter(([url]) => url.startsWith('/admin') || url === '/metrics').flatMap(([url, methods]) => Object.keys(methods).map(method => [method.toUpperCase(), url.replace(/\{\w+\}/g, 'x')] as const))
  t.ok(routes.length >= 18)
  for (const [method, url] of routes) {
    t.match((await send(method, url)).body, { statusCode: 401, code: 'DOORMAN_API_KEY_INVALID' }, `${method} ${url}`)
    t.equal((await as(token, method, url)).status, 401, 'a session is no key')
    advance(MINUTE) // failures are limited
  }
  const plain = Fastify()
  t.teardown(() => plain.close())
  await plain.register(doorman, { database: { url: await databaseUrl() }, metrics: false })
  await t.rejects(async () => plain.register(metrics), { code: 'DOORMAN_OPTION_INVALID', message: /guard/ }, 'as a plugin, the metrics as well')
})

t.test('R45: lists have a largest page, and failed attempts at management are limited', async t => {
  const { admin, send, login, as, advance } = await startApi(t)
  const { paths } = (await admin('GET', '/docs/json')).body as { paths: Record<string, Record<string, { parameters?: { name: string, schema: { maximum?: number } }[] }>> }
  const limited = Object.entries(paths).flatMap(([url, { get }]) => (get?.parameters ?? []).filter(({ name }) => name === 'limit').map(({ schema }) => [url, schema.maximum] as const))
  t.ok(limited.length >= 6)
  const { token } = await login()
  for (const [url, maximum] of limited) {
    t.ok(maximum! <= 1000, url)
    const ask = async (limit: number) => {
      const query = `${url}?limit=${limit}${url.includes('series') ? '&bucket=1h' : ''}`
      return (await (url === '/sessions' ? as(token, 'GET', query) : admin('GET', query))).status
    }
    t.strictSame([await ask(maximum!), await ask(maximum! + 1), await ask(0)], [200, 400, 400], url)
  }
  const attempt = async (key: string, remoteAddress: string) => (await send('GET', '/admin/blocks', undefined, bearer(key), { remoteAddress })).status
  const statuses = []
  for (let i = 0; i < 22; i++) statuses.push(await attempt('wrong', `203.0.113.${i}`))
  t.strictSame(statuses.slice(19), [401, 429, 429], 'per network')
  t.equal(await attempt('wrong', '198.51.100.1'), 401)
  t.equal(await attempt(KEY, '203.0.113.1'), 200, 'a right key is never held up')
  advance(MINUTE)
  t.equal(await attempt('wrong', '203.0.113.1'), 401)
})
