/** R46 and R47: what the cleanup removes, and that nobody notices it at work. */
import t from 'tap'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { newDatabase } from '../engine.js'
import { until } from '../helper.js'
import { SWEEP_TARGETS } from '../../storage/storage.js'
import { bearer, DAY, HOUR, LIBRARY, runProgram, START, startApp } from './helper.js'

t.test('R46: by default the cleanup runs hourly and keeps sessions idle for 24 h, requests for 30 days and activity for 7, to the millisecond', async t => {
  const { app, time, count, get } = await startApp(t, { activity: { sessionEvents: false }, cleanup: {} })
  t.match(app.cleanup.options, { enabled: true, interval: HOUR, sessionIdleTimeout: DAY, ipLogRetention: 30 * DAY, activityRetention: 7 * DAY })
  const ago = async (age: number, action: () => unknown) => {
    time.now = START - age
    await action()
    time.now = START
  }
  for (const off of [-1, 0, 1]) {
    await ago(DAY + off, () => app.sessions.create({ userId: `idle ${off}` }))
    await ago(30 * DAY + off, () => get('/', { 'user-agent': `${off}` }))
    await ago(7 * DAY + off, () => app.activity.record({ userId: `${off}`, action: 'acted' }))
  }
  await app.database.flush()
  const rows = async () => [await count('sessions'), await count('ip_logs', 'log'), await count('user_activity', 'log')]
  const none = Object.fromEntries(SWEEP_TARGETS.map(target => [target, 0]))
  const expected = { ...none, sessionsIdle: 1, ipLogs: 1, activity: 1 }
  t.strictSame((await app.cleanup.run({ dryRun: true })).removed, expected, 'a dry run counts exactly')
  t.strictSame(await rows(), [3, 3, 3])
  t.match(await app.cleanup.run(), { complete: true, error: null, removed: expected })
  t.strictSame(await rows(), [2, 2, 2], 'what is a millisecond too old, and nothing else')
  t.strictSame((await app.cleanup.run()).removed, none, 'a second run finds nothing')
  time.now = START + 31 * DAY
  t.match((await app.cleanup.run()).removed, { sessionsIdle: 2, ipLogs: 2, activity: 2 })
  t.strictSame(await rows(), [0, 0, 0])
})

t.test('R47: requests are answered while the cleanup removes thousands of rows in small steps', async t => {
  const ROWS = 10_000
  const { app, time, get, login } = await startApp(t, { cleanup: { enabled: false, batchSize: 200 } })
  const at = START - 40 * DAY
  for (let i = 0; i < ROWS; i += 500) await app.ipTracking.report(Array.from({ length: 500 }, (_, n) => ({ method: 'GET', path: `/${i + n}`, status: 200, at: at + i + n })))
  await app.database.flush()
  const { token } = await login()
  const { storage } = app.database
  const sweep = storage.sweep.bind(storage)
  const steps: number[] = []
  storage.sweep = async params => {
    const removed = await sweep(params)
    if (params.target === 'ipLogs') steps.push(removed)
    return removed
  }
  time.now += 1000
  const over = new AbortController()
  const running = Promise.all([app.cleanup.run(), app.cleanup.run()]).finally(() => over.abort())
  let answered = 0
  let turns = 0
  while (!over.signal.aborted) {
    turns++
    if ((await get('/private', bearer(token))).statusCode === 200 && !over.signal.aborted) answered++
    await nextTurn()
  }
  const [run, same] = await running
  t.strictSame(run, same, 'single-flight: whoever asks meanwhile joins it')
  t.match(run, { complete: true, error: null, removed: { ipLogs: ROWS } })
  t.ok(answered > 0 && turns > 1, `${answered} requests were answered meanwhile`)
  if (!storage.facts.partitions) t.ok(steps.length > ROWS / 200 && steps.every(removed => removed <= 200), 'no step removes more than its share')
  t.comment(`longest pause of the event loop: ${(await app.database.stats()).eventLoopDelay.max} ms`)
})

t.test('R47: a cleanup that fails says so and goes on with the next run; closing ends it', async t => {
  const { app } = await startApp(t)
  const { storage } = app.database
  const sweep = storage.sweep.bind(storage)
  storage.sweep = async () => { throw new Error('disk') }
  t.match(await app.cleanup.run(), { complete: false, error: /./ })
  storage.sweep = sweep
  t.match(await app.cleanup.run(), { complete: true, error: null })
  await app.close()
  await t.rejects(app.cleanup.run(), { code: 'DOORMAN_STORAGE_CLOSED' })
})

t.test('R47: the schedule keeps no process alive', async t => {
  const db = await newDatabase(t)
  const program = runProgram(t, `
    import Fastify from 'fastify'
    import { doorman } from ${LIBRARY}
    const app = Fastify()
    await app.register(doorman, { database: { url: ${JSON.stringify(db.url)} }, cleanup: { interval: '1h' } })
    await app.ready()
    await app.sessions.create({ userId: 'ada' })
    console.log('ready')`)
  t.equal(await program.line(), 'ready')
  t.strictSame(await program.ended, { code: 0, signal: null }, 'it ends by itself, without a close')
  t.strictSame(await db.look('SELECT user_id FROM sessions'), [{ user_id: 'ada' }])
})

t.test('R47: of two processes that start at once, one runs the cleanup', async t => {
  const db = await newDatabase(t)
  const source = `
    import Fastify from 'fastify'
    import { doorman } from ${LIBRARY}
    const app = Fastify()
    await app.register(doorman, { database: { url: ${JSON.stringify(db.url)} }, cleanup: { interval: '1h', runOnStart: true } })
    const { storage } = app.database
    const acquireLease = storage.acquireLease.bind(storage)
    storage.acquireLease = async params => {
      const got = await acquireLease(params)
      console.log(got)
      return got
    }
    await app.listen({ port: 0, host: '127.0.0.1' })`
  const programs = [runProgram(t, source), runProgram(t, source)]
  const first = await Promise.all(programs.map(async program => (await program.line()).split('\n')[0]))
  t.strictSame(first.sort(), ['false', 'true'])
  await until(async () => (await db.look('SELECT id FROM cleanup_runs')).length > 0, 'the run to be recorded')
  t.equal((await db.look('SELECT id FROM cleanup_runs')).length, 1)
})
