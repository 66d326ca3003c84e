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

t.test('R48: with age tiers an address is kept in full until its age, then as a network, and its bytes are gone', async t => {
  const { app, db, login, get, time } = await startApp(t, { cleanup: { enabled: false, addressTruncateAfter: '3d', sessionIdleTimeout: '20d' }, sessions: { idleTimeout: '20d' } })
  for (const address of [V4, V6]) {
    const { token } = await login({ 'x-forwarded-for': address })
    await get('/private', { ...bearer(token), 'x-forwarded-for': address })
    app.activity.record({ userId: 'ada', action: 'acted', ip: address })
  }
  await app.database.flush()
  const forms = async () => {
    const rows = [...(await app.ipTracking.list({}, { limit: 50 })).items, ...(await app.activity.list({}, { limit: 50 })).items]
    t.equal(rows.length, 4 + 5, 'requests; two deeds, two logins, a new network')
    return [...new Set([...rows.map(row => row.ip), ...(await app.sessions.list()).items.flatMap(item => [item.ip, item.lastIp])])].sort()
  }
  const held = async () => [await holdsV4(db), await db.contains(V6)]
  time.now = START + 3 * DAY
  await app.cleanup.run()
  t.strictSame([await forms(), await held()], [[V6, V4], [true, true]], 'a millisecond before')
  time.now++
  t.match(await app.cleanup.run(), { complete: true, error: null, removed: { ipLogAddresses: 4, sessionAddresses: 2 } })
  t.strictSame([await forms(), await held()], [['2001:db8:aaaa::', '203.0.113.0'], [false, false]])
  await app.close()
  t.strictSame(await held(), [false, false], 'after the close')
})

t.test('R49: everything about a user is handed out, and after the erasure no byte of it is left', async t => {
  const db = await newDatabase(t)
  const { app, admin, login, as, send, advance } = await startApi(t, { DATABASE_URL: db.url })
  const [user, path] = ['ada-7f3k@example.org', '/admin/users/ada-7f3k%40example.org']
  const traces = [user, V4, 'secret-plan', 'order.ada', '203.0.113.0/24']
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
    ipLogs: [{ ip: V4, userAgent: 'agent-of-ada', sessionId: session.id }],
    devices: [{ network: '203.0.113.0/24' }, { network: '203.0.113.0/24' }]
  })
  t.ok(body.activity.some((item: { action: string }) => item.action === 'order.ada'))
  t.notMatch(JSON.stringify(body), /bob|192\.0\.2\.5/)
  for (const trace of traces) t.ok(await db.contains(trace) || (trace === V4 && await holdsV4(db)), `${trace} is there before`)

  t.match((await admin('DELETE', path)).body, { sessions: 1, endedSessions: 1, ipLogs: 1, devices: 2 })
  t.equal((await as(token, 'GET', '/session')).status, 401)
  const gone = async (when: string) => {
    for (const trace of [...traces, session.id, ended.session.id]) t.notOk(await db.contains(trace), `${trace}, ${when}`)
    t.notOk(await holdsV4(db), when)
  }
  await gone('in file, WAL and freed pages')
  t.match((await admin('GET', `${path}/export`)).body, { sessions: [], endedSessions: [], activity: [], ipLogs: [], devices: [] })
  t.equal((await as(bob.token, 'GET', '/session')).status, 200, 'others stay')
  t.ok(await db.contains('agent-of-bob'))
  t.equal(await db.contains('agent-of-ada'), ENGINE === 'sqlite', 'the text of a user agent, which others may have, stays in the list of texts')
  t.notOk((await app.ipTracking.list({}, { limit: 50 })).items.some(row => row.userAgent === 'agent-of-ada'), 'without a reference to it')
  // The one that follows the erasure writes the file anew; later ones have to do without.
  await admin('POST', '/admin/cleanup')
  advance(32 * DAY)
  await admin('POST', '/admin/cleanup')
  t.notOk(await db.contains('agent-of-ada'), 'until nothing has used it for as long as the log is kept')
  await app.close()
  await gone('after the close')
})

t.test('R49: everything about an address is handed out, and after the erasure no byte of it is left', async t => {
  const db = await newDatabase(t)
  const { app, admin, login, send } = await startApi(t, { DATABASE_URL: db.url, TRUST_PROXY: '10.0.0.1' })
  const path = (address: string) => `/admin/addresses/${encodeURIComponent(address)}`
  const OTHER = '192.0.2.5'
  const at = async (ip: string, userId: string) => {
    const made = await login(userId, { ip })
    await send('GET', '/session', undefined, bearer(made.token), { remoteAddress: ip })
    await admin('POST', '/admin/activity', { userId, action: `order.${userId}`, ip })
    return made
  }
  const [four, six, others] = [await at(V4, 'ada'), await at(V6, 'bea'), await at(OTHER, 'cy')]
  await send('GET', '/health/live', undefined, { 'x-forwarded-for': V4 }, { remoteAddress: '10.0.0.1' })

  for (const [address, spelling, { session }, userId, requests] of [[V4, `::ffff:${V4}`, four, 'ada', 2], [V6, V6.toUpperCase(), six, 'bea', 1]] as const) {
    const { body } = await admin('GET', `${path(spelling)}/export`)
    t.match(body, { address, truncated: false, sessions: [{ id: session.id, ip: address, lastIp: address }], deadLetters: [], blocks: [], relayed: 0 })
    t.equal(body.ipLogs.length, requests)
    t.ok(body.activity.some((item: { action: string }) => item.action === `order.${userId}`))
    t.notMatch(JSON.stringify(body), new RegExp(`cy|${OTHER}`))
  }
  t.strictSame([await holdsV4(db), await db.contains(V6)], [true, true], 'there before')

  t.match((await admin('DELETE', path(V4))).body, { ipLogs: 2, sessions: 1, blocksKept: 0 })
  t.match((await admin('DELETE', path(V6))).body, { ipLogs: 1, sessions: 1, blocksKept: 0 })
  t.strictSame([await holdsV4(db), await db.contains(V6)], [false, false], 'in file, WAL and freed pages')
  for (const address of [V4, V6]) t.match((await admin('GET', `${path(address)}/export`)).body, { sessions: [], activity: [], ipLogs: [], relayed: 0 })
  t.strictSame((await app.sessions.list({ userId: 'ada' })).items.map(({ ip, lastIp }) => [ip, lastIp]), [[null, null]])
  t.match((await admin('GET', `${path(OTHER)}/export`)).body, { sessions: [{ id: others.session.id, ip: OTHER }], ipLogs: [{ ip: OTHER }] }, 'others stay')
  t.ok((await app.activity.list({ action: 'order.ada' }, { limit: 1 })).items.length === 1, 'and what was done')
  await app.close()
  t.strictSame([await holdsV4(db), await db.contains(V6)], [false, false], 'after the close')
  t.ok(await db.contains(OTHER))
})

t.test('R50: what is recorded of people, why, and for how long is written down', async t => {
  const page = readFileSync('docs/privacy.md', 'utf8')
  const section = (title: string) => page.slice(page.indexOf(`\n## ${title}`)).split('\n## ', 2)[1]!
  const kinds = [...section('Inventory').matchAll(/^\| (\S.*) \|$/gm)].map(([, row]) => row!.split(' | ')).slice(2)
  t.ok(kinds.length >= 15)
  for (const [data, where, why, howLong, basis] of kinds) {
    for (const cell of [data, where, why, howLong, basis]) t.match(cell, /\w{2}/, data ?? '')
  }
  const columns = kinds.flatMap(([, where]) => [...where!.matchAll(/`([^`]+)`/g)].map(([, column]) => column))
  // What the API tells of people, by the table that it is stored in.
  const { app, login, time } = await startApp(t)
  await login()
  app.activity.record({ userId: 'ada', action: 'acted' })
  await app.database.flush()
  const [session] = (await app.sessions.list()).items
  t.equal(session!.idleExpiresAt, time.now + DAY)
  const { idleExpiresAt: _, ...stored } = session!
  const told: [string, object][] = [['sessions', stored], ['ip_logs', (await app.ipTracking.list({}, { limit: 1 })).items[0]!], ['user_activity', (await app.activity.list({}, { limit: 1 })).items[0]!], ['session_devices', (await app.sessions.devices('ada'))[0]!]]
  for (const [table, fields] of told) {
    const missing = Object.keys(fields).map(field => `${table}.${field.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)}`).filter(column => !columns.includes(column))
    t.strictSame(missing.filter(column => column !== 'user_activity.id'), [], 'whoever stores more says so there')
  }
  const risks = [...section('Monitoring').matchAll(/^\| (\S.*) \|$/gm)].map(([, row]) => row!.split(' | ')).slice(2)
  t.ok(risks.length >= 5)
  for (const cells of risks) {
    t.equal(cells.length, 3, 'what is monitored, the risk, what limits it')
    for (const cell of cells) t.match(cell, /\w{4}/)
  }
  for (const title of ['Export', 'Erase', 'What an erasure does not reach', 'Logs and backups']) t.ok(section(title).length > 200, title)
})
