/** The request log over the API. */
import t from 'tap'
import { startApi } from './helper.js'

const item = (requestId: string, more: object = {}) => ({ requestId, method: 'GET', path: '/shop?card=4111', status: 200, ip: '192.0.2.1', durationMs: 12.5, userAgent: 'curl/8', ...more })

t.test('every request of the API itself is in the log', async t => {
  const { send, login, as, admin, app } = await startApi(t)
  const { token, session } = await login()
  await send('GET', '/nowhere?token=secret', undefined, { 'user-agent': 'probe' }, { remoteAddress: '::ffff:198.51.100.7' })
  await as(token, 'GET', '/session')
  await app.database.flush()
  const { status, body } = await admin('GET', '/admin/ip-logs')
  t.equal(status, 200)
  t.match(body.items, [
    { method: 'GET', path: '/session', route: '/session', status: 200, userId: 'alice', sessionId: session.id, outcome: 'replied' },
    { method: 'GET', path: '/nowhere', route: null, status: 404, ip: '198.51.100.7', ipSource: 'socket', trustedHops: 0, userAgent: 'probe', userId: null, at: '2026-03-01T12:00:00.000Z' },
    { method: 'POST', path: '/sessions', status: 201 }
  ])
  t.notMatch(JSON.stringify(body), 'secret')
})

t.test('a row says how many trusted proxies the request came through', async t => {
  const { send, login, admin, app } = await startApi(t, { TRUST_PROXY: 'loopback, 10.0.0.0/8' })
  const { token } = await login()
  const { body: session } = await send('GET', '/session', undefined, { authorization: `Bearer ${token}`, 'x-forwarded-for': '203.0.113.66, 192.0.2.7, 10.0.0.9, 10.0.0.8' })
  await app.database.flush()
  const seen = { ip: '192.0.2.7', ipSource: 'forwarded', peerIp: '127.0.0.1', trustedHops: 3, sessionId: session.id }
  t.match((await admin('GET', '/admin/ip-logs?ip=192.0.2.7')).body.items, [seen])
  t.match((await admin('GET', '/admin/users/alice/export')).body.ipLogs, [seen])
  t.strictSame(app.ipTracking.check(), [])
})

t.test('another service reports its requests, each stored once', async t => {
  const { admin, app } = await startApi(t)
  const first = await admin('POST', '/admin/ip-logs', { items: [item('r1'), item('r2', { at: '2026-03-01T10:00:00+01:00', ip: null, status: 503, userId: 'alice', sessionId: 's1', route: '/shop', referer: 'https://example.org/x?y' })] })
  t.equal(first.status, 202)
  t.strictSame(first.body, { accepted: 2 })
  await admin('POST', '/admin/ip-logs', { items: [item('r1')] })
  await app.database.flush()
  const { items } = (await admin('GET', '/admin/ip-logs?status=503')).body
  t.match(items, [{
    requestId: 'r2',
    at: '2026-03-01T09:00:00.000Z',
    ip: null,
    ipSource: 'reported',
    trustedHops: 0,
    method: 'GET',
    path: '/shop',
    route: '/shop',
    status: 503,
    durationMs: 12.5,
    userAgent: 'curl/8',
    referer: 'https://example.org',
    userId: 'alice',
    sessionId: 's1',
    outcome: 'reported'
  }])
  t.equal((await admin('GET', '/admin/ip-logs?ip=192.0.2.1')).body.items.length, 1, 'r1 only once')
})

t.test('with IP_LOG_DURABILITY=committed the reply says stored', async t => {
  const { admin } = await startApi(t, { IP_LOG_DURABILITY: 'committed' })
  t.equal((await admin('POST', '/admin/ip-logs', { items: [item('r1')] })).status, 201)
  t.equal((await admin('GET', '/admin/ip-logs?ip=192.0.2.1')).body.items.length, 1)
})

t.test('reports are checked', async t => {
  const { admin } = await startApi(t)
  const post = async (items: unknown) => (await admin('POST', '/admin/ip-logs', { items })).body
  for (const [name, bad] of Object.entries({
    'no id': { ...item('r'), requestId: undefined },
    'unknown property': item('r', { colour: 'red' }),
    'odd status': item('r', { status: 1000 }),
    'no time': item('r', { at: 'yesterday' }),
    'a leap second': item('r', { at: '2016-12-31T23:59:60Z' }),
    'far ahead': item('r', { at: '2026-03-02T12:00:00Z' }),
    'no address': item('r', { ip: 'nowhere' })
  })) t.match(await post([bad]), { statusCode: 400, code: /^DOORMAN_(REQUEST|VALUE)_INVALID$/ }, name)
  t.match(await post([item('a'), item('r', { at: '2016-12-31T23:59:60Z' })]), { message: /items\[1\]\.at/ })
  t.match(await post([]), { statusCode: 400 })
  t.match(await post(Array.from({ length: 501 }, (_, i) => item(`r${i}`))), { statusCode: 400 })
  t.match(await post(Array.from({ length: 500 }, (_, i) => item(`r${i}`, { userAgent: 'x'.repeat(4000) }))), { accepted: 500 })
})

t.test('filters, leaders and counts over time', async t => {
  const { admin, app } = await startApi(t)
  const at = (minute: number) => `2026-03-01T10:${String(minute).padStart(2, '0')}:00.000Z`
  await admin('POST', '/admin/ip-logs', {
    items: [0, 1, 2, 70 - 60, 11, 12].map((minute, i) => item(`r${i}`, { at: at(minute), ip: `192.0.2.${1 + i % 2}`, path: `/p${i % 3}`, status: i === 5 ? 503 : 200, userId: i === 0 ? 'alice' : undefined, sessionId: i === 1 ? 's1' : undefined }))
  })
  await app.database.flush()
  const range = 'from=2026-03-01T10:00:00Z&to=2026-03-01T11:00:00Z'
  const ids = async (query: string) => (await admin('GET', `/admin/ip-logs?${query}`)).body.items.map((row: { requestId: string }) => row.requestId)
  t.strictSame(await ids(range), ['r5', 'r4', 'r3', 'r2', 'r1', 'r0'])
  t.strictSame(await ids('from=2026-03-01T10:01:00Z&to=2026-03-01T10:10:00Z'), ['r2', 'r1'], 'from counts, to does not')
  t.strictSame(await ids('userId=alice'), ['r0'])
  t.strictSame(await ids('sessionId=s1'), ['r1'])
  t.strictSame(await ids('status=503'), ['r5'])
  t.strictSame(await ids(`${range}&ip=::ffff:192.0.2.2`), ['r5', 'r3', 'r1'])

  const first = (await admin('GET', `/admin/ip-logs?${range}&limit=4`)).body
  t.strictSame((await ids(`${range}&limit=4&cursor=${first.nextCursor}`)), ['r1', 'r0'])
  t.match((await admin('GET', '/admin/ip-logs?cursor=x')).body, { statusCode: 400, code: 'DOORMAN_CURSOR_INVALID' })
  for (const query of ['status=x', 'from=monday', 'ip=nowhere', 'colour=red', 'limit=0', 'to=2016-12-31T23:59:60Z']) {
    t.equal((await admin('GET', `/admin/ip-logs?${query}`)).status, 400, query)
  }

  t.strictSame((await admin('GET', `/admin/ip-logs/top?${range}`)).body.items, [
    { value: '192.0.2.1', count: 3, errors: 0, lastAt: at(11) },
    { value: '192.0.2.2', count: 3, errors: 1, lastAt: at(12) }
  ])
  t.match((await admin('GET', `/admin/ip-logs/top?${range}&by=path&limit=1`)).body.items.length, 1)
  t.strictSame((await admin('GET', `/admin/ip-logs/top?${range}&by=userAgent`)).body.items, [{ value: 'curl/8', count: 6, errors: 1, lastAt: at(12) }])
  t.equal((await admin('GET', '/admin/ip-logs/top?by=referer')).status, 400)

  t.strictSame((await admin('GET', `/admin/ip-logs/series?${range}&bucket=10m`)).body, {
    bucketMs: 600_000,
    items: [{ at: at(0), count: 3, errors: 0 }, { at: at(10), count: 3, errors: 1 }]
  })
  t.strictSame((await admin('GET', `/admin/ip-logs/series?${range}`)).body.items, [{ at: at(0), count: 6, errors: 1 }], 'by the hour')
  for (const bucket of ['0s', '999ms', 'soon']) {
    t.match((await admin('GET', `/admin/ip-logs/series?bucket=${bucket}`)).body, { statusCode: 400, code: 'DOORMAN_VALUE_INVALID', message: /^"bucket" must be a duration .* of at least 1s; got / })
  }
})
