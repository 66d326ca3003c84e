/** What one run removes, in which steps, and when it ends early. */
import t from 'tap'
import { cutoffs, nothingRemoved, sweepAll, type SweepOutcome, type SweepPlace, type SweepWork } from '../../lib/sweep-run.js'
import { isAddressTarget, SWEEP_TARGETS } from '../../storage/storage.js'
import { fakeStorage } from './sweep-fixture.js'

const NOW = 1_000_000
/** Those of a run without a tier for addresses. */
const REMOVING = SWEEP_TARGETS.filter(target => !isAddressTarget(target))
const retention = { sessionIdle: 100, tombstones: 200, ipLogs: 300, activity: 400, deadLetters: 500, history: 600, fullAddresses: null, devices: 700 }

function setup (change: Partial<SweepWork> = {}) {
  const storage = fakeStorage()
  const outcome: SweepOutcome = { removed: nothingRemoved(), freedPages: 0, complete: false }
  const place: SweepPlace = { stoppedAt: null }
  const run = () => sweepAll({ storage, cutoffs: cutoffs(retention, NOW), now: NOW, batchSize: 3, goOn: async () => true, place, random: () => 0, monotonic: () => 0, ...change }, outcome)
  return { storage, outcome, run, place }
}

t.test('every kind of row has its own limit', async t => {
  t.strictSame(cutoffs(retention, NOW), {
    sessionsIdle: NOW - 100,
    sessionsExpired: NOW,
    sessionTombstones: NOW - 200,
    sessionDevices: NOW - 700,
    ipLogs: NOW - 300,
    activity: NOW - 400,
    deadLetters: NOW - 500,
    blocks: NOW,
    cleanupRuns: NOW - 600,
    logInternals: NOW - 300,
    ipLogAddresses: 0,
    activityAddresses: 0,
    sessionAddresses: 0
  })
  t.strictSame(Object.keys(nothingRemoved()), [...SWEEP_TARGETS])
})

t.test('addresses lose their host at their age, and refused rows go then at the latest; without one there is no step for it', async t => {
  const tier = cutoffs({ ...retention, fullAddresses: 250 }, NOW)
  t.match(tier, { ipLogs: NOW - 300, ipLogAddresses: NOW - 250, activityAddresses: NOW - 250, sessionAddresses: NOW - 250, deadLetters: NOW - 250 })
  t.equal(cutoffs({ ...retention, fullAddresses: 550 }, NOW).deadLetters, NOW - 500)
  const { storage, outcome, run } = setup({ cutoffs: tier })
  storage.rows.sessionAddresses = [1, 2, 3, NOW]
  await run()
  t.strictSame(storage.log.slice(-5), ['ipLogAddresses 0', 'activityAddresses 0', 'sessionAddresses 3', 'sessionAddresses 0', 'maintain 0 optimize'])
  t.match(outcome, { removed: { sessionAddresses: 3 }, complete: true })
})

t.test('removes what is older, exactly, in the order of the targets and in batches until one is short', async t => {
  const { storage, outcome, run } = setup()
  storage.rows.ipLogs = [1, 2, 3, 4, NOW - 301, NOW - 300, NOW]
  storage.rows.activity = [5, 6, 7]
  await run()
  t.strictSame(storage.rows.ipLogs, [NOW - 300, NOW])
  t.match(outcome, { removed: { ipLogs: 5, activity: 3, sessionsIdle: 0 }, freedPages: 0, complete: true })
  t.strictSame(storage.log, ['sessionsIdle 0', 'sessionsExpired 0', 'sessionTombstones 0', 'sessionDevices 0', 'ipLogs 3', 'ipLogs 2', 'activity 3', 'activity 0', 'deadLetters 0', 'blocks 0', 'cleanupRuns 0', 'logInternals 0', 'maintain 0 optimize'])
})

t.test('blocks and sessions that end now are over, others are kept while they are not older than the limit', async t => {
  const { storage, run } = setup()
  storage.rows.blocks = [NOW, NOW + 1]
  storage.rows.sessionsExpired = [NOW, NOW + 1]
  storage.rows.deadLetters = [NOW - 501, NOW - 500]
  await run()
  t.match(storage.rows, { blocks: [NOW + 1], sessionsExpired: [NOW + 1], deadLetters: [NOW - 500] })
})

t.test('gives free pages back in steps until few are left, and optimizes once', async t => {
  const { storage, outcome, run } = setup()
  storage.freePages = 450
  await run()
  t.strictSame(storage.log.slice(-2), ['maintain 200 optimize', 'maintain 200'], 'fifty are not worth a step')
  t.match(outcome, { freedPages: 400, complete: true })
})

t.test('batches are small at first, grow while they are quick, and are halved by a slow one, down to a least size', async t => {
  let now = 0
  // 18 µs a row, and from the 5000th row on 1 ms.
  let removed = 0
  const sizes: number[] = []
  const { storage, outcome, run } = setup({ batchSize: 1000, monotonic: () => now })
  storage.sweep = async ({ target, limit }) => {
    if (target !== 'ipLogs') return 0
    sizes.push(limit)
    const count = Math.min(limit, 6000 - removed)
    now += count * (removed < 5000 ? 0.018 : 1)
    removed += count
    return count
  }
  await run()
  t.strictSame(sizes.slice(0, 3), [250, 375, 375], 'neither quick nor slow: as it is')
  t.strictSame(sizes.slice(-3), [25, 25, 25])
  t.equal(Math.max(...sizes.slice(0, 14)), 375)
  t.strictSame(sizes.slice(14, 20), [375, 187, 93, 46, 25, 25])
  t.match(outcome, { removed: { ipLogs: 6000 }, complete: true })
})

t.test('no batch is larger than it may be, however quick, and none smaller than one row, however slow', async t => {
  for (const [ms, batchSize, expected] of [[0, 600, [250, 375, 563, 600, 600]], [99, 30, [30, 25, 25]], [99, 1, [1, 1]]] as const) {
    let now = 0
    const sizes: number[] = []
    const { storage, run } = setup({ batchSize, monotonic: () => now })
    storage.sweep = async ({ target, limit }) => {
      if (target !== 'ipLogs') return 0
      sizes.push(limit)
      now += ms
      return sizes.length < expected.length ? limit : 0
    }
    await run()
    t.strictSame(sizes, expected)
  }
})

t.test('pages are given back in smaller steps where they take long', async t => {
  let now = 0
  const { storage, run } = setup({ monotonic: () => now })
  storage.freePages = 450
  const maintain = storage.maintain
  storage.maintain = async params => {
    now += params.pages / 10
    return maintain.call(storage, params)
  }
  await run()
  t.strictSame(storage.log.slice(-3), ['maintain 200 optimize', 'maintain 100', 'maintain 100'])
})

t.test('ends when nothing more can be freed', async t => {
  const { storage, run } = setup()
  storage.maintain = async () => ({ freedPages: 0, remainingPages: 9999 })
  await run()
  t.pass()
})

t.test('ends after the step under way when told to, and says so', async t => {
  for (const steps of [0, 2, 9, 10]) {
    let left = steps
    const { storage, outcome, run } = setup({ goOn: async () => left-- > 0 })
    storage.freePages = 10_000
    await run()
    t.equal(storage.log.length, steps)
    t.equal(outcome.complete, false)
  }
})

t.test('a failing step ends the run; what was removed before is counted', async t => {
  const { storage, outcome, run } = setup()
  storage.rows.sessionsIdle = [1, 2]
  const sweep = storage.sweep
  storage.sweep = async params => {
    if (params.target === 'ipLogs') throw new Error('locked')
    return sweep.call(storage, params)
  }
  await t.rejects(run(), { message: 'locked' })
  t.match(outcome, { removed: { sessionsIdle: 2 }, complete: false })
})

t.test('so does a lost lease, before the next step', async t => {
  let steps = 0
  const { storage, run } = setup({ async goOn () { if (++steps === 3) throw new Error('lost'); return true } })
  await t.rejects(run(), { message: 'lost' })
  t.equal(storage.log.length, 2)
})

t.test('a run that was cut short is followed by one that starts after the kind of row it stopped at', async t => {
  let left = 6
  const { storage, run, place } = setup({ goOn: async () => left-- > 0 })
  storage.rows.ipLogs = Array.from({ length: 30 }, (_, i) => i)
  storage.rows.activity = [1, 2]
  await run()
  t.strictSame(storage.log.splice(0), ['sessionsIdle 0', 'sessionsExpired 0', 'sessionTombstones 0', 'sessionDevices 0', 'ipLogs 3', 'ipLogs 3'])
  t.equal(place.stoppedAt, 'ipLogs')
  left = 10
  await run()
  t.strictSame(storage.log.splice(0), ['activity 2', 'deadLetters 0', 'blocks 0', 'cleanupRuns 0', 'logInternals 0', 'sessionsIdle 0', 'sessionsExpired 0', 'sessionTombstones 0', 'sessionDevices 0', 'ipLogs 3'])
  left = 100
  await run()
  t.strictSame(storage.log.splice(0, 1), ['activity 0'], 'still')
  t.equal(place.stoppedAt, null)
  await run()
  t.equal(storage.log.filter(step => step.startsWith('maintain')).length, 2)
  t.equal(storage.log.lastIndexOf('sessionsIdle 0'), storage.log.length - REMOVING.length - 1, 'from the first again, after a complete one')
})

t.test('so is one that stopped at the last kind, or failed', async t => {
  let left = REMOVING.length - 1
  const { storage, run, place } = setup({ goOn: async () => left-- > 0 })
  await run()
  t.equal(place.stoppedAt, 'logInternals')
  const sweep = storage.sweep
  storage.sweep = async () => { throw new Error('damaged') }
  left = 1
  await t.rejects(run(), { message: 'damaged' })
  t.equal(place.stoppedAt, 'sessionsIdle')
  storage.sweep = sweep
  storage.log.length = 0
  left = 1
  await run()
  t.strictSame(storage.log, ['sessionsExpired 0'])
})
