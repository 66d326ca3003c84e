/** Events of sessions, and who listens. */
import t from 'tap'
import { inspect } from 'node:util'
import { createSessionEvents, realAddressOf, type SessionEvent } from '../../lib/session-events.js'

t.test('listeners hear what they asked for, until they do not', async t => {
  const events = createSessionEvents(() => t.fail())
  const heard: unknown[] = []
  const listener = (event: unknown) => { heard.push(event) }
  events.on('session_created', listener)
  events.emit('session_created', 5, 'ada', 's_1', { ip: '192.0.2.1' })
  events.emit('session_ended', 6, 'ada', 's_1', { reason: 'revoked' })
  events.off('session_created', listener)
  events.emit('session_created', 7, 'ada', 's_2')
  t.same(heard, [{ name: 'session_created', at: 5, userId: 'ada', sessionId: 's_1', reason: null, ip: '192.0.2.1', userAgent: null, detail: {} }])
  t.ok(Object.isFrozen(heard[0]))
})

t.test('the real address is beside an event, not in it', async t => {
  const events = createSessionEvents(() => t.fail())
  const heard: SessionEvent[] = []
  events.on('session_created', event => { heard.push(event) })
  events.emit('session_created', 5, 'ada', 's_1', { ip: '192.0.2.0' }, '192.0.2.77')
  events.emit('session_created', 5, 'ada', 's_2', { ip: null }, null)
  events.emit('session_created', 5, 'ada', 's_3')
  t.strictSame(heard.map(realAddressOf), ['192.0.2.77', null, null])
  t.notMatch(JSON.stringify(heard) + inspect(heard, { depth: 9, showHidden: true }), '192.0.2.77')
})

t.test('a listener that fails disturbs nobody', async t => {
  const failures: unknown[] = []
  const events = createSessionEvents((error, name) => failures.push([String(error), name]))
  let heard = 0
  events.on('session_ended', () => { throw new Error('thrown') })
  events.on('session_ended', async () => { throw new Error('rejected') })
  events.on('session_ended', async () => {})
  events.on('session_ended', () => { heard++ })
  events.emit('session_ended', 1, 'ada', null)
  await new Promise(setImmediate)
  t.equal(heard, 1)
  t.same(failures, [['Error: thrown', 'session_ended'], ['Error: rejected', 'session_ended']])
})
