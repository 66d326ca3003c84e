/** Open connections hear of the end of their session, whoever ended it. */
import t, { type Test } from 'tap'
import { mock } from 'node:test'
import type { LiveEnd } from '../../lib/live-sessions.js'
import { resolveSessionOptions, type SessionOptions } from '../../lib/session-options.js'
import { createSessions } from '../../lib/sessions.js'
import { createFakeStorage, createManualQueue, type ManualQueue } from '../fake-storage.js'

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000
const DAY = 24 * HOUR

function setUp (t: Test, options: SessionOptions = {}) {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const storage = createFakeStorage()
  const time = { now: START }
  const errors: unknown[] = []
  let queue!: ManualQueue
  const sessions = createSessions({
    storage,
    clock: () => time.now,
    options: resolveSessionOptions(options),
    createQueue: commit => (queue = createManualQueue(commit)),
    onListenerError: error => { errors.push(error) }
  })
  const ends: LiveEnd[] = []
  return {
    storage,
    time,
    sessions,
    errors,
    ends,
    queue,
    login: (userId = 'ada') => sessions.create({ userId }),
    listen: ({ session, token }: Awaited<ReturnType<typeof sessions.create>>) => sessions.live.watch(session, token, end => { ends.push(end) }),
    /** A second passes, and what is looked up in it is. */
    async second () {
      mock.timers.tick(1000)
      for (let i = 0; i < 50; i++) await Promise.resolve()
    },
    calls: (name: string) => storage.calls[name] ?? 0
  }
}

t.test('what this process ends is known at once, by whichever way', async t => {
  const { sessions, login, listen, ends, time, storage } = setUp(t, { maxPerUser: 1, clientChange: 'revoke' })
  const first = await login()
  listen(first)
  listen(first)
  time.now += 1000
  const second = await login()
  t.strictSame(ends.splice(0), [{ reason: 'limit', at: time.now }, { reason: 'limit', at: time.now }], 'every listener')
  listen(second)
  await sessions.remove(second.session.id)
  t.strictSame(ends.splice(0), [{ reason: 'revoked', at: time.now }])
  const third = await sessions.create({ userId: 'ada', ip: '192.0.2.1' })
  listen(third)
  await sessions.validate(third.token, { ip: '198.51.100.1', userAgent: null })
  t.match(ends.splice(0), [{ reason: 'client-changed' }])
  listen(await login())
  await sessions.removeEverybody()
  t.match(ends.splice(0), [{ reason: 'revoked' }])
  t.equal(sessions.live.size, 0)
  t.equal(storage.calls['changeCounter'], undefined, 'nobody had to look')
})

t.test('nothing is looked up while nobody listens; with listeners, a counter a second, and who began to listen once', async t => {
  const { login, listen, second, calls, sessions } = setUp(t)
  const one = await login()
  const two = await login('bob')
  await second()
  t.equal(calls('changeCounter'), 0)
  const stop = listen(one)
  const stopToo = listen(one)
  for (let i = 0; i < 3; i++) await second()
  t.same([calls('changeCounter'), calls('getSession')], [3, 1])
  const stopTwo = listen(two)
  await second()
  t.same([calls('changeCounter'), calls('getSession')], [4, 2])
  await sessions.remove((await login('eve')).session.id)
  await second()
  t.same([calls('changeCounter'), calls('getSession')], [5, 4], 'something changed: both are looked up')
  t.equal(sessions.live.size, 2)
  stop()
  stop()
  t.equal(sessions.live.size, 2, 'somebody else still listens')
  stopToo()
  stopTwo()
  t.equal(sessions.live.size, 0)
  await second()
  t.equal(calls('changeCounter'), 5)
})

t.test('what another process ends is known a second later, with its reason', async t => {
  const { login, listen, second, ends, storage, time, sessions } = setUp(t)
  for (const synchronous of [true, false]) {
    storage.asynchronous = !synchronous
    const one = await login()
    listen(one)
    await second()
    await storage.endSessions({ id: one.session.id }, 'limit', START + 5)
    t.same(ends, [])
    await second()
    t.strictSame(ends.splice(0), [{ reason: 'limit', at: START + 5 }])
  }
  const rotated = await login()
  listen(rotated)
  await sessions.rotate(rotated.token)
  await second()
  t.same(ends, [], 'a new token is no end')
  await storage.endSessions({ id: rotated.session.id }, 'limit', START + 5)
  time.now += 2000
  await second()
  t.strictSame(ends.splice(0), [{ reason: 'revoked', at: time.now }], 'its own tombstone says that it was replaced')
  const erased = await login()
  listen(erased)
  storage.live.clear()
  await second()
  t.strictSame(ends.splice(0), [{ reason: 'revoked', at: time.now }])
})

t.test('a session that ended before anybody listened is noticed in the next second', async t => {
  const { login, listen, second, ends, sessions, storage } = setUp(t)
  const other = await login('bob')
  const one = await login()
  sessions.live.watch(other.session, other.token, () => {})
  await storage.endSessions({ id: one.session.id }, 'revoked', START)
  await second()
  listen(one)
  await second()
  t.strictSame(ends, [{ reason: 'revoked', at: START }])
})

t.test('timeouts: when due, and not while it is used', async t => {
  const { login, listen, second, ends, time, sessions, calls } = setUp(t, { absoluteTimeout: '25h' })
  const one = await login()
  listen(one)
  await second()
  time.now = START + DAY - 1
  sessions.touch(one.session)
  time.now++
  await second()
  t.same([ends, calls('getSession')], [[], 2], 'looked up when due by what was known, and alive by the use that waits')
  await second()
  t.equal(calls('getSession'), 2)
  time.now = START + 25 * HOUR - 1
  await second()
  t.same(ends, [])
  time.now++
  await second()
  t.strictSame(ends.splice(0), [{ reason: 'expired', at: START + 25 * HOUR }])
  const two = await login()
  const began = time.now
  listen(two)
  time.now += DAY
  await second()
  t.strictSame(ends, [{ reason: 'idle', at: began + DAY }])
})

t.test('a use that is stored while its session is read does not make it look idle', async t => {
  const { sessions, login, listen, second, ends, time, storage, queue } = setUp(t)
  const one = await login()
  listen(one)
  await second()
  const { getSession } = storage
  /** Answers with what was read before `meanwhile`. */
  const readBefore = (meanwhile: () => Promise<void>) => {
    storage.getSession = async id => {
      const found = await getSession(id)
      await meanwhile()
      storage.getSession = getSession
      return found
    }
  }
  time.now = START + DAY - 1
  sessions.touch({ ...one.session, lastActiveAt: 0 })
  time.now++
  readBefore(() => queue.flush())
  await second()
  t.same([ends, sessions.stats().pendingTouches], [[], 0], 'by this process')

  time.now = START + 2 * DAY - 2
  readBefore(async () => {
    await storage.touchSessions([{ sessionId: one.session.id, at: time.now, ip: null, userAgent: null, flagged: false }])
    time.now++
  })
  storage.calls.getSession = 0
  // Another process changed some session: all are looked up.
  await storage.endSessions({ id: (await login('bob')).session.id }, 'revoked', time.now)
  await second()
  t.same([ends, storage.calls.getSession], [[], 1], 'by another')
})

t.test('a storage that fails ends nothing, and is asked again', async t => {
  const { login, listen, second, ends, storage, calls } = setUp(t)
  const one = await login()
  listen(one)
  await storage.endSessions({ id: one.session.id }, 'revoked', START)
  for (const name of ['changeCounter', 'getSession', 'findSession']) {
    storage.failing[name] = new Error('locked')
    for (let i = 0; i < 2; i++) await second()
    t.same(ends, [], name)
    delete storage.failing[name]
  }
  t.equal(calls('changeCounter'), 6)
  await second()
  t.match(ends, [{ reason: 'revoked' }])
})

t.test('a storage that takes long is asked once at a time, some sessions at a time', async t => {
  const { login, listen, second, storage, calls, ends } = setUp(t)
  const issued = await Promise.all(Array.from({ length: 120 }, (_, i) => login(`u${i}`)))
  for (const one of issued) listen(one)
  let open = () => {}
  const gate = new Promise<void>(resolve => { open = resolve })
  const { getSession } = storage
  let most = 0
  let under = 0
  storage.getSession = async id => {
    most = Math.max(most, ++under)
    await gate
    under--
    return getSession(id)
  }
  for (let i = 0; i < 3; i++) await second()
  t.equal(calls('changeCounter'), 1)
  open()
  for (let i = 0; i < 20; i++) await second()
  t.equal(most, 50)
  t.equal(calls('getSession'), 120)
  t.same(ends, [])
})

t.test('listeners that fail are reported, the others are called; each once', async t => {
  const { login, listen, sessions, ends, errors, storage, second } = setUp(t)
  const one = await login()
  sessions.live.watch(one.session, one.token, () => { throw new Error('thrown') })
  sessions.live.watch(one.session, one.token, async () => { throw new Error('rejected') })
  const again = sessions.live.watch(one.session, one.token, () => { listen(one) })
  const stop = listen(one)
  await sessions.remove(one.session.id)
  t.equal(ends.length, 1)
  stop()
  again()
  await new Promise(resolve => setImmediate(resolve))
  t.match(errors, [{ message: 'thrown' }, { message: 'rejected' }])
  t.equal(sessions.live.size, 1, 'listened to anew, by whatever did not know better')
  await second()
  t.equal(ends.length, 2)
  t.equal(sessions.live.size, 0)
  t.ok(storage.calls['getSession'])
})

t.test('an end that is found while it is being looked up is told once', async t => {
  const { login, listen, sessions, ends, storage, second } = setUp(t)
  const one = await login()
  listen(one)
  const { getSession } = storage
  storage.getSession = async id => {
    await sessions.remove(id)
    listen(one)
    return getSession(id)
  }
  await second()
  t.equal(ends.length, 1)
  t.equal(sessions.live.size, 1, 'who listens since then is not forgotten')
  storage.getSession = getSession
  await second()
  t.equal(ends.length, 2)
})

t.test('close forgets everybody and calls nobody', async t => {
  const { login, listen, sessions, ends, second, calls } = setUp(t)
  const one = await login()
  const stop = listen(one)
  sessions.live.close()
  t.equal(sessions.live.size, 0)
  listen(one)
  await sessions.remove(one.session.id)
  await second()
  t.same([ends, calls('changeCounter')], [[], 0])
  stop()
})
