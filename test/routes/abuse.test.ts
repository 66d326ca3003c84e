/** Signals of abuse in the standalone API. */
import t from 'tap'
import { until } from '../helper.js'
import { startApi, type Api } from './helper.js'

const probe = async ({ send }: Api, times: number, remoteAddress: string) => {
  await Promise.all(Array.from({ length: times }, (_, i) => send('GET', `/wp-admin/${i}`, undefined, {}, { remoteAddress })))
}

t.test('signals are on and nothing is blocked by default', async t => {
  const api = await startApi(t)
  t.strictSame((await api.admin('GET', '/admin/abuse')).body, { items: [], blocks: 0 })
  await probe(api, 100, '192.0.2.7')
  await until(() => api.app.abuse.signalled().length === 1)
  t.strictSame((await api.admin('GET', '/admin/abuse')).body, {
    items: [{ signal: 'malicious_excess_404', network: '192.0.2.0/24', address: '192.0.2.7', count: 100, limit: 100, windowMs: 60_000, since: '2026-03-01T12:00:00.000Z' }],
    blocks: 0
  })
  t.equal((await api.send('GET', '/admin/abuse')).status, 401)
  t.equal((await api.admin('GET', '/admin/abuse?limit=1')).status, 400)
  api.advance(60_000)
  t.strictSame((await api.admin('GET', '/admin/abuse')).body.items, [])
})

t.test('ABUSE_BLOCK blocks, and can be lifted', async t => {
  const api = await startApi(t, { ABUSE_BLOCK: '30m', ABUSE_ALLOW: '198.51.100.0/24' })
  await probe(api, 100, '192.0.2.7')
  await probe(api, 100, '198.51.100.7')
  await until(() => api.app.abuse.stats().blocks.total === 1)
  const visit = async (remoteAddress: string) => (await api.send('GET', '/health/live', undefined, {}, { remoteAddress })).status
  t.equal(await visit('192.0.2.9'), 403)
  t.equal(await visit('198.51.100.7'), 200)
  t.equal((await api.admin('GET', '/admin/abuse')).body.blocks, 1)
  const [block] = (await api.admin('GET', '/admin/blocks')).body.items
  t.match(block, { cidr: '192.0.2.0/24', until: '2026-03-01T12:30:00.000Z', reason: 'automatic: malicious_excess_404, 100 in 1m' })
  t.equal((await api.admin('DELETE', `/admin/blocks/${block.id}`)).status, 204)
  t.equal(await visit('192.0.2.9'), 200)
  t.equal((await api.admin('GET', '/admin/abuse')).body.blocks, 0)
})

t.test('a service with an API key may ask for what is not there', async t => {
  const api = await startApi(t, { ABUSE_BLOCK: '15m' })
  for (let i = 0; i < 120; i++) t.equal((await api.admin('DELETE', `/admin/sessions/s_${i}`)).status, 404)
  await new Promise(setImmediate)
  t.strictSame(api.app.abuse.stats().signals, { malicious_excess_404: 0, session_token_guessing: 0, excess_users_from_address: 0 })
})

t.test('tokens that are tried are a signal', async t => {
  const api = await startApi(t)
  for (let i = 0; i < 30; i++) await api.send('GET', '/session', undefined, { authorization: `Bearer dm_guess${i}` }, { remoteAddress: '2001:db8::7' })
  await until(() => api.app.abuse.signalled().length === 1)
  t.match((await api.admin('GET', '/admin/abuse')).body, { items: [{ signal: 'session_token_guessing', network: '2001:db8::/64', count: 30, limit: 30 }] })
})
