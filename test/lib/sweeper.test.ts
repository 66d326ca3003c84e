/** When the cleanup runs: by schedule and on demand, one at a time here and among processes, and how it stops. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { doormanError } from '../../errors.js'
import { createSweeper, type SweeperOptions } from '../../lib/sweeper.js'
import { fakeStorage } from './sweep-fixture.js'

// The timers under test do not keep the process alive; a server does.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const HOUR = 3_600_000
const NOW = 1_000 * HOUR

function setup (change: Partial<SweeperOptions> = {}, storage = fakeStorage()) {
  const time = { now: NOW, monotonic: 0.25 }
  const lines: [level: string, message: string, fields: object][] = []
  let ids = 0
  let recorded = () => {}
  const add = storage.addCleanupRun
  storage.addCleanupRun = async run => {
    await add.call(storage, run)
    recorded()
  }
  const sweeper = createSweeper({
    storage,
    retention: () => ({ sessionIdle: 24 * HOUR, tombstones: HOUR, ipLogs: HOUR, activity: HOUR, deadLetters: HOUR, history: HOUR, fullAddresses: null, devices: HOUR }),
    flush: async () => {},
    flushWait: 10_000,
    interval: HOUR,
    batchSize: 2,
    timeBudget: 60_000,
    leaseTtl: 30_000,
    leaseWait: 0,
    stopWait: 60_000,
    runOnStart: false,
    holder: 'me',
    newId: () => `run-${++ids}`,
    clock: () => time.now,
    monotonic: () => time.monotonic,
    random: () => 0,
    log: {
      info: (fields, message) => { lines.push(['info', message, fields]) },
      warn: (fields, message) => { lines.push(['warn', message, fields]) }
    },
    ...change
  })
  t.teardown(() => sweeper.stop())
  /** Resolves when the next run is in the history. */
  const nextRun = () => new Promise<void>(resolve => { recorded = resolve })
  return { sweeper, storage, time, lines, nextRun }
}

/** A promise that the test ends. */
function gate () {
  let open!: () => void
  const promise = new Promise<void>(resolve => { open = resolve })
  return { promise, open }
}

async function closed (): Promise<never> {
  throw doormanError('DOORMAN_STORAGE_CLOSED')
}

/** Lets the next calls of one method of the storage wait until they are ended, well or with an error. */
function stick (storage: ReturnType<typeof fakeStorage>, name: 'sweep' | 'countSweepable' | 'acquireLease' | 'releaseLease' | 'addCleanupRun') {
  const reached = gate()
  let calls = 0
  let end!: (error?: Error) => void
  const ended = new Promise<void>((resolve, reject) => { end = error => error === undefined ? resolve() : reject(error) })
  const method = storage[name] as (...args: unknown[]) => Promise<unknown>
  const sticking = async (...args: unknown[]) => {
    calls++
    reached.open()
    await ended
    return method.apply(storage, args)
  }
  Object.assign(storage, { [name]: sticking })
  return { reached: reached.promise, end, calls: () => calls }
}

t.test('a run', async t => {
  t.test('removes, records, and logs one line', async t => {
    const { sweeper, storage, lines } = setup()
    storage.rows.ipLogs = [1, 2, 3, NOW - HOUR]
    t.equal(sweeper.lastRun, null)
    const run = await sweeper.run()
    t.match(run, { id: 'run-1', startedAt: NOW, durationMs: 0, dryRun: false, trigger: 'manual', complete: true, removed: { ipLogs: 3, activity: 0 }, freedPages: 0, error: null })
    t.strictSame(storage.history, [run])
    t.equal(sweeper.lastRun, run)
    t.match(lines, [['info', 'The cleanup removed old rows', { removed: { ipLogs: 3 }, trigger: 'manual' }]])
  })

  t.test('that removes nothing logs nothing', async t => {
    const { sweeper, lines, storage } = setup()
    await sweeper.run()
    t.strictSame(lines, [])
    t.equal(storage.history.length, 1)
  })

  t.test('stores what waits in the queues first', async t => {
    const { sweeper, storage } = setup({ flush: async () => { storage.log.push('flush') } })
    await sweeper.run()
    t.equal(storage.log[0], 'flush')
  })

  t.test('dry: counts, removes nothing, takes no lease', async t => {
    const { sweeper, storage, lines } = setup()
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + 1, lastRunBefore: 0 })
    storage.rows.activity = [1, 2, 3, NOW]
    t.match(await sweeper.run({ dryRun: true }), { dryRun: true, complete: true, removed: { activity: 3 }, error: null })
    t.equal(storage.rows.activity.length, 4)
    t.equal(sweeper.lastRun, null)
    t.strictSame(storage.history.map(run => run.dryRun), [true])
    t.strictSame(lines, [])
  })

  t.test('ends with its time budget; the next one may follow at once', async t => {
    const { sweeper, storage, time } = setup()
    storage.rows.ipLogs = Array.from({ length: 10 }, (_, i) => i)
    const sweep = storage.sweep
    storage.sweep = async params => {
      time.monotonic += 14_000.3
      return sweep.call(storage, params)
    }
    t.match(await sweeper.run(), { complete: false, error: null, removed: { ipLogs: 2 }, durationMs: 70_002 })
    storage.rows.activity = [1, 2]
    t.match(await sweeper.run({ trigger: 'schedule' }), { complete: false, removed: { activity: 2, ipLogs: 0 } }, 'it is not kept waiting by the last one, and starts where that did not get')
  })

  t.test('a clock that is set meanwhile changes neither its budget nor its duration', async t => {
    for (const jump of [HOUR, -HOUR]) {
      const { sweeper, storage, time } = setup()
      const sweep = storage.sweep
      storage.sweep = async params => {
        time.now += jump
        time.monotonic += 1
        return sweep.call(storage, params)
      }
      t.match(await sweeper.run(), { durationMs: 10, complete: true })
    }
  })
})

t.test('failures', async t => {
  t.test('are recorded and logged, with what was removed before; the next run goes on', async t => {
    const { sweeper, storage, lines } = setup()
    storage.rows.sessionsIdle = [1]
    storage.rows.ipLogs = [1]
    const sweep = storage.sweep
    storage.sweep = async params => {
      if (params.target === 'ipLogs') throw doormanError('DOORMAN_STORAGE_BUSY', [30_000])
      return sweep.call(storage, params)
    }
    t.match(await sweeper.run(), { error: 'DOORMAN_STORAGE_BUSY', complete: false, removed: { sessionsIdle: 1, ipLogs: 0 } })
    t.match(lines, [['warn', 'The cleanup failed; the next run does what is left', { err: { code: 'DOORMAN_STORAGE_BUSY' }, removed: { sessionsIdle: 1 } }]])
    storage.sweep = sweep
    t.match(await sweeper.run(), { error: null, complete: true, removed: { ipLogs: 1 } })
  })

  t.test('of the lease, of the count, of anything unknown', async t => {
    const { sweeper, storage } = setup()
    storage.acquireLease = async () => { throw doormanError('DOORMAN_STORAGE_FULL') }
    t.match(await sweeper.run(), { error: 'DOORMAN_STORAGE_FULL', complete: false })
    storage.countSweepable = async () => { throw new TypeError('oops') }
    t.match(await sweeper.run({ dryRun: true }), { error: 'DOORMAN_INTERNAL', complete: false, dryRun: true })
  })

  t.test('of the history or of giving the lease back do not undo a run', async t => {
    const { sweeper, storage, lines } = setup()
    storage.releaseLease = async () => { throw new Error('a') }
    storage.addCleanupRun = async () => { throw new Error('b') }
    t.match(await sweeper.run(), { complete: true, error: null })
    t.match(lines, [['warn', /lease was not given back/, { err: { message: 'a' } }], ['warn', /missing in the history/, { err: { message: 'b' } }]])
  })

  t.test('a lease that cannot be asked for while somebody holds the lock: neither given back nor waited for', async t => {
    const { sweeper, storage, lines } = setup()
    storage.acquireLease = async () => { throw doormanError('DOORMAN_STORAGE_BUSY', [30_000]) }
    storage.releaseLease = async () => { t.fail('there is none') }
    let fail!: (error: Error) => void
    storage.addCleanupRun = () => new Promise((resolve, reject) => { fail = reject })
    t.match(await sweeper.run(), { error: 'DOORMAN_STORAGE_BUSY', complete: false })
    fail(doormanError('DOORMAN_STORAGE_BUSY', [30_000]))
    await turn()
    t.match(lines, [['warn', /failed/, {}], ['warn', /missing in the history/, { err: { code: 'DOORMAN_STORAGE_BUSY' } }]])
  })

  t.test('queues that do not empty fail the run after a while: a session used just now must not count as idle', async t => {
    const { sweeper, storage } = setup({ flush: () => new Promise(() => {}), flushWait: 5 })
    storage.rows.sessionsIdle = [1]
    t.match(await sweeper.run(), { error: 'DOORMAN_STORAGE_BUSY', removed: { sessionsIdle: 0 } })
    t.match(await sweeper.run({ dryRun: true }), { error: 'DOORMAN_STORAGE_BUSY' })
  })
})

t.test('one at a time', async t => {
  t.test('a run of the same kind is shared, one of the other kind waits', async t => {
    const { promise, open } = gate()
    const { sweeper, storage } = setup({ flush: () => promise })
    const first = sweeper.run()
    const shared = sweeper.run()
    const dry = sweeper.run({ dryRun: true })
    const dryToo = sweeper.run({ dryRun: true })
    const scheduled = sweeper.run({ trigger: 'schedule' })
    await turn()
    t.equal(storage.history.length, 0)
    open()
    t.equal(await first, await shared)
    t.equal(await first, await scheduled)
    t.equal(await dry, await dryToo)
    t.strictSame(storage.history.map(run => run.dryRun), [false, true])
  })

  t.test('among processes: a manual run waits for the lease, then says who has it', async t => {
    const { sweeper, storage } = setup({ leaseWait: 10_000 })
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: 0 })
    const waiting = sweeper.run()
    await storage.releaseLease('cleanup', 'other', NOW)
    t.match(await waiting, { complete: true }, 'whenever the last run was')
    const { sweeper: impatient } = setup({ holder: 'third' }, storage)
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: NOW })
    const refused = [impatient.run(), impatient.run()]
    for (const run of refused) await t.rejects(run, { code: 'DOORMAN_CLEANUP_RUNNING', statusCode: 409 })
  })

  t.test('among processes: one scheduled run per interval', async t => {
    const a = setup()
    const b = setup({ holder: 'b' }, a.storage)
    t.match(await a.sweeper.run({ trigger: 'schedule' }), { trigger: 'schedule', complete: true })
    b.time.now += 0.5 * HOUR
    t.equal(await b.sweeper.run({ trigger: 'schedule' }), null)
    t.equal(b.sweeper.lastRun, null)
    b.time.now += 0.4 * HOUR
    t.match(await b.sweeper.run({ trigger: 'schedule' }), { complete: true })
  })

  t.test('a manual run is not content with a scheduled one that was not needed', async t => {
    const { sweeper } = setup()
    await sweeper.run({ trigger: 'schedule' })
    const skipped = sweeper.run({ trigger: 'schedule' })
    const manual = sweeper.run()
    t.equal(await skipped, null)
    t.match(await manual, { trigger: 'manual', complete: true })
  })

  t.test('a caller of the other kind does not hear of a failure that is not its own', async t => {
    const { sweeper, storage } = setup()
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: 0 })
    const refused = sweeper.run()
    const dry = sweeper.run({ dryRun: true })
    await t.rejects(refused, { code: 'DOORMAN_CLEANUP_RUNNING' })
    t.match(await dry, { complete: true })
  })
})

t.test('the schedule', async t => {
  t.test('runs soon after the start, and again after each interval', async t => {
    const { sweeper, storage, nextRun, time } = setup({ interval: 20, random: () => 0.5 })
    const armed = performance.now()
    sweeper.start()
    await nextRun()
    t.ok(performance.now() - armed < 1000)
    time.now += 20
    await nextRun()
    t.match(storage.history, [{ trigger: 'schedule', complete: true }, { trigger: 'schedule', complete: true }])
    await sweeper.stop()
  })

  t.test('spreads the first run over a tenth of the interval and the others over ten per cent', async t => {
    const delays: number[] = []
    const real = globalThis.setTimeout
    const randoms = [0.5, 0, 0.999, 0.5]
    const finished = gate()
    t.teardown(() => { globalThis.setTimeout = real })
    globalThis.setTimeout = ((fn: () => void, ms: number) => {
      if (fn.name !== 'tick') return real(fn, ms)
      delays.push(ms)
      if (delays.length === 4) finished.open()
      return real(delays.length < 4 ? fn : () => {}, 0)
    }) as unknown as typeof setTimeout
    // Another process does the work, so that the jitter alone asks for random numbers.
    const { sweeper, storage } = setup({ random: () => randoms.shift()! })
    storage.acquireLease = async () => false
    sweeper.start()
    await finished.promise
    t.strictSame(delays, [180_000, 0.9 * HOUR, Math.ceil(HOUR * (0.9 + 0.2 * 0.999)), HOUR])
    await sweeper.stop()
  })

  t.test('may begin at once', async t => {
    const { sweeper, nextRun } = setup({ runOnStart: true, random: () => 0.99 })
    sweeper.start()
    await nextRun()
    t.pass('not after six minutes')
    await sweeper.stop()
  })

  t.test('goes on after a run that failed, and after one that met another process', async t => {
    const { sweeper, storage, nextRun, time } = setup({ interval: 10, leaseWait: 0 })
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: 0 })
    const refused = sweeper.run()
    sweeper.start()
    await t.rejects(refused, { code: 'DOORMAN_CLEANUP_RUNNING' })
    await storage.releaseLease('cleanup', 'other', null)
    const sweep = storage.sweep
    storage.sweep = async () => { throw new Error('once') }
    await nextRun()
    storage.sweep = sweep
    time.now += 10
    await nextRun()
    t.strictSame(storage.history.map(run => run.error), ['DOORMAN_INTERNAL', null])
    await sweeper.stop()
  })

  t.test('survives joining a manual run that is refused', async t => {
    const { sweeper, storage, nextRun } = setup({ interval: 10, runOnStart: true, leaseWait: 100 })
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: 0 })
    const refused = sweeper.run()
    sweeper.start()
    await t.rejects(refused, { code: 'DOORMAN_CLEANUP_RUNNING' })
    await storage.releaseLease('cleanup', 'other', null)
    await nextRun()
    await sweeper.stop()
  })
})

t.test('a clock that jumps', async t => {
  const DAY = 24 * HOUR

  t.test('skips one scheduled run, with a warning; the next one goes by the clock', async t => {
    const { sweeper, storage, time, lines } = setup()
    storage.rows.ipLogs = [NOW]
    time.now += 40 * DAY
    time.monotonic += HOUR
    t.equal(await sweeper.run({ trigger: 'schedule' }), null)
    t.strictSame(storage.rows.ipLogs, [NOW])
    t.strictSame(storage.history, [])
    t.match(lines, [['warn', /The clock jumped/, { clockMs: 40 * DAY, monotonicMs: HOUR }]])
    time.now += HOUR
    time.monotonic += HOUR
    t.match(await sweeper.run({ trigger: 'schedule' }), { complete: true, removed: { ipLogs: 1 } })
    time.now -= 40 * DAY
    t.equal(await sweeper.run({ trigger: 'schedule' }), null, 'set right again')
    t.match(lines.at(-1), ['warn', /The clock jumped/, { clockMs: -40 * DAY, monotonicMs: 0 }])
  })

  t.test('less than an interval and an hour ahead, or an hour back, is nothing', async t => {
    const { sweeper, time, lines } = setup()
    time.now += 2 * HOUR
    t.match(await sweeper.run({ trigger: 'schedule' }), { complete: true })
    time.now -= HOUR
    await sweeper.run({ trigger: 'schedule' })
    t.strictSame(lines, [])
  })

  t.test('does not stop who asks for a run, also together with the schedule', async t => {
    const { sweeper, storage, time } = setup()
    storage.rows.ipLogs = [NOW]
    time.now += 40 * DAY
    const scheduled = sweeper.run({ trigger: 'schedule' })
    const manual = sweeper.run()
    t.equal(await scheduled, null)
    t.match(await manual, { trigger: 'manual', removed: { ipLogs: 1 } })
  })

  t.test('the schedule goes on', async t => {
    const { sweeper, storage, time, nextRun, lines } = setup({ interval: 5, runOnStart: true })
    time.now += 40 * DAY
    sweeper.start()
    await nextRun()
    t.match(lines, [['warn', /The clock jumped/, {}]])
    t.match(storage.history, [{ trigger: 'schedule', startedAt: NOW + 40 * DAY }])
    await sweeper.stop()
  })
})

t.test('stop', async t => {
  t.test('waits for the step under way, and ends the run there', async t => {
    const { sweeper, storage, lines } = setup()
    storage.rows.ipLogs = Array.from({ length: 10 }, (_, i) => i)
    const reached = gate()
    const step = gate()
    const sweep = storage.sweep
    storage.sweep = async params => {
      if (params.target === 'ipLogs') {
        reached.open()
        await step.promise
      }
      return sweep.call(storage, params)
    }
    const run = sweeper.run()
    await reached.promise
    let stopped = false
    const stopping = Promise.all([sweeper.stop(), sweeper.stop()]).then(() => { stopped = true })
    await turn()
    t.notOk(stopped)
    step.open()
    await stopping
    t.match(await run, { complete: false, error: null, removed: { ipLogs: 2 } }, 'a stop is no failure')
    t.match(lines, [['info', String, {}]])
    t.equal(storage.history.length, 1)
    await sweeper.stop()
  })

  t.test('does not wait for queues that do not empty', async t => {
    const { sweeper, storage } = setup({ flush: () => new Promise(() => {}) })
    const run = sweeper.run()
    await turn()
    await sweeper.stop()
    t.match(await run, { complete: false, error: null })
    t.strictSame(storage.log, [])
  })

  t.test('nor for the lease', async t => {
    const { sweeper, storage } = setup({ leaseWait: 60_000 })
    await storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + HOUR, lastRunBefore: 0 })
    const run = sweeper.run()
    await turn()
    await Promise.all([sweeper.stop(), t.rejects(run, { code: 'DOORMAN_STORAGE_CLOSED' })])
  })

  t.test('nothing runs afterwards', async t => {
    const { sweeper, storage } = setup({ interval: 1, runOnStart: true })
    sweeper.start()
    await sweeper.stop()
    await t.rejects(sweeper.run(), { code: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(sweeper.run({ dryRun: true }), { code: 'DOORMAN_STORAGE_CLOSED' })
    await turn()
    t.equal(storage.history.length, 0)
  })

  t.test('a scheduled run under way is not followed by another', async t => {
    const { promise, open } = gate()
    const { sweeper, storage } = setup({ interval: 1, runOnStart: true, flush: () => { started.open(); return promise } })
    const started = gate()
    sweeper.start()
    await started.promise
    const stopping = sweeper.stop()
    open()
    await stopping
    await turn()
    t.equal(storage.history.length, 1)
  })

  t.test('of a step that does not end: waits for a while, and what ends later is nobody\'s trouble', async t => {
    const { sweeper, storage, lines } = setup({ stopWait: 5 })
    const stuck = stick(storage, 'sweep')
    const run = sweeper.run()
    await stuck.reached
    await sweeper.stop()
    for (const name of ['releaseLease', 'addCleanupRun'] as const) storage[name] = closed
    stuck.end(doormanError('DOORMAN_STORAGE_CLOSED'))
    t.match(await run, { complete: false, error: 'DOORMAN_STORAGE_CLOSED' })
    await turn()
    t.strictSame(lines, [])
    t.equal(stuck.calls(), 1, 'no further step')
  })

  t.test('clears its timer', async t => {
    const { sweeper, storage } = setup()
    const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
    const stuck = stick(storage, 'sweep')
    const before = timers()
    const run = sweeper.run()
    await stuck.reached
    const stopping = sweeper.stop()
    t.equal(timers(), before + 1)
    stuck.end()
    await Promise.all([stopping, run])
    t.equal(timers(), before)
  })

  t.test('what fails for another reason is still told', async t => {
    const { sweeper, storage, lines } = setup({ stopWait: 5 })
    const stuck = stick(storage, 'sweep')
    const run = sweeper.run()
    await stuck.reached
    await sweeper.stop()
    stuck.end(doormanError('DOORMAN_STORAGE_FULL'))
    await run
    t.match(lines, [['warn', /failed/, { err: { code: 'DOORMAN_STORAGE_FULL' } }]])
  })

  t.test('does not wait for the lease to be given back, nor for the history', async t => {
    const { sweeper, storage } = setup()
    const step = stick(storage, 'sweep')
    const release = stick(storage, 'releaseLease')
    const history = stick(storage, 'addCleanupRun')
    const run = sweeper.run()
    await step.reached
    const stopping = sweeper.stop()
    step.end()
    await stopping
    await run
    await Promise.all([release.reached, history.reached])
    t.pass('both are asked for: an orderly close of the storage carries them out')
    release.end(doormanError('DOORMAN_STORAGE_CLOSED'))
    history.end()
  })

  t.test('begins nothing once the lease, or its renewal, comes too late', async t => {
    const acquiring = setup({ stopWait: 5 })
    const lease = stick(acquiring.storage, 'acquireLease')
    const run = acquiring.sweeper.run()
    await lease.reached
    await acquiring.sweeper.stop()
    lease.end()
    t.match(await run, { complete: false, error: null })
    t.strictSame(acquiring.storage.log, [])
    t.ok(await acquiring.storage.acquireLease({ name: 'cleanup', holder: 'other', now: NOW, until: NOW + 1, lastRunBefore: 0 }), 'it was given back')

    const renewing = setup({ stopWait: 5, flush: async () => { renewing.time.now += 10_000; renewal = stick(renewing.storage, 'acquireLease'); flushed.open() } })
    const flushed = gate()
    let renewal!: ReturnType<typeof stick>
    const second = renewing.sweeper.run()
    await flushed.promise
    await renewal.reached
    await renewing.sweeper.stop()
    renewal.end()
    t.match(await second, { complete: false, error: null })
    t.strictSame(renewing.storage.log, [])
  })

  t.test('does not wait for a dry run, which counts no more', async t => {
    const { sweeper, storage, lines } = setup()
    const counting = stick(storage, 'countSweepable')
    const dry = sweeper.run({ dryRun: true })
    const next = sweeper.run()
    await counting.reached
    await sweeper.stop()
    counting.end(doormanError('DOORMAN_STORAGE_CLOSED'))
    t.match(await dry, { dryRun: true, complete: false, error: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(next, { code: 'DOORMAN_STORAGE_CLOSED' })
    t.strictSame(lines, [])

    const waiting = setup({ flush: () => new Promise(() => {}) })
    waiting.storage.countSweepable = async () => { throw new Error('not once stopped') }
    const early = waiting.sweeper.run({ dryRun: true })
    await waiting.sweeper.stop()
    t.match(await early, { complete: false, error: null })
  })
})
