/** The places inside Fastify that we read: this release has them, others need not. */
import Fastify from 'fastify'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { clientAddresses, createRouteConfigReader, secondaryServers } from '../../lib/fastify-internals.js'

const raw = { headers: { 'x-forwarded-for': '192.0.2.7' }, socket: { remoteAddress: '127.0.0.1' } } as unknown as IncomingMessage

t.test('this release of Fastify keeps them where they are looked for', async t => {
  const plain = clientAddresses(Fastify())
  t.match(plain, { trustsProxies: false, trustProxy: undefined })
  t.strictSame(plain.chainOf(raw), ['127.0.0.1'])
  const app = Fastify({ trustProxy: '127.0.0.1' })
  const behind = clientAddresses(app)
  t.match(behind, { trustsProxies: true, trustProxy: '127.0.0.1' })
  t.strictSame(behind.chainOf(raw), ['127.0.0.1', '192.0.2.7'])
  await app.register(async child => {
    const inside = clientAddresses(child)
    t.match(inside, { trustsProxies: true, trustProxy: '127.0.0.1' }, 'in a child instance as well')
    t.strictSame(inside.chainOf(raw), ['127.0.0.1', '192.0.2.7'])
  })
  t.strictSame(secondaryServers(Fastify()), [])
})

t.test('one that does not: less is known, nothing fails', async t => {
  const { trustsProxies, trustProxy, chainOf } = clientAddresses({})
  t.strictSame([trustsProxies, trustProxy, chainOf(raw)], [false, undefined, ['127.0.0.1']])
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
