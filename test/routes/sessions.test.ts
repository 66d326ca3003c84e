/** Sessions of users, created and ended by the host. */
import t from 'tap'
import { parseDuration } from '../../lib/duration.js'
import { startApi } from './helper.js'

t.test('POST /sessions checks what it is given', async t => {
  const { admin } = await startApi(t, { SESSION_MAX_PER_USER: '1', SESSION_LIMIT_POLICY: 'reject' })
  const post = async (body: unknown) => (await admin('POST', '/sessions', body)).body
  t.match(await post({ userId: '' }), { statusCode: 400 })
  t.match(await post({ userId: 'a'.repeat(256) }), { statusCode: 400 })
  t.match(await post({ userId: 'a\u0000b' }), { statusCode: 400, code: 'DOORMAN_VALUE_INVALID', message: /^"userId" must be / })
  t.match(await post({ userId: 'a', ip: 'localhost' }), { statusCode: 400, code: 'DOORMAN_VALUE_INVALID', message: /^"ip" must be an IP address; got "localhost"/ })
  t.match(await post({ userId: 'a', data: 'text' }), { statusCode: 400, code: 'DOORMAN_REQUEST_INVALID' })
  t.match(await post({ userId: 'a', expiresAt: '2030-01-01T00:00:00Z' }), { statusCode: 400, message: /expiresAt/ })
  t.match(await post({ userId: 'a' }), { token: String })
  t.match(await post({ userId: 'a' }), { statusCode: 409, code: 'DOORMAN_SESSION_LIMIT' })
})

t.test('data comes back as it was given, whatever its names are', async t => {
  const { login, as, admin } = await startApi(t)
  const data = { 'two\nlines': 1, 'a\rb': { 'c\nd': [null] }, '\u2028': 'x', '': true, plain: 'y' }
  const { token, session } = await login('alice', { data })
  t.strictSame(session.data, data)
  t.strictSame((await as(token, 'GET', '/session')).body.data, data)
  t.strictSame((await as(token, 'PATCH', '/session', { data: { ...data, more: 1 } })).body.data, { ...data, more: 1 })
  t.strictSame((await admin('GET', '/admin/users/alice/export')).body.sessions[0].data, { ...data, more: 1 })
  for (const bad of [['x'], 'x', 5]) t.equal((await as(token, 'PATCH', '/session', { data: bad })).status, 400)
})

t.test('the limit per user ends the oldest session by default', async t => {
  const { login, as, advance } = await startApi(t, { SESSION_MAX_PER_USER: '2' })
  const tokens: string[] = []
  for (let i = 0; i < 3; i++) {
    tokens.push((await login()).token)
    advance(1000)
  }
  t.strictSame(await Promise.all(tokens.map(async token => (await as(token, 'GET', '/session')).status)), [401, 200, 200])
})

t.test('a user sees their own sessions, the current one marked', async t => {
  const { login, as, advance } = await startApi(t)
  await login('bob')
  const ids: string[] = []
  let token = ''
  for (let i = 0; i < 3; i++) {
    const made = await login()
    ids.unshift(made.session.id)
    token = made.token
    advance(1000)
  }
  const { status, body } = await as(token, 'GET', '/sessions')
  t.equal(status, 200)
  t.strictSame(body.items.map((item: { id: string }) => item.id), ids, 'newest first, nobody else\'s')
  t.strictSame(body.items.map((item: { current: boolean }) => item.current), [true, false, false])
  t.equal(body.nextCursor, null)
  t.notMatch(JSON.stringify(body), /dm_/)

  const first = (await as(token, 'GET', '/sessions?limit=2')).body
  t.equal(first.items.length, 2)
  const second = (await as(token, 'GET', `/sessions?limit=2&cursor=${first.nextCursor}`)).body
  t.strictSame(second.items.map((item: { id: string }) => item.id), [ids[2]])
  t.match((await as(token, 'GET', `/sessions?cursor=${first.nextCursor}x`)).body, { statusCode: 400, code: 'DOORMAN_CURSOR_INVALID' })
  t.equal((await as(token, 'GET', '/sessions?userId=bob')).status, 400, 'there is no asking for others')
})

t.test('a user ends one of their sessions; another user\'s is as unknown as any', async t => {
  const { login, as } = await startApi(t)
  const mine = await login()
  const other = await login()
  const foreign = await login('bob')
  const unknown = await as(mine.token, 'DELETE', '/sessions/nonesuch')
  const refused = await as(mine.token, 'DELETE', `/sessions/${foreign.session.id}`)
  t.equal(refused.status, 404)
  t.equal(refused.reply.body, unknown.reply.body, 'the same, byte by byte')
  t.equal(unknown.body.code, 'DOORMAN_SESSION_NOT_FOUND')
  t.equal((await as(foreign.token, 'GET', '/session')).status, 200)

  const ended = await as(mine.token, 'DELETE', `/sessions/${other.session.id}`)
  t.equal(ended.status, 204)
  t.notOk(ended.headers['set-cookie'])
  t.equal((await as(other.token, 'GET', '/session')).status, 401)
  const own = await as(mine.token, 'DELETE', `/sessions/${mine.session.id}`)
  t.equal(own.status, 204)
  t.match(own.headers['set-cookie'], /^sid=;/)
  t.equal((await as(mine.token, 'GET', '/session')).status, 401)
})

t.test('end the others, or all', async t => {
  const { login, as } = await startApi(t)
  const tokens = [(await login()).token, (await login()).token, (await login()).token]
  const bob = await login('bob')
  t.equal((await as(tokens[0]!, 'DELETE', '/sessions?except=others')).status, 400)
  t.strictSame((await as(tokens[0]!, 'DELETE', '/sessions?except=current')).body, { ended: 2 })
  t.strictSame(await Promise.all(tokens.map(async token => (await as(token, 'GET', '/session')).status)), [200, 401, 401])
  const all = await as(tokens[0]!, 'DELETE', '/sessions')
  t.strictSame(all.body, { ended: 1 })
  t.match(all.headers['set-cookie'], /^sid=;/)
  t.equal((await as(tokens[0]!, 'GET', '/session')).status, 401)
  t.equal((await as(bob.token, 'GET', '/session')).status, 200)
})

t.test('R22: only a recent login ends sessions; listing them, and logging out, is always possible', async t => {
  const { login, as, advance } = await startApi(t)
  const { token, session } = await login()
  advance(15 * 60_000)
  for (const url of ['/sessions', '/sessions?except=current', `/sessions/${session.id}`]) {
    t.match((await as(token, 'DELETE', url)).body, { statusCode: 403, code: 'DOORMAN_SESSION_NOT_FRESH' }, url)
  }
  t.equal((await as(token, 'GET', '/sessions')).status, 200)
  const fresh = await login()
  t.strictSame((await as(fresh.token, 'DELETE', '/sessions?except=current')).body, { ended: 1 })
  const old = await login()
  advance(15 * 60_000)
  t.equal((await as(old.token, 'DELETE', '/session')).status, 204)
})

t.test('SESSION_REVOKE_FRESHNESS: shorter with the highest level, or off', async t => {
  for (const [env, after, status] of [[{ SESSION_PRESET: 'aal3' }, '5m', 403], [{ SESSION_PRESET: 'aal2' }, '14m', 200], [{ SESSION_REVOKE_FRESHNESS: 'off' }, '23h', 200]] as const) {
    const { login, as, advance } = await startApi(t, env)
    const { token } = await login()
    advance(parseDuration(after)!)
    t.equal((await as(token, 'DELETE', '/sessions')).status, status, after)
  }
})
