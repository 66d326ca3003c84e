/** Sessions, as operators see them. */
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

t.test('what a user has logged in with', async t => {
  const { login, admin, send, advance, app } = await startApi(t)
  const client = { ip: '192.0.2.1', userAgent: 'curl/8.5.0' }
  await login('alice', client)
  advance(1000)
  await login('alice', { ...client, ip: '2001:db8:1:2::1' })
  advance(1000)
  await login('alice', { ...client, ip: '192.0.2.9', userAgent: 'curl/8.6.0' })
  t.strictSame(await admin('GET', '/admin/users/alice/devices').then(({ body }) => body), {
    items: [
      { device: 'curl', network: '192.0.2.0/24', firstSeenAt: '2026-03-01T12:00:00.000Z', lastSeenAt: '2026-03-01T12:00:02.000Z', sessions: 2 },
      { device: 'curl', network: '2001:db8:1:2::/64', firstSeenAt: '2026-03-01T12:00:01.000Z', lastSeenAt: '2026-03-01T12:00:01.000Z', sessions: 1 }
    ],
    nextCursor: null
  })
  t.strictSame((await admin('GET', '/admin/users/nobody/devices')).body, { items: [], nextCursor: null })
  t.equal((await admin('GET', `/admin/users/${'a'.repeat(256)}/devices`)).status, 400)
  t.equal((await send('GET', '/admin/users/alice/devices')).status, 401)
  await app.database.flush()
  const { body } = await admin('GET', '/admin/activity?userId=alice&action=session_new_device')
  t.match(body.items, [{ ip: '2001:db8:1:2::1', detail: { device: 'curl', network: '2001:db8:1:2::/64', newDevice: false, newNetwork: true } }])
})

t.test('with truncated addresses nothing finer is kept of a device', async t => {
  const { login, admin } = await startApi(t, { IP_ANONYMIZATION: 'truncate' })
  for (const ip of ['192.0.2.77', '2001:db8:1:2:3:4:5:6', '2001:db8:1:9::1']) await login('alice', { ip, userAgent: 'curl/8' })
  const { items } = (await admin('GET', '/admin/users/alice/devices')).body
  t.strictSame(items.map(({ network }: { network: string }) => network).sort(), ['192.0.2.0/24', '2001:db8:1::/64'])
})
