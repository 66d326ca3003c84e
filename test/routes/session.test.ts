/** What the holder of a session can do with it. */
import t from 'tap'
import { startApi } from './helper.js'

const HOUR = 3_600_000

t.test('a login, its use, and the log out', async t => {
  const { send, admin, as, advance } = await startApi(t)
  const created = await admin('POST', '/sessions', { userId: 'alice', ip: '2001:DB8:0::1', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', data: { theme: 'dark' } })
  t.equal(created.status, 201)
  const { token, session } = created.body
  t.match(token, /^dm_[\w-]/)
  t.strictSame(session, {
    id: session.id,
    userId: 'alice',
    createdAt: '2026-03-01T12:00:00.000Z',
    lastActiveAt: '2026-03-01T12:00:00.000Z',
    idleExpiresAt: '2026-03-02T12:00:00.000Z',
    expiresAt: '2026-03-31T12:00:00.000Z',
    ip: '2001:db8::1',
    lastIp: '2001:db8::1',
    userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
    device: 'Firefox on Linux',
    flagged: false,
    data: { theme: 'dark' }
  })
  t.match(created.headers['set-cookie'], new RegExp(`^sid=${token}; .*HttpOnly`))

  advance(HOUR)
  const seen = await as(token, 'GET', '/session')
  t.equal(seen.status, 200)
  t.equal(seen.body.lastActiveAt, '2026-03-01T13:00:00.000Z', 'looking is a use')
  t.equal((await send('GET', '/session', undefined, { cookie: `sid=${token}` })).status, 200, 'the cookie does as well')

  const out = await send('DELETE', '/session', undefined, { cookie: `sid=${token}` })
  t.equal(out.status, 204)
  t.equal(out.body, '')
  t.match(out.headers['set-cookie'], /^sid=; .*(Max-Age=0|Expires=Thu, 01 Jan 1970)/)
  t.match((await as(token, 'GET', '/session')).body, { statusCode: 401, code: 'DOORMAN_SESSION_INVALID', error: 'Unauthorized' })
})

t.test('both timeouts are enforced on every request', async t => {
  const { login, as, advance } = await startApi(t, { SESSION_IDLE_TIMEOUT: '1h', SESSION_ABSOLUTE_TIMEOUT: '2h' })
  const { token } = await login()
  advance(HOUR - 1)
  t.equal((await as(token, 'GET', '/session')).status, 200)
  advance(HOUR - 1)
  t.equal((await as(token, 'GET', '/session')).status, 200)
  advance(2)
  t.match((await as(token, 'GET', '/session')).body, { statusCode: 401, code: 'DOORMAN_SESSION_EXPIRED' })
})

t.test('change the data', async t => {
  const { login, as, send } = await startApi(t)
  const { token } = await login('alice', { data: { a: 1, b: 2 } })
  const { status, body } = await as(token, 'PATCH', '/session', { data: { a: 3 } })
  t.equal(status, 200)
  t.strictSame(body.data, { a: 3 }, 'replaced, not merged')
  t.strictSame((await as(token, 'GET', '/session')).body.data, { a: 3 })
  t.equal((await as(token, 'PATCH', '/session', { data: [] })).status, 400)
  t.equal((await as(token, 'PATCH', '/session', { data: {}, userId: 'root' })).status, 400, 'nothing else can be changed')
  t.match((await as(token, 'PATCH', '/session', { data: { big: 'x'.repeat(20_000) } })).body, { statusCode: 400, code: 'DOORMAN_VALUE_INVALID', message: /at most 16384 bytes/ })
  t.equal((await send('PATCH', '/session', { data: {} })).status, 401)
})

t.test('a new token for the same session', async t => {
  const { login, as, send } = await startApi(t)
  const { token, session } = await login()
  const first = await as(token, 'POST', '/session/rotate')
  t.equal(first.status, 200)
  t.not(first.body.token, token)
  t.equal(first.body.session.id, session.id)
  t.notOk(first.headers['set-cookie'], 'one who sends a bearer token gets one back')
  t.equal((await as(token, 'GET', '/session')).status, 401, 'the old one is dead')

  const second = await send('POST', '/session/rotate', undefined, { cookie: `sid=${first.body.token}` })
  t.equal(second.status, 200)
  t.notOk(second.body.token, 'a cookie\'s token is not for scripts')
  const [, next] = /^sid=(dm_[\w-]+)/.exec(String(second.headers['set-cookie']))!
  t.equal((await as(next!, 'GET', '/session')).body.id, session.id)
  t.equal((await send('POST', '/session/rotate')).status, 401)
})
