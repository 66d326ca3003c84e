/** After an erasure nothing of it is in any byte of the files; each test first finds what it has planted. About SQLite: see test/storage/contract.ts for both engines. */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { createHash } from 'node:crypto'
import type { ActivityRow } from '../../storage/storage.js'
import { fileOf } from '../engine.js'
import { openSqliteStorage, tempFile } from '../helper.js'
import { START, startApi, type Api } from '../routes/helper.js'
import { addressForms, found, hashForms, textForms, tokenForms } from './search.js'

const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const USER = 'user-to-be-forgotten'
const IP = '203.0.113.77'
const IP6 = '2001:db8:aa:bb::77'
const PROXY = '198.51.100.201'

/** Everything that may be held about a user and an address. */
async function use (t: Test, api: Api) {
  const { app, login, send } = api
  const { token: first, session } = await login(USER, { ip: IP, userAgent: 'UA/1' })
  t.equal((await send('GET', '/session', undefined, { authorization: `Bearer ${first}` }, { remoteAddress: IP })).status, 200)
  t.equal((await send('GET', '/session', undefined, { cookie: `sid=${first}` }, { remoteAddress: IP6 })).status, 200)
  const { token } = await app.sessions.rotate(first, { grace: 60_000 })
  t.equal((await send('GET', '/session', undefined, { cookie: `sid=${first}` }, { remoteAddress: IP })).status, 200, 'in grace')
  const ended = await login(USER, { ip: IP6 })
  await app.sessions.remove(ended.session.id)
  app.activity.record({ userId: USER, action: 'order.placed', sessionId: session.id, ip: IP })
  await app.ipTracking.report([
    { requestId: 'reported-1', at: START - 1000, ip: IP, method: 'GET', path: '/elsewhere', status: 200, userId: USER, sessionId: session.id },
    { requestId: 'reported-2', ip: IP6, method: 'GET', path: '/elsewhere', status: 200 }
  ])
  // What a constraint refuses.
  const refused: ActivityRow = { kind: 'activity', at: START, userId: USER, sessionId: session.id, action: 'x', ip: IP, detail: 'not JSON' }
  app.database.log.offer(refused)
  app.database.log.offer({ kind: 'ip', at: START, ip: IP6, ipSource: 'forwarded', peerIp: PROXY, peerPort: 1, trustedHops: 1, method: 'GET', path: '/', route: null, status: 200, durationUs: 0, userAgent: null, referer: null, sessionId: null, userId: null, requestId: null, outcome: 'replied' })
  await app.database.flush()
  return { tokens: [first, token, ended.token], ids: [session.id, ended.session.id] }
}

t.test('no token is in the files while its session lives, in any form but its hash', async t => {
  const api = await startApi(t)
  const { tokens } = await use(t, api)
  for (const token of tokens) {
    t.strictSame(found(api.config.databaseUrl, tokenForms(token)), {})
    t.match(found(api.config.databaseUrl, hashForms(token)), { 'its hash': Number })
  }
})

t.test('an erased user: ids, hashes and name are nowhere', async t => {
  const api = await startApi(t)
  const { tokens, ids } = await use(t, api)
  const { databaseUrl } = api.config
  t.match(found(databaseUrl, textForms(USER)), { 'as text': Number })
  for (const id of ids) t.match(found(databaseUrl, textForms(id)), { 'as text': Number })
  t.match((await api.admin('GET', `/admin/users/${USER}/export`)).body, { sessions: [{}], endedSessions: [{}, {}], ipLogs: [{}, {}, {}, {}], activity: [{}], deadLetters: [{ kind: 'activity', userId: USER }] })
  t.match((await api.admin('DELETE', `/admin/users/${USER}`)).body, { sessions: 1, deadLetters: 1 })
  t.strictSame(found(databaseUrl, textForms(USER)), {})
  for (const id of ids) t.strictSame(found(databaseUrl, textForms(id)), {}, id)
  for (const token of tokens) t.strictSame(found(databaseUrl, { ...tokenForms(token), ...hashForms(token) }), {})
})

t.test('an erased address: nowhere, as text or as a number; the sessions live on, and so does the rest of the log', async t => {
  const api = await startApi(t)
  const { admin, app, config: { databaseUrl } } = api
  const { tokens } = await use(t, api)
  t.match(found(databaseUrl, addressForms(IP)), { 'as text': Number, 'as four bytes': Number })
  t.match(found(databaseUrl, addressForms(IP6)), { 'as text': Number })
  t.match(found(databaseUrl, addressForms(PROXY)), { 'as four bytes': Number })

  const { body: held } = await admin('GET', `/admin/addresses/::ffff:${IP}/export`)
  t.match(held, { address: IP, truncated: false, sessions: [{ userId: USER, ip: IP }], ipLogs: [{ ip: IP }, { ip: IP }, { ip: IP, requestId: 'reported-1' }], deadLetters: [{ kind: 'activity', content: /"not JSON"/ }], blocks: [], relayed: 0 })
  t.ok(held.activity.some((row: { action: string }) => row.action === 'order.placed'))
  t.match((await admin('GET', `/admin/addresses/${PROXY}/export`)).body, { ipLogs: [], relayed: 1 })

  const erased = await admin('DELETE', `/admin/addresses/${IP}`)
  t.match(erased, { status: 200, body: { ipLogs: 3, sessions: 1, relayed: 0, deadLetters: 1, blocks: 0, blocksKept: 0 } })
  t.match((await admin('DELETE', `/admin/addresses/${encodeURIComponent(IP6.toUpperCase())}`)).body, { ipLogs: 3 })
  t.match((await admin('DELETE', `/admin/addresses/${PROXY}`)).body, { ipLogs: 0, relayed: 0 }, 'its request went with the client\'s address')
  for (const address of [IP, IP6, PROXY]) t.strictSame(found(databaseUrl, addressForms(address)), {}, address)
  t.match(await app.sessions.validate(tokens[1]), { valid: true, session: { ip: null, lastIp: null } })
  t.match((await admin('GET', `/admin/addresses/${IP}/export`)).body, { sessions: [], activity: [], ipLogs: [], deadLetters: [], relayed: 0 })
  t.ok((await admin('GET', `/admin/users/${USER}/export`)).body.activity.length > 0, 'what the user did is still known')

  t.match(found(databaseUrl, textForms('reported-1')), { 'as text': Number }, 'the key of a reported request is kept for as long as the log')
  await app.ipTracking.report([{ requestId: 'reported-1', ip: IP, method: 'GET', path: '/elsewhere', status: 200 }])
  await app.database.flush()
  t.strictSame(found(databaseUrl, addressForms(IP)), {}, 'so the request that was erased is not stored again when it is reported again')
})

t.test('a block of exactly that address is kept, and said to be, unless it is to go, too', async t => {
  const { admin, config: { databaseUrl } } = await startApi(t)
  for (const cidr of [IP, '203.0.113.0/24', IP6]) t.equal((await admin('POST', '/admin/blocks', { cidr })).status, 201)
  t.match((await admin('GET', `/admin/addresses/${IP}/export`)).body, { blocks: [{ cidr: `${IP}/32` }] })
  t.match((await admin('DELETE', `/admin/addresses/${IP}`)).body, { blocks: 0, blocksKept: 1 })
  t.match(found(databaseUrl, addressForms(IP)), { 'as text': Number })
  t.match((await admin('DELETE', `/admin/addresses/${IP}?blocks=true`)).body, { blocks: 1, blocksKept: 0 })
  t.strictSame(found(databaseUrl, addressForms(IP)), {})
  t.match((await admin('GET', '/admin/blocks')).body.items.map((block: { cidr: string }) => block.cidr).sort(), [`${IP6}/128`, '203.0.113.0/24'])
})

t.test('what is no address is refused; the form that is stored counts', async t => {
  const { admin, send } = await startApi(t, { IP_ANONYMIZATION: 'truncate' })
  for (const text of ['nobody', '1.2.3', 'h_short']) t.match(await admin('DELETE', `/admin/addresses/${text}`), { status: 400, body: { code: 'DOORMAN_VALUE_INVALID' } }, text)
  t.equal((await admin('DELETE', `/admin/addresses/${IP}?more=1`)).status, 400)
  t.equal((await send('DELETE', `/admin/addresses/${IP}`)).status, 401)
  await send('GET', '/health/live', undefined, {}, { remoteAddress: IP })
  t.match((await admin('DELETE', `/admin/addresses/${IP}`)).body, { ipLogs: 1 }, 'all of its network: nobody knows more')
  const hashed = await startApi(t, { IP_ANONYMIZATION: 'hash' })
  await hashed.send('GET', '/health/live', undefined, {}, { remoteAddress: IP })
  const { body } = await hashed.admin('GET', `/admin/addresses/${IP}/export`)
  t.match(body, { address: /^h_/, ipLogs: [{}] })
  t.match((await hashed.admin('DELETE', `/admin/addresses/${body.address as string}`)).body, { ipLogs: 1 })
})

t.test('pages that were divided keep nothing either, once the cleanup has run', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const other = new Database(file)
  other.pragma('secure_delete = ON')
  const insert = other.prepare(`INSERT INTO sessions (token_hash, id, user_id, created_at, last_active_at, authenticated_at, rotated_at, expires_at, ip, last_ip, user_agent, data)
    VALUES (?, ?, ?, 1, 1, 1, 1, 2, ?, ?, 'UA/1', '{}')`)
  // In the order of hashes, which is random, so that pages are divided everywhere.
  const fill = other.transaction((from: number) => { for (let i = from; i < from + 200; i++) insert.run(createHash('sha256').update(`${i}`).digest(), `s_${i}`, `u_${i}`, IP6, IP6) })
  for (let from = 0; from < 40_000; from += 200) fill(from)
  other.close()
  const url = `file:${file}`
  t.match(await storage.eraseAddress(IP6), { sessions: 40_000 })
  const left = found(url, addressForms(IP6))['as text'] ?? 0
  t.ok(left > 0 && left < 400, `${left} of 80000 copies are left of the erasure itself`)
  await storage.maintain({ pages: 1, optimize: false })
  t.strictSame(found(url, addressForms(IP6)), {})
  t.strictSame(await storage.check(), [])
})

t.test('while somebody has the lock the files are not written anew: the next cleanup does it', async t => {
  const api = await startApi(t)
  await use(t, api)
  await api.admin('DELETE', `/admin/users/${USER}`)
  const { storage } = api.app.database
  const other = new Database(fileOf(api.config.databaseUrl))
  t.teardown(() => other.close())
  other.exec('BEGIN IMMEDIATE')
  const first = storage.maintain({ pages: 1, optimize: false })
  // The step after it waits for the lock.
  await new Promise(resolve => setImmediate(resolve))
  other.exec('COMMIT')
  await first
  await storage.maintain({ pages: 1, optimize: false })
  t.strictSame(found(api.config.databaseUrl, textForms(USER)), {})
})
