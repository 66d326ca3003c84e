/** R48 to R50: in what form addresses are kept, what is handed out and erased, and that it is all written down. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { ENGINE, newDatabase, type TestDatabase } from '../engine.js'
import { startApi } from '../routes/helper.js'
import { bearer, DAY, START, startApp } from './helper.js'

const V4 = '203.0.113.77'
const V6 = '2001:db8:aaaa:bbbb:cccc::77'
/** As text, and in SQLite's log as the number it is. */
const holdsV4 = async (db: TestDatabase) => await db.contains(V4) || (ENGINE === 'sqlite' && await db.contains(Buffer.from([203, 0, 113, 77])))

t.test('R48: only the chosen form of an address is in the files: in full, cut, hashed with a key of one day, or none', async t => {
  const modes = {
    none: { v4: V4, v6: V6, inFull: true },
    truncate: { v4: '203.0.113.0', v6: '2001:db8:aaaa::', inFull: false },
    hash: { v4: /^h_[\w-]{16}$/, v6: /^h_[\w-]{16}$/, inFull: false }
  } as const
  for (const [anonymization, { v4, v6, inFull }] of Object.entries(modes)) {
    const { app, db, login, get, time } = await startApp(t, { ipTracking: { anonymization: anonymization as keyof typeof modes } })
    const visit = async (address: string) => {
      const { token } = await login({ 'x-forwarded-for': address })
      await get('/private', { ...bearer(token), 'x-forwarded-for': address })
      app.activity.record({ userId: 'ada', action: 'acted', ip: address })
      await app.ipTracking.report([{ method: 'GET', path: '/reported', status: 200, ip: address }])
    }
    await visit(V4)
    await visit(V6)
    await app.database.flush()
    const rows = (await app.ipTracking.list({}, { limit: 50 })).items
    t.equal(rows.length, 6)
    const forms = new Set([...rows.map(row => row.ip), ...(await app.sessions.list()).items.flatMap(item => [item.ip, item.lastIp])])
    t.match([...forms].sort((a, b) => Number(a!.includes(':')) - Number(b!.includes(':'))), [v4, v6], anonymization)
    t.equal(forms.size, 2)
    t.strictSame([await holdsV4(db), await db.contains(V6)], [inFull, inFull], `${anonymization}: while it runs`)
    t.ok(rows.every(row => inFull || row.peerPort === null))
    const yesterday = app.ipTracking.anonymize(V4)
    time.now = START + DAY
    t.equal(app.ipTracking.anonymize(V4) === yesterday, anonymization !== 'hash', 'the key of a day is destroyed with it')
    await app.close()
    t.strictSame([await holdsV4(db), await db.contains(V6)], [inFull, inFull], `${anonymization}: after the close`)
  }
  const off = await startApp(t, { ipTracking: false, sessions: { clientChange: 'off', touchInterval: '12h' } })
  const { token } = await off.app.sessions.create({ userId: 'ada' })
  await off.get('/private', { ...bearer(token), 'x-forwarded-for': V4 })
  await off.app.database.flush()
  t.notOk(await holdsV4(off.db), 'off')
})

t.test('R49: everything about a user is handed out, and after the erasure no byte of it is left', async t => {
  const db = await newDatabase(t)
  const { app, admin, login, as, send } = await startApi(t, { DATABASE_URL: db.url })
  const [user, path] = ['ada-7f3k@example.org', '/admin/users/ada-7f3k%40example.org']
  const traces = [user, V4, 'secret-plan', 'order.ada']
  const { token, session } = await login(user, { ip: V4, userAgent: 'agent-of-ada', data: { plan: 'secret-plan' } })
  const ended = await login(user, { ip: V4 })
  const bob = await login('bob', { ip: '192.0.2.5', userAgent: 'agent-of-bob' })
  await app.sessions.remove(ended.session.id)
  await send('GET', '/session', undefined, { ...bearer(token), 'user-agent': 'agent-of-ada' }, { remoteAddress: V4 })
  await as(bob.token, 'GET', '/session')
  await admin('POST', '/admin/activity', { userId: user, action: 'order.ada', ip: V4, detail: { plan: 'secret-plan' } })

  const { body } = await admin('GET', `${path}/export`)
  t.match(body, {
    truncated: false,
    sessions: [{ id: session.id, ip: V4, userAgent: 'agent-of-ada', data: { plan: 'secret-plan' } }],
    endedSessions: [{ id: ended.session.id, reason: 'revoked' }],
    ipLogs: [{ ip: V4, userAgent: 'agent-of-ada', sessionId: session.id }]
  })
  t.ok(body.activity.some((item: { action: string }) => item.action === 'order.ada'))
  t.notMatch(JSON.stringify(body), /bob|192\.0\.2\.5/)
  for (const trace of traces) t.ok(await db.contains(trace) || (trace === V4 && await holdsV4(db)), `${trace} is there before`)

  t.match((await admin('DELETE', path)).body, { sessions: 1, endedSessions: 1, ipLogs: 1 })
  t.equal((await as(token, 'GET', '/session')).status, 401)
  const gone = async (when: string) => {
    for (const trace of [...traces, session.id, ended.session.id]) t.notOk(await db.contains(trace), `${trace}, ${when}`)
    t.notOk(await holdsV4(db), when)
  }
  await gone('in file, WAL and freed pages')
  t.match((await admin('GET', `${path}/export`)).body, { sessions: [], endedSessions: [], activity: [], ipLogs: [] })
  t.equal((await as(bob.token, 'GET', '/session')).status, 200, 'others stay')
  await app.close()
  await gone('after the close')
  t.ok(await db.contains('agent-of-bob'))
})

t.test('R50: what is recorded of people, why, and for how long is written down', async t => {
  const page = readFileSync('docs/security.md', 'utf8')
  const inventory = page.slice(page.indexOf('\n## Personal data'), page.indexOf('\n## What is not defended'))
  for (const kind of ['addresses', 'ports', 'user agents', 'paths', 'referers', 'user ids', 'session ids', 'times', 'activity', '`data`', 'truncate', 'hash', '30 days', 'export', 'erases', 'does not reach']) t.match(inventory, kind, kind)
  const { app } = await startApp(t)
  const { session } = await app.sessions.create({ userId: 'ada' })
  t.strictSame(Object.keys(session).sort(), [
    'authenticatedAt', 'createdAt', 'data', 'device', 'expiresAt', 'flagged', 'id', 'idleExpiresAt', 'ip', 'lastActiveAt', 'lastIp', 'userAgent', 'userId'
  ], 'a session has no other fields: whoever adds one says so there')
})
