/** Replies of one turn sent together: what clients, hooks and asynchronous contexts see of it. With it alone, and as part of the suite. */
import t, { type Test } from 'tap'
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import { doorman, replyBatching as plugin } from '../../index.js'
import { databaseUrl } from '../engine.js'

function start (t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(plugin)
  return app
}

t.test('of requests that come together, all are handled before the first is answered', async t => {
  const app = start(t)
  const order: string[] = []
  app.get('/:name', async request => {
    order.push(`handled ${(request.params as { name: string }).name}`)
    return 'hi'
  })
  app.addHook('onResponse', async request => { order.push(`answered ${(request.params as { name: string }).name}`) })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  // In one packet, so that no luck is needed for them to come in one turn.
  const socket = connect(port, '127.0.0.1')
  socket.write('GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  let text = ''
  socket.setEncoding('utf8').on('data', chunk => { text += chunk })
  await once(socket, 'close')
  t.equal(text.match(/HTTP\/1\.1 200 OK/g)?.length, 3)
  t.same(order.slice(0, 3), ['handled a', 'handled b', 'handled c'])
  t.same(order.slice(3).sort(), ['answered a', 'answered b', 'answered c'])
})

t.test('hooks that follow, and the end of the response, are in the context of their own request', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const context = new AsyncLocalStorage<string>()
  const seen: string[] = []
  app.addHook('onRequest', (request, _reply, done) => context.run(request.url, done))
  app.register(plugin)
  app.after(() => {
    app.addHook('onSend', async request => { seen.push(`send ${request.url} ${context.getStore()}`) })
    app.addHook('onResponse', async request => { seen.push(`response ${request.url} ${context.getStore()}`) })
    for (const url of ['/a', '/b']) app.get(url, () => ({ url }))
  })
  await Promise.all(['/a', '/b'].map(url => app.inject(url)))
  t.same(seen.sort(), ['response /a /a', 'response /b /b', 'send /a /a', 'send /b /b'])
})

t.test('what is wrong with a reply is an error of that request', async t => {
  const app = start(t)
  app.get('/header', (_request, reply) => reply.header('x-wrong', 'a\nb').send('hi'))
  app.get('/handler', async () => { throw Object.assign(new Error('no'), { statusCode: 418 }) })
  app.get('/fine', () => 'hi')
  const replies = await Promise.all(['/header', '/handler', '/fine', '/nowhere'].map(url => app.inject(url)))
  t.same(replies.map(({ statusCode }) => statusCode), [500, 418, 200, 404])
  t.match(replies[0]!.json(), { code: 'ERR_INVALID_CHAR' })
})

t.test('texts, bytes, nothing and streams arrive', async t => {
  const app = start(t)
  app.get('/text', () => 'text')
  app.get('/bytes', (_request, reply) => reply.send(Buffer.from('bytes')))
  app.get('/nothing', (_request, reply) => reply.code(204).send())
  app.get('/stream', (_request, reply) => reply.send(Readable.from(['str', 'eam'])))
  app.get('/hijacked', (_request, reply) => {
    reply.hijack()
    reply.raw.end('hijacked')
  })
  for (const [url, body] of [['/text', 'text'], ['/bytes', 'bytes'], ['/nothing', ''], ['/stream', 'stream'], ['/hijacked', 'hijacked']]) t.equal((await app.inject(url!)).body, body, url!)
})

t.test('a stream that fails at once is Fastify\'s to handle', async t => {
  const app = start(t)
  app.get('/', (_request, reply) => {
    const stream = new Readable({ read () {} })
    stream.destroy(Object.assign(new Error('gone'), { statusCode: 410 }))
    return reply.send(stream)
  })
  t.equal((await app.inject('/')).statusCode, 410)
})

t.test('as part of the suite, and left out', async t => {
  for (const [replyBatching, inTurn] of [[undefined, ['handled', 'handled', 'sent', 'sent']], [true, ['handled', 'handled', 'sent', 'sent']], [false, ['handled', 'sent', 'handled', 'sent']]] as const) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(doorman, { database: { url: await databaseUrl() }, ...replyBatching === undefined ? {} : { replyBatching } })
    const order: string[] = []
    // After the suite's own hooks, so when the reply leaves.
    app.addHook('onSend', (_request, _reply, _payload, done) => {
      order.push('sent')
      done()
    })
    app.get('/', (_request, reply) => {
      order.push('handled')
      reply.send('hi')
    })
    await Promise.all([app.inject('/'), app.inject('/')])
    t.same(order, inTurn, String(replyBatching))
  }
  const app = Fastify()
  await t.rejects(async () => app.register(doorman, { database: { url: await databaseUrl() }, replyBatching: 'yes' as unknown as boolean }), { code: 'DOORMAN_OPTION_INVALID', message: /doorman\.replyBatching.*true or false.*"yes"/ })
})
