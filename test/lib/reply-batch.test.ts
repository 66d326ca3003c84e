/** When held replies are sent: at the end of the turn, when the oldest has waited long enough, when there are many; and that none keeps the others. */
import t from 'tap'
import { AsyncLocalStorage } from 'node:async_hooks'
import { createReplyBatch } from '../../lib/reply-batch.js'

function setUp () {
  const time = { now: 0 }
  const sent: unknown[] = []
  const hold = createReplyBatch(() => time.now)
  return { time, sent, hold, reply: (name: unknown) => hold(() => { sent.push(name) }) }
}
const turn = () => new Promise<void>(resolve => { setImmediate(resolve) })

t.test('all of a turn are sent at its end, in their order', async t => {
  const { reply, sent } = setUp()
  reply('a')
  reply('b')
  await Promise.resolve()
  t.same(sent, [], 'not while promises are being settled')
  await turn()
  t.same(sent, ['a', 'b'])
  reply('c')
  await turn()
  t.same(sent, ['a', 'b', 'c'])
})

t.test('one that comes when the oldest has waited a millisecond sends them all, itself last', async t => {
  const { reply, sent, time } = setUp()
  reply('a')
  time.now = 0.99
  reply('b')
  t.same(sent, [])
  time.now = 1
  reply('c')
  t.same(sent, ['a', 'b', 'c'])
  time.now = 1.5
  reply('d')
  t.same(sent, ['a', 'b', 'c'], 'waits anew')
  await turn()
  t.same(sent, ['a', 'b', 'c', 'd'])
})

t.test('no more than 64 are held', async t => {
  const { reply, sent } = setUp()
  for (let i = 0; i < 64; i++) reply(i)
  t.equal(sent.length, 0)
  reply(64)
  t.same(sent, Array.from({ length: 65 }, (_, i) => i))
})

t.test('each goes on in its own asynchronous context', async t => {
  const { hold } = setUp()
  const context = new AsyncLocalStorage<string>()
  const seen: Array<string | undefined> = []
  for (const name of ['a', 'b']) context.run(name, () => hold(() => { seen.push(context.getStore()) }))
  hold(() => { seen.push(context.getStore()) })
  await turn()
  t.same(seen, ['a', 'b', undefined])
})

t.test('one that cannot be sent is told why, and keeps nobody', async t => {
  const { hold, reply, sent } = setUp()
  const wrong = new Error('a line break')
  reply('a')
  hold(error => {
    if (error === undefined) throw wrong
    sent.push(error)
  })
  reply('c')
  await turn()
  t.same(sent, ['a', wrong, 'c'])
})

t.test('nor does one whose error cannot be sent either: that is thrown to the process', async t => {
  const { hold, reply, sent } = setUp()
  const thrown: unknown[] = []
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.once('uncaughtException', error => { thrown.push(error) })
  t.teardown(() => { for (const listener of listeners) process.on('uncaughtException', listener) })
  const wrong = new Error('whatever is done')
  hold(() => { throw wrong })
  reply('b')
  await turn()
  await turn()
  t.same(sent, ['b'])
  t.same(thrown, [wrong])
})

t.test('fake timers of a host\'s tests do not stop replies', async t => {
  const { reply, sent } = setUp()
  const real = globalThis.setImmediate
  globalThis.setImmediate = (() => {}) as unknown as typeof setImmediate
  try {
    reply('a')
  } finally {
    globalThis.setImmediate = real
  }
  await turn()
  t.same(sent, ['a'])
})
