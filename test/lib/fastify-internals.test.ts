import Fastify from 'fastify'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { clientAddresses, secondaryServers } from '../../lib/fastify-internals.js'

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
