/**
 * The mission's functions and its schedule, one test named after each, on a real database. "A foreign lock" is a second connection that
 * holds BEGIN IMMEDIATE (on PostgreSQL: LOCK TABLE), as a backup script, a shell or another program does.
 */
import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { holdLock } from '../storage/sqlite/hold-lock.js'
import { doorman, type DoormanOptions } from '../index.js'
import { runDoctor } from '../lib/doctor.js'
import { ENGINE, newDatabase, onlySqlite, openTestStorage, type Part, type TestDatabase } from './engine.js'
import { until } from './helper.js'

// Injected requests have no sockets that keep the process alive while the database is locked; a server has.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000

async function start (t: Test, { database = {}, ...parts }: DoormanOptions = {}, given?: TestDatabase) {
  const db = given ?? await newDatabase(t)
  const time = { now: START }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(doorman, { database: { url: db.url, clock: () => time.now, ...database }, cleanup: { enabled: false }, ...parts })
  app.get('/', async request => request.session?.userId ?? 'nobody')
  app.post('/login', async () => (await app.sessions.create({ userId: 'via http' })).session.id)
  app.post('/act', { config: { session: 'required' } }, async request => {
    request.recordActivity('acted')
    return 'done'
  })
  await app.ready()
  return { app, time, db }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** Locks a part, starts `action`, waits until it has met the lock, lets go: it must not have been answered before, and succeed after. */
async function waitsForLock<T> (t: Test, app: FastifyInstance, db: TestDatabase, part: Part, action: () => Promise<T>): Promise<T> {
  const lock = await db.lock(part, app.database.storage)
  let settled = false
  const result = action().finally(() => { settled = true })
  result.catch(() => {}) // it is awaited below
  try {
    await lock.met(3)
    t.equal(settled, false, 'it waits')
  } finally {
    await lock.release()
  }
  return result
}

t.test('connection settings: the same on every connection of the process, read back from each', onlySqlite('about pragmas of SQLite'), async t => {
  const { app } = await start(t)
  const connections = await app.database.storage.connections()
  t.strictSame(connections.map(({ role, file }) => `${role} ${file}`), ['main-reader main', 'writer main', 'writer log', 'reader main', 'reader log', 'main-reader log'])
  for (const { role, file, pragmas, busyWaitMs } of connections) {
    t.match(pragmas, { journal_mode: 'wal', synchronous: 1, cache_size: 10_000, temp_store: 2 }, `${role} ${file}: WAL, NORMAL, 10000 pages, MEMORY`)
    if (role === 'writer') t.equal(busyWaitMs, 30_000, 'a lock is waited for 30 s')
    if (role === 'main-reader') t.equal(busyWaitMs, 0, 'the event loop never waits')
  }
  const { app: other } = await start(t, { database: { busyTimeout: '5s' } })
  t.strictSame((await other.database.storage.connections()).filter(({ role }) => role === 'writer').map(({ busyWaitMs }) => busyWaitMs), [5000, 5000])
})

t.test('retry: under a foreign lock every operation waits and then succeeds', async t => {
  const { app, db, time } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada' })

  await t.test('create', async t => {
    const created = await waitsForLock(t, app, db, 'main', () => app.sessions.create({ userId: 'bob' }))
    t.match(await app.sessions.validate(created.token), { valid: true, session: { userId: 'bob' } })
  })

  await t.test('validate and info do not even wait', async t => {
    const lock = await db.lock('main', app.database.storage)
    const answer = app.sessions.validate(token)
    if (ENGINE === 'sqlite') t.notOk(answer instanceof Promise, 'answered in the same turn of the event loop')
    t.match(await answer, { valid: true })
    t.match(await app.sessions.info(session.id), { userId: 'ada' })
    t.match(await app.sessions.list({ userId: 'ada' }), { items: [{ id: session.id }] })
    t.equal((await app.inject({ url: '/', headers: bearer(token) })).body, 'ada')
    await lock.release()
  })

  await t.test('update activity', async t => {
    time.now += 2 * 60_000
    await waitsForLock(t, app, db, 'main', async () => {
      t.equal((await app.inject({ url: '/', headers: bearer(token) })).body, 'ada', 'the request itself does not wait')
      t.match(await app.sessions.validate(token), { valid: true, session: { lastActiveAt: time.now } }, 'and its use counts at once')
      await app.database.flush()
    })
    t.strictSame(await db.look('SELECT last_active_at FROM sessions WHERE user_id = \'ada\''), [{ last_active_at: time.now }])
  })

  await t.test('update, rotate, remove', async t => {
    t.match(await waitsForLock(t, app, db, 'main', () => app.sessions.update(session.id, { theme: 'dark' })), { data: { theme: 'dark' } })
    const rotated = await waitsForLock(t, app, db, 'main', () => app.sessions.rotate(token))
    t.match(await app.sessions.validate(rotated.token), { valid: true })
    t.equal(await waitsForLock(t, app, db, 'main', () => app.sessions.remove(session.id)), true)
    t.match(await app.sessions.validate(rotated.token), { valid: false, reason: 'revoked' })
  })

  await t.test('IP tracking and user activity', async t => {
    const { token } = await app.sessions.create({ userId: 'eve' })
    await app.database.flush()
    await waitsForLock(t, app, db, 'log', async () => {
      t.equal((await app.inject({ method: 'POST', url: '/act', headers: { ...bearer(token), 'user-agent': 'locked/1' } })).body, 'done', 'the request does not wait')
      await app.database.flush()
    })
    t.strictSame(await db.look('SELECT path, status, user_id FROM ip_logs WHERE user_agent = \'locked/1\'', 'log'), [{ path: '/act', status: 200, user_id: 'eve' }])
    t.strictSame(await db.look('SELECT user_id FROM user_activity WHERE action = \'acted\'', 'log'), [{ user_id: 'eve' }])
  })

  await t.test('a lock on the log does not touch logins', async t => {
    const lock = await db.lock('log', app.database.storage)
    const { token } = await app.sessions.create({ userId: 'zoe' })
    t.equal((await app.inject({ url: '/', headers: bearer(token) })).body, 'zoe')
    await lock.release()
  })
  t.strictSame((await app.database.stats()).queues['log']!.dropped, {}, 'nothing was dropped')
})

t.test('retry: past the deadline a clear 503, nothing half-done, and it works again afterwards', async t => {
  const { app, db, time } = await start(t, { database: { busyTimeout: 60 } })
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  await app.database.flush()
  time.now += 2 * 60_000
  const locks = [await db.lock('main'), await db.lock('log')]
  const busy = { code: 'DOORMAN_STORAGE_BUSY', statusCode: 503, message: /stayed locked for longer than 60 ms: try again later/ }

  await Promise.all([
    t.rejects(app.sessions.create({ userId: 'bob' }), busy, 'create'),
    t.rejects(app.sessions.update(session.id, { n: 1 }), busy, 'update'),
    t.rejects(app.sessions.rotate(token), busy, 'rotate'),
    t.rejects(app.sessions.remove(session.id), busy, 'remove'),
    t.rejects(app.sessions.removeAll('ada'), busy, 'remove all'),
    t.rejects(app.ipTracking.blocks.add({ cidr: '192.0.2.0/24' }), busy, 'block'),
    // The lock is on our tables; only a file has one lock for all.
    ...ENGINE === 'sqlite' ? [t.rejects(app.database.batch([{ sql: 'CREATE TABLE never (x)' }]), busy, 'the host\'s own')] : []
  ])
  const reply = await app.inject({ method: 'POST', url: '/login' })
  t.equal(reply.statusCode, 503)
  t.match(reply.json(), { statusCode: 503, code: 'DOORMAN_STORAGE_BUSY', error: 'Service Unavailable' })
  t.notMatch(reply.body, /SQLITE|INSERT|BEGIN|at .*\.ts/, 'nothing of the inside shows')
  // Reading goes on, and what is recorded in the background is kept and tried again.
  t.match(await app.sessions.info(session.id), { data: {} }, 'nothing half-done')
  t.equal((await app.inject({ method: 'POST', url: '/act', headers: bearer(token) })).body, 'done')
  const reasons = () => {
    const health = app.database.health()
    return health.status === 'ok' ? [] : health.reasons
  }
  const expected = [
    'rows of the queue "log" cannot be stored at the moment', 'rows of the queue "touches" cannot be stored at the moment',
    ...ENGINE === 'sqlite' ? ['somebody else holds the write lock of the log file', 'somebody else holds the write lock of the main file'] : []
  ]
  await until(() => expected.every(reason => reasons().includes(reason)), 'both queues to have met the lock')
  if (ENGINE === 'sqlite') t.equal(reasons().length, expected.length)

  for (const lock of locks) await lock.release()
  await app.database.flush()
  t.strictSame(app.database.health(), { status: 'ok' })
  t.strictSame((await app.sessions.list()).items.map(item => [item.userId, item.lastActiveAt]), [['ada', time.now]])
  t.strictSame((await app.ipTracking.list({}, { limit: 10 })).items.map(row => [row.path, row.status]).sort(), [['/act', 200], ['/login', 503]], 'each request has its row')
  t.match((await app.activity.list({}, { limit: 10 })).items, [{ action: 'acted' }, { action: 'login' }])
  await app.sessions.create({ userId: 'bob' })
})

t.test('retry: a committed IP row waits for the lock; past the deadline a clear 503, and the row is stored once, saying so', async t => {
  const { app, db } = await start(t, { database: { busyTimeout: 300 }, ipTracking: { durability: 'committed' } })
  const shortly = await db.lock('log', app.database.storage)
  let answered = false
  const patient = app.inject({ url: '/', headers: { 'user-agent': 'patient/1' } }).finally(() => { answered = true })
  await shortly.met(3)
  t.equal(answered, false)
  await shortly.release()
  t.equal((await patient).statusCode, 200)
  t.strictSame(await db.look('SELECT user_agent, status FROM ip_logs', 'log'), [{ user_agent: 'patient/1', status: 200 }], 'in the file when the reply arrives')

  const lock = await db.lock('log', app.database.storage)
  const late = await app.inject({ url: '/', headers: { 'user-agent': 'late/1' } })
  t.equal(late.statusCode, 503)
  t.match(late.json(), { code: 'DOORMAN_ROW_DELAYED' })
  t.ok(late.headers['retry-after'])
  const missing = await app.inject({ url: '/nowhere', headers: { 'user-agent': 'late/2' } })
  t.equal(missing.statusCode, 503, 'where the reply is an error of its own, too')
  t.match(missing.json(), { statusCode: 503, code: 'DOORMAN_ROW_DELAYED' })
  await lock.release()
  await app.database.flush()
  t.strictSame(await db.look('SELECT user_agent, status, outcome FROM ip_logs WHERE status <> 200', 'log'), ['late/1', 'late/2'].map(agent => ({ user_agent: agent, status: 503, outcome: 'error' })))
})

t.test('create: a session is in the file when the promise resolves, its token nowhere', async t => {
  const { app, db } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada', ip: '::ffff:192.0.2.1', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', data: { cart: [1] } })
  t.match(token, /^dm_[\w-]{43,}$/)
  t.strictSame(await db.look('SELECT id, user_id, created_at, last_active_at, expires_at, ip, data, length(token_hash) AS hash FROM sessions'), [{
    id: session.id, user_id: 'ada', created_at: START, last_active_at: START, expires_at: START + 30 * 24 * HOUR, ip: '192.0.2.1', data: '{"cart":[1]}', hash: 32
  }])
  t.notMatch(JSON.stringify(session), token)
  await t.rejects(app.sessions.create({ userId: '' }), { code: 'DOORMAN_VALUE_INVALID', statusCode: 400 })
  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => app.sessions.create({ userId: `user ${i}` })))
  t.equal(new Set(many.map(issued => issued.token)).size, 200)
  t.strictSame(await db.look('SELECT count(*) AS n FROM sessions'), [{ n: 201 }])
})

t.test('validate: tells live from every kind of dead, and says why', async t => {
  const { app, time } = await start(t, { sessions: { maxPerUser: 1 } })
  const idle = await app.sessions.create({ userId: 'idle' })
  const old = await app.sessions.create({ userId: 'old' })
  const removed = await app.sessions.create({ userId: 'removed' })
  const rotated = await app.sessions.create({ userId: 'rotated' })
  const evicted = await app.sessions.create({ userId: 'evicted' })
  await app.sessions.remove(removed.session.id)
  await app.sessions.rotate(rotated.token)
  await app.sessions.create({ userId: 'evicted' })
  const reason = async (token?: string) => {
    const result = await app.sessions.validate(token)
    return result.valid ? 'valid' : result.reason
  }
  const mistyped = old.token.slice(0, -1) + (old.token.endsWith('A') ? 'B' : 'A')
  t.strictSame(await Promise.all([undefined, 'dm_nonsense', mistyped, removed.token, rotated.token, evicted.token, idle.token].map(reason)), ['missing', 'malformed', 'malformed', 'revoked', 'rotated', 'limit', 'valid'])
  for (let hour = 0; hour < 30 * 24; hour += 23) {
    time.now = START + hour * HOUR
    const result = await app.sessions.validate(old.token)
    if (result.valid) app.sessions.touch(result.session)
  }
  t.strictSame(await Promise.all([old.token, idle.token].map(reason)), ['valid', 'idle'])
  time.now = START + 30 * 24 * HOUR
  t.equal(await reason(old.token), 'expired')
})

t.test('update activity: a use moves the idle timeout, written at most once a minute', async t => {
  const { app, db, time } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  const use = () => app.inject({ url: '/', headers: { ...bearer(token), 'user-agent': 'UA/2' }, remoteAddress: '192.0.2.9' })
  const stored = async () => {
    await app.database.flush()
    return (await db.look('SELECT last_active_at, last_ip FROM sessions'))[0]
  }
  time.now = START + 59_999
  await use()
  t.match(await stored(), { last_active_at: START }, 'within the minute nothing is written')
  time.now = START + 60_000
  await Promise.all(Array.from({ length: 50 }, use))
  t.match(await stored(), { last_active_at: START + 60_000, last_ip: '192.0.2.9' })
  t.equal((await app.database.stats()).queues['touches']!.pushed, 1, 'once, whatever the number of requests')
  time.now = START + 24 * HOUR + 59_999
  t.match(await app.sessions.info(session.id), { lastActiveAt: START + 60_000, idleExpiresAt: START + 24 * HOUR + 60_000 })
  t.equal((await use()).body, 'ada')
  time.now = START + 48 * HOUR
  t.equal((await use()).body, 'ada', 'that use moved it again')
})

t.test('remove: dead at once and for everybody, once, with a reason left behind', async t => {
  const { app, db } = await start(t)
  const { app: other } = await start(t, {}, db)
  const [a, b, c] = await Promise.all(['ada', 'ada', 'ada'].map(userId => app.sessions.create({ userId })))
  t.match(await other.sessions.validate(a!.token), { valid: true })
  t.equal(await app.sessions.remove(a!.session.id, { userId: 'bob' }), false, 'not somebody else\'s')
  t.equal(await app.sessions.remove(a!.session.id, { userId: 'ada' }), true)
  t.match(await other.sessions.validate(a!.token), { valid: false, reason: 'revoked' }, 'also where another process answers')
  t.equal(await app.sessions.remove(a!.session.id), false)
  t.equal(await app.sessions.removeOthers('ada', b!.session.id), 1)
  t.match(await app.sessions.validate(c!.token), { valid: false, reason: 'revoked' })
  t.equal(await app.sessions.removeAll('ada'), 1)
  t.strictSame(await db.look('SELECT (SELECT count(*) FROM sessions) AS live, (SELECT count(*) FROM session_tombstones WHERE reason = \'revoked\') AS ended'), [{ live: 0, ended: 3 }])
})

t.test('info: everything about a session but its token; null for what is not live', async t => {
  const { app, time } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada', ip: '2001:DB8::1', userAgent: 'curl/8', data: { n: 1 } })
  t.strictSame(await app.sessions.info(session.id), {
    id: session.id,
    userId: 'ada',
    createdAt: START,
    lastActiveAt: START,
    idleExpiresAt: START + 24 * HOUR,
    expiresAt: START + 30 * 24 * HOUR,
    authenticatedAt: START,
    ip: '2001:db8::1',
    lastIp: '2001:db8::1',
    userAgent: 'curl/8',
    device: session.device,
    flagged: false,
    data: { n: 1 }
  })
  t.equal(await app.sessions.info('nobody'), null)
  t.equal(await app.sessions.info(token), null, 'a token is no id')
  time.now = START + 24 * HOUR
  t.equal(await app.sessions.info(session.id), null)
})

t.test('IP tracking: one row per request, written by a connection that sessions do not wait for', async t => {
  const { app, db } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  const from = ['192.0.2.1', '::ffff:192.0.2.1', '2001:DB8:0:0::1']
  for (const remoteAddress of from) await app.inject({ url: '/?secret=1', remoteAddress, headers: { ...bearer(token), 'user-agent': 'UA/1' } })
  t.equal((await app.inject({ url: '/nowhere', remoteAddress: '198.51.100.1' })).statusCode, 404)
  await app.database.flush()
  const row = { method: 'GET', path: '/', route: '/', status: 200, user_agent: 'UA/1', session_id: session.id, user_id: 'ada', outcome: 'replied' }
  t.match(await db.look('SELECT * FROM ip_logs ORDER BY id', 'log'), [
    { ...row, ip: '192.0.2.1' }, { ...row, ip: '192.0.2.1' }, { ...row, ip: '2001:db8::1' }, { ip: '198.51.100.1', path: '/nowhere', route: null, status: 404, session_id: null }
  ])
  t.match(await app.ipTracking.top('ip', {}, 10), [{ value: '192.0.2.1', count: 2 }, {}, {}])
  const connections = await app.database.storage.connections()
  if (ENGINE === 'sqlite') t.equal(connections.filter(connection => connection.role === 'writer' && connection.file === 'log').length, 1)
})

t.test('stale cleanup: idle sessions, old IP rows and old activity go; what is in use stays', async t => {
  const { app, time, db } = await start(t)
  await app.inject('/')
  const stale = await app.sessions.create({ userId: 'stale' })
  time.now += 8 * 24 * HOUR
  const used = await app.sessions.create({ userId: 'used' })
  time.now += 23 * 24 * HOUR
  const fresh = await app.sessions.create({ userId: 'fresh' })
  await app.inject('/')
  const run = await app.cleanup.run()
  t.match(run, { complete: true, error: null, dryRun: false, removed: { sessionsIdle: 2, ipLogs: 1, activity: 2 } })
  t.strictSame(await db.look('SELECT (SELECT count(*) FROM ip_logs) AS rows, (SELECT count(*) FROM user_activity) AS acts', 'log'), [{ rows: 1, acts: 1 }])
  for (const { token } of [stale, used]) t.match(await app.sessions.validate(token), { valid: false, reason: 'idle' })
  t.match(await app.sessions.validate(fresh.token), { valid: true })
  t.match(await app.cleanup.history({ limit: 10 }), { items: [run], next: null })
})

t.test('cleanup service: starts with the app, repeats, one process at a time, stops with the app', async t => {
  const schedule = { cleanup: { interval: 1000, runOnStart: true }, database: { clock: Date.now } }

  await t.test('starts with the app and repeats', async t => {
    const { app } = await start(t, schedule)
    const history = async () => (await app.cleanup.history({ limit: 10 })).items
    await until(async () => (await history()).length >= 2, 'the second run')
    const [second, first] = await history()
    t.match([first, second], [{ trigger: 'schedule', complete: true, error: null }, { trigger: 'schedule', complete: true }])
    t.ok(second!.startedAt - first!.startedAt >= 900, 'an interval apart, less the jitter')
    t.equal(app.cleanup.lastRun?.trigger, 'schedule')
  })

  await t.test('by default within the first tenth of the hour', async t => {
    const { app } = await start(t, { cleanup: {} })
    t.equal(app.cleanup.options.interval, HOUR)
    t.equal(app.cleanup.lastRun, null)
    t.strictSame((await app.cleanup.history({ limit: 1 })).items, [])
  })

  await t.test('one run per interval among the processes that share the database', async t => {
    const { app: first, db } = await start(t, { cleanup: schedule.cleanup })
    await until(() => first.cleanup.lastRun !== null, 'the first run')
    const time = { now: START + 899 }
    const second = Fastify()
    t.teardown(() => second.close())
    await second.register(doorman, { database: { url: db.url, clock: () => time.now }, cleanup: schedule.cleanup })
    const { storage } = second.database
    const asked: boolean[] = []
    const acquireLease = storage.acquireLease.bind(storage)
    storage.acquireLease = async params => {
      const got = await acquireLease(params)
      asked.push(got)
      return got
    }
    await second.ready()
    await until(() => asked.length > 0, 'the second process to ask')
    t.equal(asked[0], false, 'this interval\'s run is done')
    t.equal(second.cleanup.lastRun, null)
    time.now = START + 900
    await until(() => second.cleanup.lastRun !== null, 'the next interval')
    t.match((await first.cleanup.history({ limit: 10 })).items.map(run => run.startedAt), [START + 900, START])
    await second.close()
  })

  await t.test('a close waits for the run under way, which ends after its step', async t => {
    const { app, db, time } = await start(t)
    await app.inject('/')
    await app.database.flush()
    time.now += 31 * 24 * HOUR
    const lock = await db.lock('log', app.database.storage)
    const run = app.cleanup.run()
    await lock.met()
    let closed = false
    const closing = app.close().then(() => { closed = true })
    await new Promise(resolve => setImmediate(resolve))
    t.equal(closed, false)
    await lock.release()
    await closing
    t.match(await run, { removed: { ipLogs: 1 }, complete: false, error: null })
    t.match((await db.look('SELECT trigger, complete FROM cleanup_runs')).map(row => [row['trigger'], Number(row['complete'])]), [['manual', 0]], 'and is in the history')
    t.match(await db.look('SELECT holder FROM leases'), [{ holder: null }], 'its lease is given back')
    await t.rejects(app.cleanup.run(), { code: 'DOORMAN_STORAGE_CLOSED' })
  })
})

t.test('self-test: single connection, five concurrent workers, integrity; none of its rows is left', onlySqlite(), async t => {
  const { app, db } = await start(t)
  const { token } = await app.sessions.create({ userId: 'ada' })
  await app.inject({ url: '/', headers: bearer(token) })
  await app.database.flush()
  const contents = async () => {
    const tables: Record<string, unknown[]> = {}
    for (const part of ['main', 'log'] as const) {
      for (const { name } of await db.look<{ name: string }>('SELECT name FROM sqlite_schema WHERE type = \'table\' AND name NOT LIKE \'sqlite%\' AND name <> \'doorman_counters\'', part)) {
        tables[`${part}.${name}`] = await db.look(`SELECT * FROM ${name} ORDER BY 1`, part)
      }
    }
    return tables
  }
  const before = await contents()
  const openAnother = () => openTestStorage(t, db.url, { busyTimeout: 30_000 })
  const findings = await runDoctor({ storage: app.database.storage, openAnother, holdLock, clock: Date.now })
  t.strictSame(findings.filter(finding => !finding.ok), [])
  t.match(findings.map(finding => finding.check).join(), /single connection.*5 concurrent workers.*a foreign lock.*integrity.*own rows removed/)
  t.strictSame(await contents(), before, 'every table is as it was')
  t.match(await app.sessions.validate(token), { valid: true }, 'the service went on meanwhile')
})
