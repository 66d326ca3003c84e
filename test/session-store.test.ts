/** The store for @fastify/session, driven by the plugin it is for. */
import t from 'tap'
import { EventEmitter } from 'node:events'
import { createSessionStore, type SessionStore, type SessionStoreOptions, type StoreSession } from '../session-store.js'
import type { SessionRecord } from '../storage/storage.js'
import { createFakeStorage, type FakeStorage } from './fake-storage.js'
import { newDatabase, openTestStorage } from './engine.js'
import { until } from './helper.js'

const START = Date.UTC(2026, 10, 23, 12)
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

const session = (rest: object = {}, cookie: object = { originalMaxAge: null, expires: null }) => ({ cookie: { path: '/', httpOnly: true, ...cookie }, ...rest })

/** Calls the store as the frameworks do, with a callback. */
function call<T> (use: (callback: (error?: unknown, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => use((error, value) => {
    if (error instanceof Error) reject(error)
    else resolve(value as T)
  }))
}

const promised = (store: SessionStore) => ({
  get: (sid: string) => call<StoreSession | null>(callback => store.get(sid, callback as Parameters<SessionStore['get']>[1])),
  set: (sid: string, session: object) => call<void>(callback => store.set(sid, session, callback)),
  destroy: (sid: string) => call<void>(callback => store.destroy(sid, callback)),
  touch: (sid: string, session: object) => call<void>(callback => store.touch(sid, session, callback))
})

function setUp (options: Partial<SessionStoreOptions> = {}) {
  const storage = createFakeStorage()
  const time = { now: START }
  const store = createSessionStore({ database: { storage, clock: () => time.now }, ...options })
  return { storage, time, store, ...promised(store), row: () => [...storage.live.values()][0] as SessionRecord }
}

t.test('a session comes back as it was saved', async t => {
  const { set, get, destroy, storage, row } = setUp()
  t.equal(await get('sid-1'), null)
  await set('sid-1', session({ user: 'ada', cart: [1, 2] }))
  t.same(await get('sid-1'), session({ user: 'ada', cart: [1, 2] }))
  t.match(row(), { userId: 'anonymous', createdAt: START, expiresAt: START + 30 * DAY })
  await set('sid-1', session({ user: 'ada' }))
  t.same(await get('sid-1'), session({ user: 'ada' }))
  t.equal(storage.live.size, 1)
  await destroy('sid-1')
  t.equal(await get('sid-1'), null)
  await destroy('sid-1')
  await destroy('never')
})

t.test('an ended session is never brought back by a late save', async t => {
  const { set, get, destroy, touch, storage, row } = setUp()
  await set('sid-1', session())
  await destroy('sid-1')
  await set('sid-1', session({ user: 'ada' }))
  await touch('sid-1', session())
  t.equal(await get('sid-1'), null)
  t.equal(storage.live.size, 0)
  await set('sid-2', session())
  await storage.endSessions({ id: row().id }, 'revoked', START)
  await set('sid-2', session({ user: 'ada' }))
  t.equal(await get('sid-2'), null, 'nor one that was revoked from elsewhere')
})

t.test('the id of the session is nowhere in the storage', async t => {
  const db = await newDatabase(t)
  const storage = await openTestStorage(t, db.url)
  const { set, get } = promised(createSessionStore({ database: { storage } }))
  const sid = 'QmFzZTY0LXNlc3Npb24taWQtb2YtYS1mcmFtZXdvcms'
  await set(sid, session({ sessionId: sid, encryptedSessionId: `${sid}.signature`, user: 'ada' }))
  t.same(await get(sid), session({ user: 'ada' }))
  t.equal(await db.contains('"ada"'), true)
  t.equal(await db.contains(sid), false)
  await set(sid, session({ user: 'bob' }))
  t.match(await get(sid), { user: 'bob' })
})

t.test('a cookie with a maxAge ends that long after the last use', async t => {
  const { set, get, touch, time, storage } = setUp()
  const cookie = { originalMaxAge: HOUR, expires: new Date(START + HOUR) }
  await set('sid-1', session({}, cookie))
  t.match(await get('sid-1'), { cookie: { originalMaxAge: HOUR, expires: new Date(START + HOUR).toISOString() } })
  time.now = START + 30 * MINUTE
  await touch('sid-1', session({}, cookie))
  await until(() => storage.calls['touchSessions'] === 1)
  await until(async () => await get('sid-1') !== null && (await get('sid-1'))?.cookie.expires === new Date(START + 90 * MINUTE).toISOString())
  time.now = START + 90 * MINUTE - 1
  t.ok(await get('sid-1'))
  time.now++
  t.equal(await get('sid-1'), null)
})

t.test('a cookie with a fixed end, no end at all, and the timeouts', async t => {
  const { set, get, time } = setUp({ idleTimeout: '2h', absoluteTimeout: '3h' })
  await set('fixed', session({}, { expires: new Date(START + HOUR) }))
  await set('long', session({}, { originalMaxAge: 10 * DAY }))
  await set('open', session())
  time.now = START + HOUR - 1
  t.ok(await get('fixed'))
  time.now++
  t.equal(await get('fixed'), null)
  time.now = START + 2 * HOUR - 1
  t.ok(await get('open'))
  t.ok(await get('long'))
  await set('open', session())
  time.now++
  t.ok(await get('open'))
  t.equal(await get('long'), null, 'idle, whatever the cookie says')
  time.now = START + 3 * HOUR
  t.equal(await get('open'), null, 'the absolute end')
})

t.test('saves that change nothing are uses, and uses are written once per interval', async t => {
  const { set, touch, time, storage, row } = setUp()
  const cookie = { originalMaxAge: HOUR }
  await set('sid-1', session({ user: 'ada' }, { ...cookie, expires: new Date(START + HOUR) }))
  time.now = START + 59_999
  await touch('sid-1', session())
  await set('sid-1', session({ user: 'ada' }, { ...cookie, expires: new Date(time.now + HOUR) }))
  t.notOk('touchSessions' in storage.calls)
  time.now++
  await Promise.all([touch('sid-1', session()), touch('sid-1', session()), set('sid-1', session({ user: 'ada' }, { ...cookie, expires: new Date(time.now + HOUR) }))])
  await until(() => row().lastActiveAt === START + MINUTE)
  t.equal(storage.calls['touchSessions'], 1)
  t.notOk('updateSessionData' in storage.calls)
  await touch('never', session())
})

t.test('a short cookie is kept alive by use', async t => {
  const { set, get, touch, time, row } = setUp()
  await set('sid-1', session({}, { originalMaxAge: 10_000 }))
  for (let i = 1; i <= 20; i++) {
    time.now = START + i * 2000
    await touch('sid-1', session())
    await until(() => row().lastActiveAt === time.now)
  }
  t.ok(await get('sid-1'))
})

t.test('a use that cannot be written is reported, and nobody waits for it', async t => {
  const errors: unknown[] = []
  const { set, touch, time, storage } = setUp({ onError: error => errors.push(error) })
  await set('sid-1', session())
  time.now += HOUR
  storage.touchSessions = async () => { throw new Error('locked') }
  await touch('sid-1', session())
  await until(() => errors.length === 1)
  const silent = setUp()
  await silent.set('sid-1', session())
  silent.time.now += HOUR
  silent.storage.touchSessions = async () => { throw new Error('locked') }
  await silent.touch('sid-1', session())
})

const userId = (session: StoreSession) => session['user'] as string | undefined

t.test('users: from the login to the end of an id', async t => {
  const { set, storage } = setUp({ userId })
  await set('anonymous', session())
  await set('ada', session({ user: 'ada' }))
  await set('ada', session({ user: 'ada', more: 1 }))
  t.same([...storage.live.values()].map(({ userId }) => userId), ['anonymous', 'ada'])
  for (const other of [{ user: 'bob' }, {}]) await t.rejects(set('ada', session(other)), { code: 'DOORMAN_VALUE_INVALID', message: /call regenerate\(\) before/ })
  await t.rejects(set('bad', session({ user: '' })), { code: 'DOORMAN_VALUE_INVALID' })
  t.match((await storage.endSessions({ userId: 'ada' }, 'revoked', START)).length, 1)
})

t.test('a login as @fastify/session does it: the new id is saved as nobody\'s first', async t => {
  const { set, get, touch, time, storage, row } = setUp({ userId })
  await set('sid-2', session())
  const nobodys = row()
  time.now += HOUR
  await set('sid-2', session({ user: 'ada' }))
  t.same(await get('sid-2'), session({ user: 'ada' }))
  t.equal(storage.live.size, 1)
  t.equal(storage.ended.size, 0)
  t.match(row(), { userId: 'ada', createdAt: time.now, lastActiveAt: time.now, authenticatedAt: time.now, expiresAt: time.now + 30 * DAY })
  t.not(row().id, nobodys.id)
  time.now += HOUR
  await touch('sid-2', session())
  await until(() => row().lastActiveAt === time.now)
})

t.test('a login on the real storage', async t => {
  const storage = await openTestStorage(t)
  const { set, get, destroy } = promised(createSessionStore({ database: { storage }, userId }))
  await set('sid-2', session())
  await Promise.all([set('sid-2', session({ user: 'ada' })), set('sid-2', session({ user: 'ada', n: 2 }))])
  const { items } = await storage.listSessions({ now: Date.now(), idleBefore: 0, limit: 10 })
  t.match(items, [{ userId: 'ada' }])
  t.equal(items.length, 1)
  t.match(await get('sid-2'), { user: 'ada', n: 2 })
  await Promise.all([set('sid-2', session({ user: 'ada', n: 3 })), storage.endSessions({ userId: 'ada' }, 'revoked', Date.now())])
  t.equal(await get('sid-2'), null)
  await set('sid-3', session())
  await Promise.all([set('sid-3', session({ user: 'ada' })), destroy('sid-3')])
  t.equal(await get('sid-3'), null)
  await set('sid-4', session())
  await Promise.all([destroy('sid-4'), set('sid-4', session({ user: 'ada' }))])
  t.equal(await get('sid-4'), null, 'a login that comes too late brings nothing back')
  t.same((await storage.listSessions({ now: Date.now(), idleBefore: 0, limit: 10 })).items, [])
})

/** Runs requests that have all read the same session before any of them writes. */
async function atOnce (storage: FakeStorage, ...requests: (() => Promise<unknown>)[]): Promise<unknown[]> {
  let open!: () => void
  storage.gate = new Promise(resolve => { open = resolve })
  const settled = Promise.allSettled(requests.map(request => request()))
  await new Promise(setImmediate)
  open()
  return (await settled).map(outcome => outcome.status === 'fulfilled' ? 'done' : (outcome.reason as { code: string }).code)
}

t.test('a login and other requests of the same session at once', async t => {
  const start = async () => {
    const { set, destroy, get, storage, row } = setUp({ userId })
    await set('sid', session())
    const login = (user = 'ada', rest: object = {}) => () => set('sid', session({ user, ...rest }))
    return { get, storage, row, login, save: () => set('sid', session({ late: true })), end: () => destroy('sid'), revoke: () => storage.endSessions({ id: row().id }, 'revoked', START) }
  }
  await t.test('the same login twice', async t => {
    const { get, storage, login } = await start()
    t.same(await atOnce(storage, login(), login('ada', { n: 2 })), ['done', 'done'])
    t.equal(storage.live.size, 1)
    t.match(await get('sid'), { user: 'ada', n: 2 })
  })
  await t.test('two users: one of them', async t => {
    const { get, storage, login } = await start()
    t.same(await atOnce(storage, login(), login('bob')), ['done', 'DOORMAN_VALUE_INVALID'])
    t.match(await get('sid'), { user: 'ada' })
  })
  await t.test('a save from before the login neither undoes it nor is lost without a word', async t => {
    const { get, storage, login, save } = await start()
    t.same(await atOnce(storage, login(), save), ['done', 'DOORMAN_VALUE_INVALID'])
    t.same(await get('sid'), session({ user: 'ada' }))
  })
  await t.test('a destroy ends the login as well', async t => {
    const { storage, login, end } = await start()
    t.same(await atOnce(storage, login(), end), ['done', 'done'])
    t.equal(storage.live.size, 0)
  })
  await t.test('what was ended first stays ended', async t => {
    const { get, storage, login, save, revoke } = await start()
    t.same(await atOnce(storage, revoke, login(), save), ['done', 'done', 'done'])
    t.equal(storage.live.size, 0)
    t.equal(await get('sid'), null)
  })
  await t.test('a login that cannot be stored leaves everything as it was', async t => {
    const { get, storage, login, row } = await start()
    const { id } = row()
    storage.failing['createSession'] = new Error('full')
    await t.rejects(login()(), { message: 'full' })
    t.equal(row().id, id)
    t.same(await get('sid'), session())
  })
})

t.test('parallel first saves of one id are one session', async t => {
  const { set, get, storage } = setUp()
  let open!: () => void
  storage.gate = new Promise(resolve => { open = resolve })
  const saves = Promise.all([set('sid-1', session({ n: 1 })), set('sid-1', session({ n: 2 })), set('sid-1', session({ n: 3 }))])
  await new Promise(setImmediate)
  open()
  await saves
  t.equal(storage.live.size, 1)
  t.match(await get('sid-1'), { n: 3 })
})

t.test('failures reach the callback, with an engine of either kind', async t => {
  const { set, get, destroy, touch, storage } = setUp()
  await set('sid-1', session())
  storage.failing['createSession'] = new Error('full')
  await t.rejects(set('sid-2', session()), { message: 'full' })
  storage.asynchronous = true
  t.ok(await get('sid-1'))
  storage.failing['findSession'] = new Error('unreadable')
  for (const attempt of [() => get('sid-1'), () => set('sid-1', session()), () => destroy('sid-1'), () => touch('sid-1', session())]) await t.rejects(Promise.resolve(attempt()), { message: 'unreadable' })
  storage.asynchronous = false
  await t.rejects(get('sid-1'), { message: 'unreadable' })
})

t.test('hostile ids and sessions', async t => {
  const { set, get, storage } = setUp({ dataLimit: 200 })
  for (const sid of ['', 'x'.repeat(1025), 42 as unknown as string]) await t.rejects(set(sid, session()), { code: 'DOORMAN_VALUE_INVALID' })
  for (const sid of ['x'.repeat(1_000_000), ['a'] as unknown as string]) t.equal(await get(sid), null)
  for (const wrong of [{}, { cookie: null }, { cookie: 'x' }, session({ big: 'x'.repeat(200) }), session(JSON.parse('{"__proto__":{"a":1}}') as object)]) {
    await t.rejects(set('sid', wrong), { code: 'DOORMAN_VALUE_INVALID' })
  }
  t.equal(storage.live.size, 0)
})

t.test('callbacks may be left out, and what they throw is theirs', async t => {
  const errors: unknown[] = []
  const { store, storage, get } = setUp({ onError: error => errors.push(error) })
  store.set('sid-1', session())
  await until(() => storage.live.size === 1)
  store.touch('sid-1', session())
  store.destroy('sid-1')
  await until(() => storage.live.size === 0)
  storage.failing['findSession'] = new Error('unreadable')
  store.destroy('sid-1')
  await until(() => errors.length === 1)
  await t.rejects(get('sid-1'))
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  const caught = new Promise<Error>(resolve => process.once('uncaughtException', resolve))
  let calls = 0
  store.get('sid-1', () => {
    calls++
    throw new Error('of the host')
  })
  t.match(await caught, { message: 'of the host' })
  for (const listener of listeners) process.on('uncaughtException', listener)
  await new Promise(setImmediate)
  t.equal(calls, 1)
})

t.test('on express-session\'s own class, without calling it by name', async t => {
  class Store extends EventEmitter {
    createSession (_req: object, session: StoreSession) { return session }
  }
  const { store } = setUp({ Store })
  t.type(store, EventEmitter)
  t.type((store as unknown as Store).createSession, 'function')
  t.type(store.get, 'function')
})

t.test('options', async t => {
  const database = { storage: createFakeStorage() }
  t.throws(() => createSessionStore({} as SessionStoreOptions), { code: 'DOORMAN_OPTION_INVALID', message: /sessionStore\.database.*fastify\.database/ })
  const wrong: [object, RegExp][] = [
    [{ database: 1 }, /sessionStore\.database/],
    [{ database, userId: 'x' }, /sessionStore\.userId/],
    [{ database, ttl: 1 }, /sessionStore\.ttl/],
    [{ database, idleTimeout: '2d', absoluteTimeout: '1d' }, /sessionStore\.absoluteTimeout/],
    [{ database, touchInterval: '1d' }, /sessionStore\.touchInterval/]
  ]
  for (const [options, message] of wrong) t.throws(() => createSessionStore(options as SessionStoreOptions), { message })
  t.ok(createSessionStore({ database }))
})

t.test('the cleanup of the process learns how long sessions may rest', async t => {
  const sessionTimeouts = new Set<number>()
  createSessionStore({ database: { storage: createFakeStorage(), sessionTimeouts }, idleTimeout: '2h' })
  t.strictSame([...sessionTimeouts], [7_200_000])
})
