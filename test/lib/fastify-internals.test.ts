import Fastify from 'fastify'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { clientAddresses, createRouteConfigReader, secondaryServers } from '../../lib/fastify-internals.js'

const raw = { headers: { 'x-forwarded-for': '192.0.2.7' }, socket: { remoteAddress: '127.0.0.1' } } as unknown as IncomingMessage

t.test('this release of Fastify keeps them where they are looked for', async t => {
  const plain = clientAddresses(Fastify())
  t.equal(plain.trustsProxies, false)
  t.equal(plain.addressOf(raw), '127.0.0.1')
  const behind = clientAddresses(Fastify({ trustProxy: '127.0.0.1' }))
  t.equal(behind.trustsProxies, true)
  t.equal(behind.addressOf(raw), '192.0.2.7')
  t.strictSame(secondaryServers(Fastify()), [])
})

t.test('one that does not: less is known, nothing fails', async t => {
  const { trustsProxies, addressOf } = clientAddresses({})
  t.equal(trustsProxies, false)
  t.equal(addressOf(raw), '127.0.0.1')
  t.strictSame(secondaryServers({}), [])
})

t.test('the config of a route is the one that routeOptions has, wherever it is kept', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const configOf = createRouteConfigReader()
  const seen: unknown[] = []
  app.addHook('onRequest', async request => { seen.push([configOf(request) === request.routeOptions.config, configOf(request).url]) })
  app.get('/a/:id', { config: { rateLimit: 1 } as object }, async () => 'a')
  for (const url of ['/a/1', '/a/2', '/none']) await app.inject(url)
  t.same(seen, [[true, '/a/:id'], [true, '/a/:id'], [true, undefined]])
  const config = {}
  t.equal(createRouteConfigReader()({ routeOptions: { config } }), config, 'in a release that keeps it elsewhere')
})
