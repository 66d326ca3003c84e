/** Signals of abuse, through the requests that cause them. */
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { abuse as abusePlugin, doorman, type AbuseEvent, type DoormanOptions } from '../../index.js'
import { createToken, pooledRandomBytes } from '../../lib/token.js'
import { databaseUrl } from '../engine.js'
import { until } from '../helper.js'

// Injected requests have no sockets that would keep the process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const MINUTE = 60_000
const random = pooledRandomBytes()
const tick = () => new Promise(resolve => setImmediate(resolve))

async function start (t: Test, options: DoormanOptions = {}, url?: string) {
  const state = { now: Date.parse('2026-11-23T12:00:00Z') }
  const lines: { level: number, msg: string, [field: string]: unknown }[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(doorman, { ...options, database: { url: url ?? await databaseUrl(), clock: () => state.now } })
  app.get('/', async request => request.session?.userId ?? 'nobody')
  app.get('/look-up', { config: { abuse: false } }, async (_request, reply) => reply.code(404).send())
  await app.ready()
  const events: AbuseEvent[] = []
  app.abuse?.on('*', event => { events.push(event) })
  const visit = async (remoteAddress: string, url = '/none', headers: Record<string, string> = {}) => {
    const { statusCode } = await app.inject({ url, remoteAddress, headers })
    await tick() // the event comes after the reply
    return statusCode
  }
  const visits = async (times: number, ...visited: Parameters<typeof visit>) => {
    await Promise.all(Array.from({ length: times }, () => visit(...visited)))
  }
  return { app, state, lines, events, visit, visits }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const unknownToken = () => bearer(createToken(random))

// ---------------------------------------------------------------- signals

t.test('malicious_excess_404: at the limit, once in a window', async t => {
  const { app, state, lines, events, visits } = await start(t)
  await visits(99, '192.0.2.7')
  await visits(200, '192.0.2.7', '/')
  t.strictSame(events, [])
  await visits(1, '192.0.2.9')
  t.strictSame(events, [{ name: 'malicious_excess_404', at: state.now, network: '192.0.2.0/24', address: '192.0.2.9', count: 100, window: MINUTE, limit: 100 }])
  t.ok(Object.isFrozen(events[0]))
  t.match(lines, [{ level: 40, msg: 'signal of abuse', signal: 'malicious_excess_404', network: '192.0.2.0/24', count: 100, limit: 100, windowMs: MINUTE }])
  await visits(5, '192.0.2.7')
  t.equal(events.length, 1)
  t.match(app.abuse.signalled(), [{ at: state.now, network: '192.0.2.0/24', count: 105 }])
  state.now += MINUTE
  t.strictSame(app.abuse.signalled(), [])
  await visits(1, '192.0.2.7')
  t.match(events, [{}, { count: 106, at: state.now }], 'it goes on')
  await app.inject({ url: '/', remoteAddress: '192.0.2.7' })
  t.strictSame(await app.ipTracking.blocks.list(), [], 'nothing is blocked by default')
  t.equal(app.abuse.blocksInForce(), 0)
})

t.test('the window slides', async t => {
  const { state, events, visits } = await start(t, { abuse: { notFoundLimit: 10, notFoundWindow: '10s' } })
  await visits(9, '192.0.2.7')
  state.now += 15_000
  await visits(5, '192.0.2.7')
  t.strictSame(events, [], 'half of nine, and five')
  await visits(1, '192.0.2.7')
  t.match(events, [{ count: 10, window: 10_000 }])
})

t.test('IPv6 addresses that change within a /64 count together, those of others do not', async t => {
  const { events, visits } = await start(t, { abuse: { notFoundLimit: 5 } })
  for (let i = 1; i <= 4; i++) await visits(1, `2001:db8:1:1::${i}`)
  for (let i = 1; i <= 4; i++) await visits(1, `2001:db8:1:${i + 1}::1`)
  await visits(4, '::ffff:192.0.2.1')
  t.strictSame(events, [])
  await visits(1, '2001:db8:1:1:ffff:ffff:ffff:ffff')
  t.match(events, [{ network: '2001:db8:1:1::/64', address: '2001:db8:1:1:ffff:ffff:ffff:ffff' }])
  await visits(1, '192.0.2.2')
  t.match(events, [{}, { network: '192.0.2.0/24' }])
})

t.test('what has no address, and routes that say so, count for nothing', async t => {
  const { app, events, visits } = await start(t, { abuse: { notFoundLimit: 2, tokenLimit: 2 } })
  await visits(3, 'no address')
  await visits(3, '192.0.2.7', '/look-up')
  for (let i = 0; i < 3; i++) await visits(1, '192.0.2.7', '/look-up', unknownToken())
  t.strictSame(events, [])
  t.strictSame(app.abuse.stats().watched, { malicious_excess_404: 0, session_token_guessing: 0, excess_users_from_address: 0 })
})

t.test('session_token_guessing: different tokens, malformed or unknown', async t => {
  const { events, visit, visits } = await start(t)
  await Promise.all(Array.from({ length: 29 }, (_, i) => visit('192.0.2.7', '/', i % 2 === 0 ? unknownToken() : bearer(`dm_${i}`))))
  const stale = unknownToken()
  await visits(100, '198.51.100.7', '/', stale)
  t.strictSame(events, [], 'one old cookie is no guessing, however many pictures a page has')
  await visit('192.0.2.8', '/', { cookie: 'sid=x' })
  t.match(events, [{ name: 'session_token_guessing', network: '192.0.2.0/24', count: 30, limit: 30, window: MINUTE }])
})

t.test('a flood of malformed tokens is one signal, and remembers no more than the limit', async t => {
  const { app, events, visit } = await start(t, { abuse: { tokenLimit: 10 } })
  await Promise.all(Array.from({ length: 300 }, (_, i) => visit('192.0.2.7', '/', bearer(`dm_${'x'.repeat(i)}`))))
  t.equal(events.length, 1)
  t.match(app.abuse.signalled(), [{ count: 10 }])
})

t.test('tokens that were ended count; no token, and what time or the suite has ended, does not', async t => {
  const { app, state, events, visit } = await start(t, { abuse: { tokenLimit: 3 }, sessions: { idleTimeout: '1h', maxPerUser: 2, clientChange: 'off' } })
  const tokens = async (count: number, userId = 'ada') => {
    const issued: string[] = []
    for (let i = 0; i < count; i++) issued.push((await app.sessions.create({ userId: `${userId}${i}` })).token)
    return issued
  }
  for (let i = 0; i < 10; i++) await visit('192.0.2.7', '/')
  const idle = await tokens(5)
  state.now += 2 * 3_600_000
  for (const token of idle) await visit('192.0.2.7', '/', bearer(token))
  const evicted: string[] = []
  for (let i = 0; i < 6; i++) evicted.push((await app.sessions.create({ userId: 'bob' })).token)
  for (const token of evicted.slice(0, 4)) await visit('192.0.2.7', '/', bearer(token))
  t.strictSame(events, [])

  const ended = await tokens(2, 'carol')
  for (const id of ['carol0', 'carol1']) await app.sessions.removeAll(id)
  const [old = ''] = await tokens(1, 'dave')
  await app.sessions.rotate(old)
  for (const token of ended) await visit('192.0.2.7', '/', bearer(token))
  t.strictSame(events, [])
  await visit('192.0.2.7', '/', bearer(old))
  t.match(events, [{ name: 'session_token_guessing', count: 3 }])
})

t.test('excess_users_from_address: different users of one address', async t => {
  const { app, state, events } = await start(t)
  const login = (user: number, ip: string | null) => app.sessions.create({ userId: `user ${user}`, ip })
  for (let user = 1; user <= 49; user++) await login(user, '192.0.2.7')
  for (let i = 0; i < 5; i++) await login(1, '192.0.2.7')
  for (let user = 50; user <= 60; user++) await login(user, '192.0.2.8')
  for (let user = 50; user <= 60; user++) await login(user, null)
  t.strictSame(events, [])
  await login(50, '::ffff:192.0.2.7')
  t.match(events, [{ name: 'excess_users_from_address', network: '192.0.2.0/24', address: '192.0.2.7', count: 50, limit: 50, window: 3_600_000, at: state.now }])
})

t.test('a limit of null: not watched for', async t => {
  const { app, events, visits, visit } = await start(t, { abuse: { notFoundLimit: null, tokenLimit: null, userLimit: null } })
  await visits(110, '192.0.2.7')
  await Promise.all(Array.from({ length: 40 }, () => visit('192.0.2.7', '/', unknownToken())))
  await app.sessions.create({ userId: 'ada', ip: '192.0.2.7' })
  t.strictSame(events, [])
  t.strictSame(app.abuse.signalled(), [])
  t.strictSame(app.abuse.stats().watched, { malicious_excess_404: 0, session_token_guessing: 0, excess_users_from_address: 0 })
})

t.test('without the sessions plugin there is no token and no login', async t => {
  const { events, visits } = await start(t, { sessions: false, activity: false, abuse: { notFoundLimit: 2 } })
  await visits(2, '192.0.2.7')
  t.match(events, [{ name: 'malicious_excess_404' }])
})

// ---------------------------------------------------------------- who is told

t.test('listeners hear what they asked for, and what they throw reaches nobody', async t => {
  const { app, lines, visits } = await start(t, { abuse: { notFoundLimit: 2 } })
  const heard: string[] = []
  const listener = ({ network }: AbuseEvent) => { heard.push(network) }
  app.abuse.on('malicious_excess_404', () => { throw new Error('thrown') })
  app.abuse.on('malicious_excess_404', async () => { throw new Error('rejected') })
  app.abuse.on('malicious_excess_404', listener)
  app.abuse.on('malicious_excess_404', () => { heard.push(`${app.abuse.signalled().length} signalled`) })
  app.abuse.on('session_token_guessing', () => { heard.push('wrong') })
  await visits(2, '192.0.2.7')
  t.strictSame(heard, ['192.0.2.0/24', '1 signalled'])
  t.match(lines.filter(({ level }) => level === 50).map(({ err, event }) => [(err as Error).message, event]), [['thrown', 'malicious_excess_404'], ['rejected', 'malicious_excess_404']])
  app.abuse.off('malicious_excess_404', listener)
  await visits(2, '198.51.100.7')
  t.strictSame(heard, ['192.0.2.0/24', '1 signalled', '2 signalled'])
  t.throws(() => app.abuse.on('malicious_exces_404' as '*', listener), { code: 'DOORMAN_VALUE_INVALID', message: /"name" must be one of malicious_excess_404, .*\*; got "malicious_exces_404"/ })
  t.throws(() => app.abuse.off('' as '*', listener), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('counters and metrics', async t => {
  const { app, visits } = await start(t, { abuse: { notFoundLimit: 2, block: { allow: ['198.51.100.0/24'] } } })
  await visits(2, '192.0.2.7')
  await visits(2, '198.51.100.7')
  await visits(1, '203.0.113.7')
  await until(() => app.abuse.stats().blocks.total === 1)
  t.strictSame(app.abuse.stats(), {
    signals: { malicious_excess_404: 2, session_token_guessing: 0, excess_users_from_address: 0 },
    blocks: { total: 1, skipped: { max: 0, protected: 1, failed: 0 } },
    watched: { malicious_excess_404: 3, session_token_guessing: 0, excess_users_from_address: 0 }
  })
  const text = await app.metrics.render()
  for (const line of [
    'doorman_abuse_signals_total{signal="malicious_excess_404"} 2', 'doorman_abuse_signals_total{signal="session_token_guessing"} 0', 'doorman_abuse_blocks_total 1',
    'doorman_abuse_blocks_skipped_total{reason="protected"} 1', 'doorman_abuse_networks{signal="malicious_excess_404"} 3'
  ]) t.match(text, `\n${line}\n`)
})

t.test('at most a hundred are listed, the latest first', async t => {
  const { app, state, visits } = await start(t, { abuse: { notFoundLimit: 2, notFoundWindow: '1h', tokenLimit: 2, tokenWindow: '1h' } })
  for (let i = 0; i < 102; i++) {
    await visits(2, `192.0.${i}.1`)
    state.now += 1
  }
  for (let i = 0; i < 2; i++) await visits(1, '203.0.113.7', '/', unknownToken())
  const listed = app.abuse.signalled()
  t.equal(listed.length, 100)
  t.match(listed.slice(0, 2), [{ name: 'session_token_guessing' }, { network: '192.0.101.0/24' }])
  t.equal(listed.at(-1)!.network, '192.0.3.0/24')
})

// ---------------------------------------------------------------- anonymisation

for (const [anonymization, shown] of [
  ['truncate', { network: '192.0.2.0/24', address: '192.0.2.0', network6: '2001:db8:1::/48', address6: '2001:db8:1::' }],
  ['hash', { network: /^h_/, address: /^h_/, network6: /^h_/, address6: /^h_/ }]
] as const) {
  t.test(`${anonymization}: counted by the real address, shown in the form that may be stored`, async t => {
    const { app, lines, events, visits } = await start(t, { ipTracking: { anonymization }, abuse: { notFoundLimit: 4, userLimit: 3 } })
    for (let i = 1; i <= 4; i++) await visits(1, `192.0.2.7${i}`)
    for (let i = 1; i <= 3; i++) await visits(1, `2001:db8:1:${i}::77`)
    t.equal(events.length, 1, 'the /64 counts, also where no more than a /48 is stored')
    await visits(3, '2001:db8:1:1::77')
    for (let user = 1; user <= 3; user++) await app.sessions.create({ userId: `user ${user}`, ip: `192.0.2.${user}` })
    t.equal(events.length, 2, 'three addresses of one /24 are no one address')
    for (let user = 1; user <= 3; user++) await app.sessions.create({ userId: `user ${user}`, ip: '192.0.2.77' })
    t.match(events, [
      { network: shown.network, address: shown.address },
      { network: shown.network6, address: shown.address6 },
      { name: 'excess_users_from_address', network: shown.network, address: shown.address }
    ])
    t.notMatch(JSON.stringify([lines, events, app.abuse.signalled()]), /192\.0\.2\.7|:77/)
  })
}

// ---------------------------------------------------------------- blocks

t.test('a block: at once here, within a second elsewhere, and over by itself', async t => {
  const url = await databaseUrl()
  const [one, two] = [await start(t, { abuse: { notFoundLimit: 3, block: {} } }, url), await start(t, { abuse: { notFoundLimit: 3, block: {} } }, url)]
  await one.visits(3, '192.0.2.7')
  await until(() => one.app.abuse.blocksInForce() === 1 && one.app.abuse.stats().blocks.total === 1)
  t.match(await one.app.ipTracking.blocks.list(), [{ cidr: '192.0.2.0/24', until: one.state.now + 15 * MINUTE, reason: 'automatic: malicious_excess_404, 3 in 1m' }])
  t.equal(await one.visit('192.0.2.200', '/'), 403)
  t.equal(await one.visit('192.0.3.7', '/'), 200)

  two.state.now += 1000
  await until(async () => await two.visit('192.0.2.7', '/') === 403, 'the other one to know', 20_000).catch(t.fail)
  await two.visits(5, '192.0.2.7')
  t.strictSame(two.events, [], 'who is refused asks for nothing any more')
  t.equal((await two.app.ipTracking.blocks.list()).length, 1)

  for (const { state } of [one, two]) state.now += 15 * MINUTE
  t.equal(await one.visit('192.0.2.7', '/'), 200)
  t.equal(await two.visit('192.0.2.7', '/'), 200)
  t.equal(one.app.abuse.blocksInForce(), 0)
})

t.test('only the signals that were named block, and of many users the address alone', async t => {
  const { app, visits, visit } = await start(t, { abuse: { notFoundLimit: 2, userLimit: 2, block: { for: '1h', signals: ['excess_users_from_address'] } } })
  await visits(2, '192.0.2.7')
  for (const userId of ['ada', 'bob']) await app.sessions.create({ userId, ip: '198.51.100.7' })
  await until(() => app.abuse.stats().blocks.total === 1)
  t.match(await app.ipTracking.blocks.list(), [{ cidr: '198.51.100.7/32', reason: 'automatic: excess_users_from_address, 2 in 1h' }])
  t.equal(await visit('198.51.100.7', '/'), 403)
  t.equal(await visit('198.51.100.8', '/'), 200)
})

t.test('with anonymisation a block still holds its network', async t => {
  const { app, visits, visit } = await start(t, { ipTracking: { anonymization: 'hash' }, abuse: { notFoundLimit: 2, block: {} } })
  await visits(2, '192.0.2.7')
  await until(() => app.abuse.stats().blocks.total === 1)
  t.equal(await visit('192.0.2.8', '/'), 403)
})

t.test('the one address of a proxy is never blocked', async t => {
  const { app, events, visits, visit } = await start(t, { abuse: { notFoundLimit: 2, block: {} } })
  for (const proxy of ['127.0.0.1', '::1', '10.0.0.1', '172.17.0.1', 'fd00::1']) await visits(3, proxy)
  t.equal(events.length, 5, 'signalled it is')
  t.equal(app.abuse.stats().blocks.skipped.protected, 5)
  t.strictSame(await app.ipTracking.blocks.list(), [])
  t.equal(await visit('10.0.0.1', '/'), 200)
})

// ---------------------------------------------------------------- wiring

t.test('wrong wiring is said at boot', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(doorman, { database: { url: await databaseUrl() } })
  await t.rejects(async () => { await app.register(abusePlugin) }, { code: 'DOORMAN_ALREADY_REGISTERED' })
  const other = Fastify()
  t.teardown(() => other.close())
  await t.rejects(async () => { await other.register(abusePlugin) }, /doorman-database/)
})

t.test('a route says true or false', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(doorman, { database: { url: await databaseUrl() } })
  t.throws(() => app.get('/', { config: { abuse: 'no' as never } }, async () => ''), { code: 'DOORMAN_OPTION_INVALID', message: /"config\.abuse of GET \/" must be true or false; got "no"/ })
})
