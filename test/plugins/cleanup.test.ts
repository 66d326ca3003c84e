/** The cleanup as a plugin: its options, its place in the life of a server, what it decorates. */
import fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import cleanup, { type CleanupOptions } from '../../plugins/cleanup.js'
import type { PageParams } from '../../storage/storage.js'
import { fakeDatabase } from '../fake-database.js'
import { fakeStorage } from '../lib/sweep-fixture.js'

// The timers under test do not keep the process alive; a server that listens does.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const DAY = 86_400_000
const NOW = 1000 * DAY

function setup (t: Test, options: CleanupOptions = {}) {
  const app = fastify()
  t.teardown(() => app.close())
  const storage = { ...fakeStorage(), listCleanupRuns: async ({ limit }: PageParams) => ({ items: storage.history.slice(0, limit), next: null }) }
  let recorded!: () => void
  const firstRun = new Promise<void>(resolve => { recorded = resolve })
  const add = storage.addCleanupRun
  storage.addCleanupRun = async run => {
    await add.call(storage, run)
    recorded()
  }
  let flushes = 0
  app.register(fakeDatabase({ storage, clock: () => NOW, random: () => 0, async flush () { flushes++ } }))
  app.register(cleanup, options)
  return { app, storage, firstRun, flushes: () => flushes }
}

const sessions = (idleTimeout: number) => async (app: FastifyInstance) => { app.database.sessionTimeouts.add(idleTimeout) }

t.test('starts with the server: the first run comes without anybody asking', async t => {
  const { app, storage, firstRun, flushes } = setup(t)
  storage.rows.ipLogs = [NOW - 31 * DAY, NOW - 30 * DAY]
  await app.ready()
  await firstRun
  t.match(storage.history, [{ trigger: 'schedule', removed: { ipLogs: 1 }, complete: true }])
  t.equal(flushes(), 1, 'queues are emptied first')
})

t.test('keeps what the defaults say, exactly', async t => {
  const { app, storage } = setup(t, { enabled: false })
  await app.ready()
  const kept = { sessionsIdle: 1, sessionTombstones: 7, sessionDevices: 180, ipLogs: 30, activity: 7, deadLetters: 30, cleanupRuns: 90, logInternals: 30 }
  for (const [target, days] of Object.entries(kept)) storage.rows[target as keyof typeof kept] = [NOW - days * DAY - 1, NOW - days * DAY]
  const run = await app.cleanup.run()
  for (const [target, days] of Object.entries(kept)) {
    t.equal(run.removed[target as keyof typeof kept], 1, target)
    t.strictSame(storage.rows[target as keyof typeof kept], [NOW - days * DAY])
  }
})

t.test('reads durations as people write them', async t => {
  const { app } = setup(t, { enabled: false, interval: '30m', ipLogRetention: '1d', activityRetention: 5, batchSize: 7 })
  await app.ready()
  t.strictSame(app.cleanup.options, {
    enabled: false,
    interval: 1_800_000,
    runOnStart: false,
    sessionIdleTimeout: DAY,
    ipLogRetention: DAY,
    addressTruncateAfter: null,
    activityRetention: 5,
    tombstoneRetention: 7 * DAY,
    deviceRetention: 180 * DAY,
    deadLetterRetention: 30 * DAY,
    historyRetention: 90 * DAY,
    batchSize: 7,
    timeBudget: 300_000,
    leaseTtl: 120_000
  })
})

t.test('an age at which addresses lose their host: told to the queue, and shorter than the retention of the log', async t => {
  const { app, storage } = setup(t, { enabled: false, addressTruncateAfter: '7d' })
  await app.ready()
  t.strictSame([...app.database.addressTiers], [7 * DAY])
  storage.rows.ipLogAddresses = storage.rows.deadLetters = [NOW - 7 * DAY - 1, NOW - 7 * DAY]
  t.match(await app.cleanup.run(), { removed: { ipLogAddresses: 1, deadLetters: 1 } })
  for (const [addressTruncateAfter, message] of [['30d', /"cleanup.addressTruncateAfter" must be shorter than ipLogRetention \(30d\); got 30d/], ['59m', /"cleanup.addressTruncateAfter" must be .*at least 1h.*, or null/]] as const) {
    await t.rejects(async () => setup(t, { addressTruncateAfter }).app.ready(), { code: 'DOORMAN_OPTION_INVALID', message })
  }
})

t.test('takes the longest idle timeout of those who keep sessions, in whatever context and order they are registered', async t => {
  const { app, storage } = setup(t, { enabled: false, sessionIdleTimeout: '2h' })
  app.register(sessions(1000))
  app.register(sessions(5000))
  await app.ready()
  t.equal(app.cleanup.options.sessionIdleTimeout, 5000)
  storage.rows.sessionsIdle = [NOW - 5001, NOW - 5000]
  t.match(await app.cleanup.run(), { removed: { sessionsIdle: 1 } })
})

t.test('where nobody keeps sessions the option holds', async t => {
  const { app } = setup(t, { enabled: false, sessionIdleTimeout: '2h' })
  await app.ready()
  t.equal(app.cleanup.options.sessionIdleTimeout, 7_200_000)
})

t.test('runs on demand, also without a schedule; dry runs remove nothing; the history shows both', async t => {
  const { app, storage } = setup(t, { enabled: false })
  await app.ready()
  storage.rows.activity = [1, 2]
  t.equal(app.cleanup.lastRun, null)
  t.match(await app.cleanup.run({ dryRun: true }), { dryRun: true, removed: { activity: 2 } })
  const run = await app.cleanup.run({ dryRun: false, trigger: 'manual' })
  t.match(run, { dryRun: false, removed: { activity: 2 }, trigger: 'manual' })
  t.equal(app.cleanup.lastRun, run)
  t.equal((await app.cleanup.history({ limit: 10 })).items.length, 2)
  t.equal(new Set(storage.history.map(({ id }) => id)).size, 2)
})

t.test('closing stops it and waits for the run under way', async t => {
  const { app, storage } = setup(t, { runOnStart: true })
  let reached!: () => void
  let goOn!: () => void
  const started = new Promise<void>(resolve => { reached = resolve })
  const step = new Promise<void>(resolve => { goOn = resolve })
  const sweep = storage.sweep
  storage.sweep = async params => {
    reached()
    await step
    return sweep.call(storage, params)
  }
  await app.ready()
  await started
  const closing = app.close()
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(storage.history.length, 0)
  goOn()
  await closing
  t.match(storage.history, [{ complete: false, error: null }])
  await t.rejects(app.cleanup.run(), { code: 'DOORMAN_STORAGE_CLOSED' })
})

t.test('closing gives up on a step that somebody\'s lock holds up: closing the database settles it', async t => {
  const { app, storage } = setup(t, { enabled: false })
  const started = new Promise<void>(resolve => {
    storage.sweep = () => {
      resolve()
      return new Promise(() => {})
    }
  })
  await app.ready()
  app.cleanup.run()
  await started
  const start = performance.now()
  await app.close()
  const took = performance.now() - start
  t.ok(took > 1900 && took < 10_000, `${took} ms`)
})

t.test('wrong wiring and wrong options stop the start', async t => {
  await t.rejects(async () => { await fastify().register(cleanup) }, { code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED' })

  const twice = setup(t).app
  twice.register(cleanup)
  await t.rejects(async () => { await twice.ready() }, { code: 'DOORMAN_ALREADY_REGISTERED' })

  const cases: [object, RegExp][] = [
    [{ interval: '30d' }, /"cleanup\.interval" must be .* at least 1s and at most 21d; got "30d"/],
    [{ interval: 999 }, /cleanup\.interval/],
    [{ batchSize: 0 }, /cleanup\.batchSize/],
    [{ ipLogRetention: '30 days' }, /cleanup\.ipLogRetention/]
  ]
  for (const [options, message] of cases) {
    await t.rejects(async () => { await setup(t, options).app.ready() }, { code: 'DOORMAN_OPTION_INVALID', message })
  }
  await t.rejects(async () => { await setup(t, { ipRetention: 1 } as object).app.ready() }, { code: 'DOORMAN_OPTION_UNKNOWN', message: /ipLogRetention/ })
})
