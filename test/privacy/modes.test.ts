/** Modes and age tiers: only the chosen form of an address is in the files. About SQLite: see test/storage/contract.ts for both engines. */
import t from 'tap'
import { createAnonymizer } from '../../lib/anonymizer.js'
import { START, startApi, type Api } from '../routes/helper.js'
import { addressForms, found, textForms } from './search.js'

const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const DAY = 86_400_000
const IP = '203.0.113.77'
const IP6 = '2001:db8:aa:bb::77'

async function visit ({ app, login, send }: Api) {
  for (const ip of [IP, IP6]) {
    const { token } = await login('alice', { ip })
    await send('GET', '/session', undefined, { authorization: `Bearer ${token}` }, { remoteAddress: ip })
    app.activity.record({ userId: 'alice', action: 'acted', ip })
  }
  await app.ipTracking.report([{ ip: IP, method: 'GET', path: '/', status: 200 }, { ip: IP6, method: 'GET', path: '/', status: 200 }])
  await app.database.flush()
}

t.test('truncate: the network only', async t => {
  const api = await startApi(t, { IP_ANONYMIZATION: 'truncate' })
  await visit(api)
  for (const ip of [IP, IP6]) t.strictSame(found(api.config.databaseUrl, addressForms(ip)), {}, ip)
  t.match(found(api.config.databaseUrl, addressForms('203.0.113.0')), { 'as text': Number, 'as four bytes': Number })
  t.match(found(api.config.databaseUrl, textForms('2001:db8:aa::')), { 'as text': Number })
})

t.test('hash: no address and no network', async t => {
  const api = await startApi(t, { IP_ANONYMIZATION: 'hash' })
  await visit(api)
  for (const ip of [IP, IP6, '203.0.113.0', '2001:db8:aa::']) t.strictSame(found(api.config.databaseUrl, addressForms(ip)), {}, ip)
  t.match(found(api.config.databaseUrl, textForms(api.app.ipTracking.anonymize(IP))), { 'as text': Number })
})

t.test('hash: the key is in no file', async t => {
  const api = await startApi(t, { IP_ANONYMIZATION: 'hash' })
  await visit(api)
  let key = Buffer.alloc(0)
  const own = createAnonymizer({ mode: 'hash', clock: () => START, makeKey: bytes => { key = Buffer.alloc(bytes, 0xa7); return key } })
  const hash = own.apply(IP)
  await api.app.ipTracking.report([{ ip: IP, method: 'GET', path: `/${hash}`, status: 200 }])
  await api.app.database.flush()
  t.match(found(api.config.databaseUrl, textForms(hash)), { 'as text': Number }, 'a hash made with a known key is there')
  t.strictSame(found(api.config.databaseUrl, { key, text: Buffer.from(key.toString('hex')) }), {}, 'the key is not')
  own.close()
  t.ok(key.every(byte => byte === 0))
})

t.test('tiers: in full until their age, without the host from then on', async t => {
  const api = await startApi(t, { IP_TRUNCATE_AFTER: '3d', SESSION_IDLE_TIMEOUT: '20d', IP_ANONYMIZATION: 'none' })
  const { app, admin, config: { databaseUrl } } = api
  await visit(api)
  app.database.log.offer({ kind: 'activity', at: START, userId: 'alice', sessionId: null, action: 'x', ip: IP, detail: 'refused' })
  await app.database.flush()
  for (const ip of [IP, IP6]) t.match(found(databaseUrl, addressForms(ip)), { 'as text': Number }, ip)
  t.match(found(databaseUrl, addressForms(IP)), { 'as four bytes': Number })
  api.advance(3 * DAY)
  const none = { ipLogAddresses: 0, activityAddresses: 0, sessionAddresses: 0, deadLetters: 0 }
  t.match((await admin('POST', '/admin/cleanup')).body, { removed: none }, 'not a millisecond too early')
  t.match(found(databaseUrl, addressForms(IP)), { 'as four bytes': Number })
  api.advance(1)
  const { body: { removed: predicted } } = await admin('POST', '/admin/cleanup', { dryRun: true })
  t.match(predicted, { deadLetters: 1, sessionAddresses: 2 })
  t.ok(predicted.ipLogAddresses >= 6)
  const { body: run } = await admin('POST', '/admin/cleanup')
  t.match(run, { complete: true, removed: predicted })
  for (const ip of [IP, IP6]) t.strictSame(found(databaseUrl, addressForms(ip)), {}, ip)
  t.match(found(databaseUrl, addressForms('203.0.113.0')), { 'as text': Number, 'as four bytes': Number })
  t.match((await admin('POST', '/admin/cleanup')).body, { removed: none }, 'once')

  await app.ipTracking.report([{ ip: IP, at: START, method: 'GET', path: '/late', status: 200 }, { ip: IP6, at: START - 20 * DAY, method: 'GET', path: '/late', status: 200 }])
  app.database.log.offer({ kind: 'activity', at: START, userId: 'alice', sessionId: null, action: 'late', ip: IP, detail: null })
  app.database.log.offer({ kind: 'activity', at: START, userId: 'alice', sessionId: null, action: 'late', ip: null, detail: null })
  await app.database.flush()
  for (const ip of [IP, IP6]) t.strictSame(found(databaseUrl, addressForms(ip)), {}, 'what is told late is stored without the host')
  t.match((await app.ipTracking.list({ ip: '203.0.113.0' }, { limit: 1 })).items, [{ path: '/late', ip: '203.0.113.0' }])
})

t.test('a session whose address was truncated is not taken for another client\'s when it is used again', async t => {
  const api = await startApi(t, { IP_TRUNCATE_AFTER: '3d', SESSION_IDLE_TIMEOUT: '20d', SESSION_CLIENT_CHANGE: 'revoke' })
  const { token } = await api.login('alice', { ip: IP6, userAgent: 'UA/1' })
  const get = (ip: string) => api.send('GET', '/session', undefined, { authorization: `Bearer ${token}`, 'user-agent': 'UA/1' }, { remoteAddress: ip })
  t.equal((await get(IP6)).status, 200)
  await api.app.database.flush()
  api.advance(3 * DAY + 1)
  await api.admin('POST', '/admin/cleanup')
  t.match((await api.app.sessions.list()).items, [{ ip: '2001:db8:aa::', lastIp: '2001:db8:aa::' }])
  t.equal((await get(IP6)).status, 200)
  t.equal((await get('2001:db8:ab::1')).status, 401, 'another network still is')
})
