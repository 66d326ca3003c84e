/**
 * What the cleanup removes, counted exactly and through the public surface: requests are served, sessions opened and deeds recorded
 * at chosen times of an injected clock, then a run looks back at them.
 */
import t, { type Test } from 'tap'
import Fastify from 'fastify'
import { doorman, type DoormanOptions } from '../index.js'
import { SWEEP_TARGETS, type CleanupRun } from '../storage/storage.js'
import { ENGINE, newDatabase } from './engine.js'

// Injected requests have no sockets that would keep the process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const NOW = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000
const DAY = 24 * HOUR

async function start (t: Test, parts: DoormanOptions = {}) {
  const database = await newDatabase(t)
  const time = { now: NOW }
  const app = Fastify()
  t.teardown(() => app.close())
  // Without the trail of session events, so that each row there is one this test has written.
  await app.register(doorman, { database: { url: database.url, clock: () => time.now }, activity: { sessionEvents: false }, cleanup: { enabled: false }, ...parts })
  app.get('/', async request => request.session?.userId ?? 'nobody')
  app.get('/private', { config: { session: 'required' } }, async request => request.session?.userId)
  await app.ready()
  /** Runs `action` as if it were `age` ms before NOW. */
  async function ago<T> (age: number, action: () => T | Promise<T>): Promise<T> {
    time.now = NOW - age
    try {
      return await action()
    } finally {
      time.now = NOW
    }
  }
  const count = async (part: 'main' | 'log', table: string): Promise<number> => (await database.look<{ n: number }>(`SELECT count(*) AS n FROM ${table}`, part))[0]!.n
  return { app, time, ago, count }
}

const none = Object.fromEntries(SWEEP_TARGETS.map(target => [target, 0])) as CleanupRun['removed']

t.test('exactly at the limit a row stays, a millisecond beyond it goes', async t => {
  const { app, ago, count } = await start(t)
  const tokens: Record<string, string> = {}
  for (const [name, age] of Object.entries({ newer: DAY - 1, exact: DAY, older: DAY + 1 })) {
    tokens[name] = (await ago(age, () => app.sessions.create({ userId: name }))).token
  }
  // Served by Fastify at that time, with the time in the address to tell them apart.
  const requests = { newer: 30 * DAY - 1, exact: 30 * DAY, older: 30 * DAY + 1 }
  for (const [name, age] of Object.entries(requests)) await ago(age, () => app.inject({ url: `/?${name}`, headers: { 'user-agent': name } }))
  for (const [name, age] of Object.entries({ newer: 7 * DAY - 1, exact: 7 * DAY, older: 7 * DAY + 1 })) {
    await ago(age, () => app.activity.record({ userId: name, action: 'acted' }))
  }

  const predicted = await app.cleanup.run({ dryRun: true })
  t.strictSame(predicted.removed, { ...none, sessionsIdle: 1, ipLogs: 1, activity: 1 })
  t.match([await count('main', 'sessions'), await count('log', 'ip_logs'), await count('log', 'user_activity')], [3, 3, 3], 'a dry run removes nothing')

  const run = await app.cleanup.run()
  t.match(run, { complete: true, error: null, dryRun: false, trigger: 'manual', startedAt: NOW })
  t.strictSame(run.removed, predicted.removed, 'as predicted')
  t.strictSame((await app.ipTracking.list({}, { limit: 10 })).items.map(row => [row.userAgent, row.at]), [['newer', NOW - requests.newer], ['exact', NOW - requests.exact]])
  t.strictSame((await app.activity.list({}, { limit: 10 })).items.map(row => row.userId), ['newer', 'exact'])
  t.equal(await count('main', 'sessions'), 2)
  t.strictSame((await app.sessions.list()).items.map(item => item.userId), ['newer'], 'one idle for a day exactly is not live any more, whether it is still in the file or not')
  t.match(await Promise.all(['newer', 'exact', 'older'].map(name => app.sessions.validate(tokens[name]))), [{ valid: true }, { valid: false, reason: 'idle' }, { valid: false, reason: 'idle' }])
})

t.test('thousands of rows of all ages: the old ones are gone after one run, the newer ones all stay', async t => {
  const { app, ago, count } = await start(t, { cleanup: { enabled: false, batchSize: 700 } })
  const OLD = { sessions: 310, requests: 4000, acts: 2100 }
  const NEW = { sessions: 120, requests: 1500, acts: 900 }
  const data = { note: 'x'.repeat(1000) }
  const login = (n: number, userId: string, age: number) => ago(age, () => Promise.all(Array.from({ length: n }, () => app.sessions.create({ userId, data }))))
  const report = async (n: number, name: string, at: (i: number) => number) => {
    const items = Array.from({ length: n }, (_, i) => ({ method: 'GET', path: `/${name}/${i}/${'long'.repeat(20)}`, status: 200, ip: '192.0.2.1', at: at(i), requestId: `${name}-${i}` }))
    t.match(await app.ipTracking.report(items), { accepted: n })
  }
  const act = async (n: number, userId: string, age: (i: number) => number) => {
    for (let i = 0; i < n; i++) await ago(age(i), () => app.activity.record({ userId, action: 'acted', detail: { i, text: 'y'.repeat(200) } }))
  }
  // Rows as old as they may be stand right beside those that are too old.
  await login(OLD.sessions, 'old', DAY + 1)
  const fresh = await login(NEW.sessions, 'new', DAY - 1)
  await report(OLD.requests, 'old', i => NOW - 30 * DAY - 1 - i * 100_000)
  await report(NEW.requests, 'new', i => NOW - 30 * DAY + i * 1000)
  await act(OLD.acts, 'old', i => 7 * DAY + 1 + i * 1000)
  await act(NEW.acts, 'new', i => 7 * DAY - i * 500)
  // Idle by what is in the file, in use by what still waits to be written: the run stores that first.
  const inUse = await ago(30 * HOUR, () => app.sessions.create({ userId: 'in use' }))
  await ago(8 * HOUR, () => app.sessions.touch(structuredClone(inUse.session)))
  await app.database.flush()
  const rows = async () => ({
    sessions: await count('main', 'sessions'), requests: await count('log', 'ip_logs'), acts: await count('log', 'user_activity')
  })
  t.strictSame(await rows(), { sessions: OLD.sessions + NEW.sessions + 1, requests: OLD.requests + NEW.requests, acts: OLD.acts + NEW.acts })
  const before = (await app.database.stats()).storage.files

  const predicted = await app.cleanup.run({ dryRun: true })
  const run = await app.cleanup.run()
  t.match(run.removed, { sessionsIdle: OLD.sessions, ipLogs: OLD.requests, activity: OLD.acts, sessionsExpired: 0, deadLetters: 0 })
  t.strictSame(run.removed, predicted.removed, 'the dry run has told exactly')
  t.match(predicted, { dryRun: true, freedPages: 0, complete: true })
  t.strictSame(await rows(), { sessions: NEW.sessions + 1, requests: NEW.requests, acts: NEW.acts })
  t.ok((await Promise.all(fresh.map(({ token }) => app.sessions.validate(token)))).every(({ valid }) => valid), 'every newer session is valid')
  t.match(await app.sessions.validate(inUse.token), { valid: true })
  t.equal(await count('log', 'ip_logs WHERE path LIKE \'/old/%\' OR path IS NULL'), 0, 'the newer rows still have their texts')

  const { lastCleanup, storage: { files: after } } = await app.database.stats()
  t.strictSame(lastCleanup, run, 'the statistics have it')
  // Only a file has pages to give back.
  for (const name of ENGINE === 'sqlite' ? ['main', 'log'] as const : []) {
    t.ok(after[name].pageCount < before[name].pageCount, `${name}: ${before[name].pageCount} pages, then ${after[name].pageCount}`)
    t.ok(after[name].freePages <= 64, 'what is left free is not worth another step')
  }
  // The files also grow meanwhile, by tombstones and statistics.
  if (ENGINE === 'sqlite') t.ok(run.freedPages >= before.main.pageCount - after.main.pageCount + before.log.pageCount - after.log.pageCount, 'the run says so')

  const again = await app.cleanup.run()
  t.strictSame({ removed: again.removed, complete: again.complete, error: again.error }, { removed: none, complete: true, error: null }, 'a second run finds nothing')
  t.strictSame(await rows(), { sessions: NEW.sessions + 1, requests: NEW.requests, acts: NEW.acts })

  const history = await app.cleanup.history({ limit: 10 })
  t.strictSame(history.items.map(item => item.id).sort(), [predicted, run, again].map(item => item.id).sort())
  t.strictSame(history.items.find(item => item.id === run.id), run, 'the history has the numbers')
  t.strictSame(await app.database.storage.check(), [])
})

t.test('what a row leaves behind goes with it: reasons, blocks, reported ids, history', async t => {
  const { app, ago, time, count } = await start(t)
  const ended = await ago(7 * DAY + 1, () => app.sessions.create({ userId: 'ended' }))
  await ago(7 * DAY + 1, () => app.sessions.remove(ended.session.id))
  const recent = await ago(7 * DAY, () => app.sessions.create({ userId: 'recent' }))
  await ago(7 * DAY, () => app.sessions.remove(recent.session.id))
  await ago(HOUR, async () => {
    await app.ipTracking.blocks.add({ cidr: '192.0.2.0/24', until: NOW })
    await app.ipTracking.blocks.add({ cidr: '198.51.100.0/24', until: NOW + 1 })
    await app.ipTracking.blocks.add({ cidr: '203.0.113.0/24' })
  })
  await ago(90 * DAY + 1, () => app.cleanup.run({ dryRun: true }))
  await ago(90 * DAY, () => app.cleanup.run({ dryRun: true }))
  const run = await app.cleanup.run()
  t.match(run.removed, { sessionTombstones: 1, blocks: 1, cleanupRuns: 1, sessionsIdle: 0 })
  t.match(await Promise.all([ended.token, recent.token].map(token => app.sessions.validate(token))), [{ reason: 'unknown' }, { reason: 'revoked' }])
  t.strictSame((await app.ipTracking.blocks.list()).map(block => block.cidr).sort(), ['198.51.100.0/24', '203.0.113.0/24'])

  // A reported row is known by its id as long as it is there, and forgotten after that.
  const item = { method: 'GET', path: '/', status: 200, requestId: 'r-1' }
  await app.ipTracking.report([item])
  await app.ipTracking.report([item])
  await app.database.flush()
  t.equal(await count('log', 'ip_logs'), 1)
  time.now = NOW + 32 * DAY
  t.match((await app.cleanup.run()).removed, { ipLogs: 1, sessionTombstones: 1, blocks: 1 })
  const tables = ENGINE === 'sqlite' ? ['texts', 'ingested', 'log_sources', 'ip_log_rows'] : ['ingested', 'log_sources', 'ip_logs']
  for (const table of tables) t.equal(await count('log', table), 0, `nothing of it is left in ${table}`)
})

t.test('a device is known for 180 days after the last login with it', async t => {
  const { app, ago } = await start(t)
  const login = (age: number, userId: string) => ago(age, () => app.sessions.create({ userId, ip: '192.0.2.1', userAgent: 'curl/8' }))
  for (const userId of ['ada', 'bob', 'eve']) await login(200 * DAY, userId)
  await login(180 * DAY, 'ada')
  await login(180 * DAY + 1, 'bob')
  const predicted = await app.cleanup.run({ dryRun: true })
  const run = await app.cleanup.run()
  t.equal(run.removed.sessionDevices, 2)
  t.strictSame(run.removed, predicted.removed)
  t.match(await app.sessions.devices('ada'), [{ device: 'curl', network: '192.0.2.0/24', firstSeenAt: NOW - 200 * DAY, lastSeenAt: NOW - 180 * DAY, sessions: 2 }])
  t.strictSame([await app.sessions.devices('bob'), await app.sessions.devices('eve')], [[], []])
})

t.test('a session both idle and past its end is counted once', async t => {
  const { app, ago } = await start(t)
  await ago(31 * DAY, () => app.sessions.create({ userId: 'both' }))
  const { session } = await ago(30 * DAY, () => app.sessions.create({ userId: 'expired in use' }))
  await ago(1000, () => app.sessions.touch(session))
  const predicted = await app.cleanup.run({ dryRun: true })
  t.strictSame(predicted.removed, { ...none, sessionsIdle: 1, sessionsExpired: 1 })
  t.strictSame((await app.cleanup.run()).removed, predicted.removed)
})

t.test('retention follows the options, and the idle timeout that of the sessions', async t => {
  const { app, ago } = await start(t, {
    sessions: { idleTimeout: '1h' }, cleanup: { enabled: false, sessionIdleTimeout: '5h', ipLogRetention: '1d', activityRetention: '2d' }
  })
  for (const age of [HOUR - 1, HOUR + 1]) await ago(age, () => app.sessions.create({ userId: 'ada' }))
  for (const age of [DAY - 1, DAY + 1]) await ago(age, () => app.inject('/'))
  for (const age of [2 * DAY - 1, 2 * DAY + 1]) await ago(age, () => app.activity.record({ userId: 'ada', action: 'acted' }))
  t.match((await app.cleanup.run()).removed, { sessionsIdle: 1, ipLogs: 1, activity: 1 })
})

t.test('expiry does not need the cleanup: it is judged at every use', async t => {
  for (const cleanup of [false, { enabled: false }] as const) {
    await t.test(cleanup === false ? 'no cleanup plugin' : 'no schedule', async t => {
      const { app, time, count } = await start(t, { cleanup })
      t.equal(app.hasDecorator('cleanup'), cleanup !== false)
      const idle = await app.sessions.create({ userId: 'idle' })
      const used = await app.sessions.create({ userId: 'used' })
      const get = (token: string) => app.inject({ url: '/private', headers: { authorization: `Bearer ${token}` } })
      time.now = NOW + DAY - 1
      t.match([await app.sessions.validate(idle.token), await app.sessions.validate(used.token)], [{ valid: true }, { valid: true }])
      t.equal((await get(used.token)).statusCode, 200)
      time.now = NOW + DAY
      t.match(await app.sessions.validate(idle.token), { valid: false, reason: 'idle', at: NOW + DAY })
      t.match((await get(idle.token)).json(), { statusCode: 401, code: 'DOORMAN_SESSION_EXPIRED' })
      for (let at = 2 * DAY - 2 * HOUR; at < 30 * DAY; at += 23 * HOUR) {
        time.now = NOW + at
        t.equal((await get(used.token)).statusCode, 200)
      }
      time.now = NOW + 30 * DAY - 1
      t.match(await app.sessions.validate(used.token), { valid: true })
      time.now = NOW + 30 * DAY
      t.match(await app.sessions.validate(used.token), { valid: false, reason: 'expired', at: NOW + 30 * DAY })
      t.match((await get(used.token)).json(), { statusCode: 401, code: 'DOORMAN_SESSION_EXPIRED' })
      t.strictSame((await app.sessions.list()).items, [])
      t.equal(await app.sessions.info(used.session.id), null)
      t.equal(await count('main', 'sessions'), 2, 'their rows are still there')
    })
  }
})
