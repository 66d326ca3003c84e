/** The other routes of operators: blocks, activity, cleanup, statistics, personal data. */
import t from 'tap'
import { doormanError } from '../../errors.js'
import { newDatabase } from '../engine.js'
import { startApi } from './helper.js'

t.test('blocks: an address is refused until it is let in again', async t => {
  const { admin, send, advance } = await startApi(t)
  const visit = async (remoteAddress: string) => (await send('GET', '/health/live', undefined, {}, { remoteAddress })).body
  const made = await admin('POST', '/admin/blocks', { cidr: '198.51.100.77/24', reason: 'scanner', until: '2026-03-01T13:00:00Z' })
  t.equal(made.status, 201)
  t.strictSame(made.body, { id: made.body.id, cidr: '198.51.100.0/24', reason: 'scanner', until: '2026-03-01T13:00:00.000Z', createdAt: '2026-03-01T12:00:00.000Z' })
  t.match(await visit('198.51.100.9'), { statusCode: 403, code: 'DOORMAN_ADDRESS_BLOCKED' })
  t.match(await visit('192.0.2.1'), { status: 'ok' })

  const open = (await admin('POST', '/admin/blocks', { cidr: '2001:db8::1' })).body
  t.match(open, { cidr: '2001:db8::1/128', until: null, reason: null })
  const { body } = await admin('GET', '/admin/blocks')
  t.strictSame(body.items.map((block: { cidr: string }) => block.cidr).sort(), ['198.51.100.0/24', '2001:db8::1/128'])
  t.equal(body.nextCursor, null)

  t.equal((await admin('DELETE', `/admin/blocks/${open.id}`)).status, 204)
  t.match((await admin('DELETE', `/admin/blocks/${open.id}`)).body, { statusCode: 404, code: 'DOORMAN_BLOCK_NOT_FOUND' })
  t.match(await visit('2001:db8::1'), { status: 'ok' })
  advance(3_600_000)
  t.match(await visit('198.51.100.9'), { status: 'ok' })

  for (const bad of [{}, { cidr: 'nowhere' }, { cidr: '0.0.0.0/0' }, { cidr: '192.0.2.1', until: 'later' }, { cidr: '192.0.2.1', colour: 'red' }]) {
    t.equal((await admin('POST', '/admin/blocks', bad)).status, 400, JSON.stringify(bad))
  }
  t.equal((await admin('GET', '/admin/blocks?limit=1')).status, 400)
})

t.test('blocks: nobody locks themselves out', async t => {
  const { send, admin } = await startApi(t, { TRUST_PROXY: 'loopback' })
  const block = (cidr: string, from: string) =>
    send('POST', '/admin/blocks', { cidr }, { authorization: 'Bearer test-key-test-key-test-key-test-key', 'x-forwarded-for': from })
  for (const [cidr, from] of [['192.0.2.7', '192.0.2.7'], ['192.0.2.200/24', '192.0.2.7'], ['::ffff:192.0.2.7', '192.0.2.7'], ['192.0.2.7', '::ffff:192.0.2.7'], ['2001:db8::/32', '2001:db8::7']] as const) {
    const { status, body } = await block(cidr, from)
    t.equal(status, 400, cidr)
    t.match(body, { code: 'DOORMAN_VALUE_INVALID', message: /^"cidr" must be a network without your own address \(.+\): you would lock yourself out/ })
  }
  t.strictSame((await admin('GET', '/admin/blocks')).body.items, [])
  t.equal((await block('192.0.2.8', '192.0.2.7')).status, 201)
  t.equal((await block('2001:db8::/32', '192.0.2.7')).status, 201)
  t.equal((await block('192.0.2.9', 'nobody')).status, 201, 'without an address nobody is locked out by one')
})

t.test('activity: record and read', async t => {
  const { admin, app, advance } = await startApi(t)
  const made = await admin('POST', '/admin/activity', { userId: 'alice', action: 'order.placed', sessionId: 's1', ip: '192.0.2.1', detail: { order: 7 } })
  t.equal(made.status, 202)
  t.strictSame(made.body, { accepted: 1 })
  advance(1000)
  await admin('POST', '/admin/activity', { userId: 'bob', action: 'order.placed' })
  await app.database.flush()
  const read = async (query: string) => (await admin('GET', `/admin/activity?${query}`)).body
  t.match((await read('userId=alice')).items, [{ at: '2026-03-01T12:00:00.000Z', userId: 'alice', sessionId: 's1', action: 'order.placed', ip: '192.0.2.1', detail: { order: 7 } }])
  t.match((await read('action=order.placed')).items, [{ userId: 'bob', detail: null, sessionId: null, ip: null }, { userId: 'alice' }])
  t.equal((await read('sessionId=s1')).items.length, 1)
  t.equal((await read('action=order.placed&from=2026-03-01T12:00:01Z')).items.length, 1)
  const first = await read('action=order.placed&limit=1')
  t.match((await read(`action=order.placed&limit=1&cursor=${first.nextCursor}`)).items, [{ userId: 'alice' }])
  t.match(await read('cursor=x'), { statusCode: 400, code: 'DOORMAN_CURSOR_INVALID' })
  const longest = `A${'b:'.repeat(31)}.`
  t.equal((await admin('POST', '/admin/activity', { userId: 'a', action: longest })).status, 202)
  for (const action of [`${longest}x`, '9lives', 'two words', 'line\n']) {
    t.match((await admin('POST', '/admin/activity', { userId: 'a', action })).body, { statusCode: 400, code: 'DOORMAN_REQUEST_INVALID', message: /action/ }, action)
    t.equal((await read(`action=${encodeURIComponent(action)}`)).statusCode, 400, 'nor can it be asked for')
  }
  for (const bad of [{}, { userId: 'a' }, { userId: 'a', action: '' }, { userId: 'a', action: 'b', detail: 'text' }, { userId: 'a', action: 'b', at: 5 }]) {
    t.equal((await admin('POST', '/admin/activity', bad)).status, 400, JSON.stringify(bad))
  }
})

t.test('cleanup: run now, and what was removed', async t => {
  const { admin, login, advance } = await startApi(t)
  await login()
  advance(25 * 3_600_000)
  const dry = await admin('POST', '/admin/cleanup', { dryRun: true })
  t.equal(dry.status, 200)
  t.match(dry.body, { dryRun: true, trigger: 'manual', complete: true, error: null, removed: { sessionsIdle: 1, ipLogs: 0 } })
  advance(1000)
  t.match((await admin('POST', '/admin/cleanup')).body, { dryRun: false, removed: { sessionsIdle: 1 }, startedAt: '2026-03-02T13:00:01.000Z' })
  advance(1000)
  t.match((await admin('POST', '/admin/cleanup', {})).body, { removed: { sessionsIdle: 0 } })
  const { items } = (await admin('GET', '/admin/cleanup')).body
  t.strictSame(items.map((run: { removed: { sessionsIdle: number } }) => run.removed.sessionsIdle), [0, 1, 1])
  t.equal((await admin('GET', '/admin/cleanup?limit=2')).body.items.length, 2)
  t.match((await admin('POST', '/admin/cleanup', { dryrun: true })).body, { statusCode: 400, message: /dryrun/ })
  t.match((await admin('POST', '/admin/cleanup', { dryRun: 'yes' })).body, { statusCode: 400 })
})

t.test('cleanup: not while another process runs it', async t => {
  const { admin, app } = await startApi(t)
  t.intercept(app.cleanup, 'run', { value: async () => { throw doormanError('DOORMAN_CLEANUP_RUNNING') } })
  t.match((await admin('POST', '/admin/cleanup')).body, { statusCode: 409, code: 'DOORMAN_CLEANUP_RUNNING', message: /Another process/ })
  const { paths } = (await admin('GET', '/docs/json')).body
  t.ok(paths['/admin/cleanup'].post.responses['409'])
})

t.test('users: hand out everything held, then erase it', async t => {
  const { admin, login, as, app, advance } = await startApi(t)
  const { token, session } = await login('alice', { ip: '192.0.2.1', data: { plan: 'pro' } })
  const old = await login('alice')
  await admin('DELETE', `/admin/sessions/${old.session.id}`)
  await login('bob')
  await as(token, 'GET', '/session')
  app.activity.record({ userId: 'alice', action: 'order.placed', detail: { order: 7 } })

  const { status, body } = await admin('GET', '/admin/users/alice/export')
  t.equal(status, 200)
  t.match(body, {
    userId: 'alice',
    exportedAt: '2026-03-01T12:00:00.000Z',
    truncated: false,
    sessions: [{ id: session.id, ip: '192.0.2.1', authenticatedAt: '2026-03-01T12:00:00.000Z', data: { plan: 'pro' } }],
    endedSessions: [{ id: old.session.id, reason: 'revoked', endedAt: '2026-03-01T12:00:00.000Z' }],
    ipLogs: [{ path: '/session', userId: 'alice' }],
    devices: [{ device: null, network: '192.0.2.0/24', firstSeenAt: '2026-03-01T12:00:00.000Z', lastSeenAt: '2026-03-01T12:00:00.000Z', sessions: 1 }]
  })
  t.match(body.activity.find((row: { action: string }) => row.action === 'order.placed'), { detail: { order: 7 } })
  t.notMatch(JSON.stringify(body), token)

  advance(1000)
  const erased = await admin('DELETE', '/admin/users/alice')
  t.equal(erased.status, 200)
  t.match(erased.body, { sessions: 1, endedSessions: 1, devices: 1, ipLogs: 1, deadLetters: 0 })
  t.ok(erased.body.activity >= 1)
  t.equal((await as(token, 'GET', '/session')).status, 401)
  t.match((await admin('GET', '/admin/users/alice/export')).body, { sessions: [], endedSessions: [], devices: [], activity: [], ipLogs: [], deadLetters: [] })
  t.equal((await admin('GET', '/admin/users/bob/export')).body.sessions.length, 1)
  t.strictSame((await admin('DELETE', '/admin/users/nobody')).body, { sessions: 0, endedSessions: 0, devices: 0, activity: 0, ipLogs: 0, deadLetters: 0 })
})

t.test('users: the longest ids there are can be asked for and erased', async t => {
  const { admin, login } = await startApi(t)
  for (const character of ['😀', '/', 'é', '%']) {
    const userId = character.repeat(255)
    const path = `/admin/users/${encodeURIComponent(userId)}`
    await login(userId)
    t.match((await admin('GET', `${path}/export`)).body, { userId, sessions: [{}] }, character)
    t.match((await admin('DELETE', `${path}/sessions`)).body, { ended: 1 })
    t.match((await admin('DELETE', path)).body, { endedSessions: 1 })
    t.equal((await admin('DELETE', `/admin/users/${encodeURIComponent(userId + character)}`)).status, 400, 'one more is too long')
  }
})

t.test('health', async t => {
  const { send, app } = await startApi(t)
  t.strictSame((await send('GET', '/health/live')).body, { status: 'ok' })
  t.strictSame((await send('GET', '/health/ready')).body, { status: 'ok', reasons: [] })

  t.intercept(app.database, 'health', { value: () => ({ status: 'degraded', reasons: ['rows wait'] }) })
  const degraded = await send('GET', '/health/ready')
  t.equal(degraded.status, 200, 'sessions are still checked')
  t.strictSame(degraded.body, { status: 'degraded', reasons: ['rows wait'] })

  t.intercept(app.database.storage, 'probeSessions', { value: () => { throw doormanError('DOORMAN_STORAGE_IO', ['SQLITE_IOERR']) } })
  const broken = await send('GET', '/health/ready')
  t.equal(broken.status, 503)
  t.equal(broken.headers['retry-after'], '1')
  t.strictSame(broken.body, { status: 'unavailable', reasons: ['sessions cannot be read'] })
})

t.test('health: an error keeps its shape', async t => {
  const { send, app } = await startApi(t)
  t.intercept(app.database, 'health', { value: () => { throw doormanError('DOORMAN_STORAGE_CLOSED') } })
  t.strictSame((await send('GET', '/health/ready')).body,
    { statusCode: 503, code: 'DOORMAN_STORAGE_CLOSED', error: 'Service Unavailable', message: 'The service cannot do this at the moment: try again later' })
})

t.test('health and metrics do not wait for the log, whatever the others do', async t => {
  const db = await newDatabase(t)
  const { send, admin } = await startApi(t, { IP_LOG_DURABILITY: 'committed', DATABASE_URL: db.url })
  const lock = await db.lock('log')
  let answered = false
  const other = admin('GET', '/admin/blocks').then(reply => {
    answered = true
    return reply
  })
  try {
    for (const url of ['/health/ready', '/health/live']) t.equal((await send('GET', url)).status, 200, url)
    t.equal((await admin('GET', '/metrics')).status, 200)
    t.notOk(answered, 'the other reply waits for its row')
  } finally {
    await lock.release()
  }
  t.equal((await other).status, 200)
})

t.test('metrics', async t => {
  const { admin, send } = await startApi(t)
  const { status, headers, body } = await admin('GET', '/metrics')
  t.equal(status, 200)
  t.match(headers['content-type'], 'text/plain; version=0.0.4')
  t.match(body, /^doorman_healthy 1$/m)
  t.equal((await send('GET', '/metrics')).status, 401)
})
