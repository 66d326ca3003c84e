/** What is remembered of sessions, and everything that makes it be read again. */
import t from 'tap'
import { SessionCache } from '../../../storage/sqlite/session-cache.js'
import type { SessionLookup, SessionRecord } from '../../../storage/storage.js'

const NOW = 1_000_000

function record (id: string, rest: Partial<SessionRecord> = {}): SessionRecord {
  return {
    id,
    userId: 'ada',
    createdAt: NOW,
    lastActiveAt: NOW,
    authenticatedAt: NOW,
    rotatedAt: NOW,
    expiresAt: NOW * 2,
    ip: null,
    lastIp: null,
    userAgent: null,
    lastUserAgent: null,
    device: null,
    flagged: false,
    data: '{}',
    ...rest
  }
}

function setup (size?: number) {
  const file = { counter: 0, looks: 0, reads: 0, time: 0, sessions: new Map<string, SessionLookup>() }
  const cache = new SessionCache({
    read (hash) { file.reads++; return file.sessions.get(hash) ?? null },
    counter () { file.looks++; return file.counter },
    monotonic: () => file.time,
    ...size === undefined ? {} : { size }
  })
  const live = (name: string, rest?: Partial<SessionRecord>) => file.sessions.set(name, { state: 'live', session: record(name, rest) })
  // As the engine asks.
  const find = (name: string, idleBefore = 0) => cache.remembered(name, idleBefore) ?? cache.find(name, NOW, idleBefore)
  return { cache, file, live, find }
}

t.test('a session is read once while nothing changes, and the counter once a millisecond', async t => {
  const { file, live, find } = setup()
  live('a')
  for (let i = 0; i < 10; i++) {
    t.match(find('a'), { state: 'live', session: { id: 'a' } })
    file.time += 0.25
  }
  t.equal(file.reads, 1)
  t.equal(file.looks, 3, 'at 0, 1 and 2 ms')
})

t.test('a change by another process is seen within a millisecond, one of our own at once', async t => {
  const { cache, file, live, find } = setup()
  live('a')
  find('a')
  file.sessions.set('a', { state: 'ended', sessionId: 'a', userId: 'ada', reason: 'revoked', endedAt: NOW })
  file.counter++
  file.time = 0.999
  t.match(find('a'), { state: 'live' })
  file.time = 1
  t.match(find('a'), { state: 'ended' })

  live('b')
  find('b')
  file.sessions.delete('b')
  file.counter++
  t.match(find('b'), { state: 'live' }, 'within the same millisecond')
  cache.recheck()
  t.equal(find('b'), null)
})

t.test('a change elsewhere makes every session be read again, once', async t => {
  const { file, live, find } = setup()
  live('a')
  find('a')
  file.counter++
  file.time = 5
  find('a')
  find('a')
  t.equal(file.reads, 2)
})

t.test('what is not live is never remembered', async t => {
  const { file, find } = setup()
  file.sessions.set('old', { state: 'ended', sessionId: 'a', userId: 'ada', reason: 'idle', endedAt: NOW })
  file.sessions.set('before', { state: 'grace', session: record('a') })
  for (const name of ['old', 'before', 'nobody']) {
    file.reads = 0
    find(name)
    find(name)
    t.equal(file.reads, 2, name)
  }
})

t.test('last uses: those of others within a second or before a refusal, our own at once', async t => {
  const { cache, file, live, find } = setup()
  live('a', { lastActiveAt: 100 })
  find('a', 99)
  live('a', { lastActiveAt: 200 })
  t.match(find('a', 99), { session: { lastActiveAt: 100 } })
  t.match(find('a', 100), { session: { lastActiveAt: 200 } }, 'it looks idle: read again')
  live('a', { lastActiveAt: 300 })
  file.time = 999
  t.match(find('a', 99), { session: { lastActiveAt: 200 } })
  file.time = 1000
  t.match(find('a', 99), { session: { lastActiveAt: 300 } })
  live('a', { lastActiveAt: 400 })
  cache.forget('a')
  t.match(find('a', 99), { session: { lastActiveAt: 400 } })
  cache.forget('nobody')
  t.match(find('a', Infinity), { session: { lastActiveAt: 400 } })
})

t.test('it is bounded, and forgets the oldest generation whole', async t => {
  const { cache, file, live, find } = setup(2)
  for (const name of ['a', 'b', 'c', 'd']) {
    live(name)
    find(name)
  }
  file.reads = 0
  for (const name of ['a', 'b', 'c', 'd']) find(name)
  t.equal(file.reads, 0, 'two generations of two')
  live('e')
  find('e')
  file.reads = 0
  find('c')
  find('e')
  t.equal(file.reads, 0)
  find('a')
  t.equal(file.reads, 1, 'gone with its generation')
  cache.forget('b')
  find('c')
  t.equal(file.reads, 1, 'forgetting what is gone takes nothing else along')
})

t.test('a session with a new token is forgotten by its last use under that one', async t => {
  const { cache, file, live, find } = setup(1)
  live('old token', { id: 's' })
  find('old token')
  file.counter++
  file.time = 1
  file.sessions.delete('old token')
  live('new token', { id: 's', lastActiveAt: 5 })
  find('new token')
  live('another')
  find('another') // pushes the old token's generation out
  live('new token', { id: 's', lastActiveAt: 6 })
  cache.forget('s')
  t.match(find('new token'), { session: { lastActiveAt: 6 } })
})

t.test('a file that cannot be read is not remembered as anything', async t => {
  const { cache, file, live } = setup()
  live('a')
  const failing = new SessionCache({ read () { throw new Error('unreadable') }, counter: () => 1, monotonic: () => 0 })
  t.throws(() => failing.find('a', NOW, 0), /unreadable/)
  const blind = new SessionCache({ read: () => file.sessions.get('a')!, counter () { throw new Error('unreadable') }, monotonic: () => 0 })
  for (let i = 0; i < 2; i++) t.throws(() => blind.find('a', NOW, 0), /unreadable/, 'nor is the look at the counter')
  cache.recheck()
})
