import t from 'tap'
import { startApi } from './helper.js'

t.test('introspection says whether a token is a live session', async t => {
  const { login, admin, advance, app } = await startApi(t)
  const { token, session } = await login('alice', { ip: '192.0.2.1', userAgent: 'curl/8' })
  const ask = async (body: object) => (await admin('POST', '/admin/sessions/introspect', body)).body

  t.match(await ask({ token }), { active: true, session: { id: session.id, userId: 'alice', flagged: false } })
  t.strictSame(await ask({ token: 'dm_nonsense' }), { active: false, reason: 'malformed' })
  t.strictSame(await ask({ token: '' }), { active: false, reason: 'malformed' })
  t.match(await ask({}), { statusCode: 400 })
  t.match(await ask({ token, colour: 'red' }), { statusCode: 400 })

  advance(120_000)
  t.equal((await ask({ token })).session.lastActiveAt, '2026-03-01T12:00:00.000Z', 'asking alone is no use of the session')
  t.match(await ask({ token, ip: '192.0.2.9', userAgent: 'curl/8' }), { active: true, session: { lastActiveAt: '2026-03-01T12:02:00.000Z', lastIp: '192.0.2.9', flagged: false } })
  t.match(await ask({ token, ip: '198.51.100.1' }), { active: true, session: { flagged: true } }, 'another network')
  await app.sessions.remove(session.id)
  t.strictSame(await ask({ token, ip: '192.0.2.9' }), { active: false, reason: 'revoked', endedAt: '2026-03-01T12:02:00.000Z' })
})

t.test('find sessions by user and by address', async t => {
  const { login, admin, advance } = await startApi(t)
  for (const [userId, ip] of [['alice', '192.0.2.1'], ['alice', '192.0.2.2'], ['bob', '192.0.2.1']] as const) {
    await login(userId, { ip })
    advance(1000)
  }
  const find = async (query: string) => (await admin('GET', `/admin/sessions${query}`)).body.items.map((item: { userId: string, ip: string }) => `${item.userId} ${item.ip}`)
  t.strictSame(await find(''), ['bob 192.0.2.1', 'alice 192.0.2.2', 'alice 192.0.2.1'])
  t.strictSame(await find('?userId=alice'), ['alice 192.0.2.2', 'alice 192.0.2.1'])
  t.strictSame(await find('?ip=::ffff:192.0.2.1'), ['bob 192.0.2.1', 'alice 192.0.2.1'])
  t.strictSame(await find('?userId=carol'), [])
  t.match((await admin('GET', '/admin/sessions?ip=nowhere')).body, { statusCode: 400, code: 'DOORMAN_VALUE_INVALID' })

  const seen: string[] = []
  let cursor: string | null = null
  do {
    const { body } = await admin('GET', `/admin/sessions?limit=1${cursor === null ? '' : `&cursor=${cursor}`}`)
    seen.push(...body.items.map((item: { userId: string }) => item.userId))
    cursor = body.nextCursor
  } while (cursor !== null)
  t.strictSame(seen, ['bob', 'alice', 'alice'])
  t.match((await admin('GET', '/admin/sessions?cursor=abc')).body, { statusCode: 400, code: 'DOORMAN_CURSOR_INVALID' })
})

t.test('end a session, or all of a user', async t => {
  const { login, admin, as } = await startApi(t)
  const first = await login()
  const second = await login()
  const bob = await login('bob')
  t.equal((await admin('DELETE', `/admin/sessions/${first.session.id}`)).status, 204)
  t.match((await admin('DELETE', `/admin/sessions/${first.session.id}`)).body, { statusCode: 404, code: 'DOORMAN_SESSION_NOT_FOUND' })
  t.strictSame((await admin('DELETE', '/admin/users/alice/sessions')).body, { ended: 1 })
  t.strictSame((await admin('DELETE', '/admin/users/alice/sessions')).body, { ended: 0 })
  t.equal((await as(second.token, 'GET', '/session')).status, 401)
  t.equal((await as(bob.token, 'GET', '/session')).status, 200)
})
