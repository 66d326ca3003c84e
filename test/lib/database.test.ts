/** The shared database: queue, health, statistics, and a close that stores what waits or says what it could not. */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { createDatabase, type CreateDatabaseOptions, type Database as SharedDatabase } from '../../lib/database.js'
import { createRowQueue } from '../../lib/row-queue.js'
import type { CleanupRun } from '../../storage/storage.js'
import { openSqliteStorage, recordingLogger, tempFile, until } from '../helper.js'
import { activityRow, ipRow } from '../storage/contract.js'

async function setUp (t: Test, options: Partial<CreateDatabaseOptions> = {}) {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file, { busyTimeout: 50 })
  const log = recordingLogger()
  let now = 1_000_000
  const database = createDatabase({ storage, log, source: 'test', queueLimit: 10, linger: 1, queueWait: 10, closeTimeout: 5000, clock: () => now, random: Math.random, ...options })
  const holder = new Database(file.replace(/\.db$/, '-log.db'), { timeout: 0 })
  t.teardown(() => holder.close())
  // Timers of the queue are unref'd; a test has nothing else that keeps the process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  return { database, storage, log, holder, pass: (ms: number) => { now += ms } }
}

t.test('rows pass the queue into the file', async t => {
  const { database } = await setUp(t)
  t.equal(database.log.offer(ipRow()), true)
  t.equal(database.log.offer(activityRow()), true)
  await database.flush()
  const stats = await database.stats()
  t.match(stats, { health: { status: 'ok' }, queues: { log: { committed: 2, healthy: true } }, storage: { engine: 'sqlite', files: { log: { rows: 2 } } } })
  await database.close()
})

function degradedBy (database: SharedDatabase, reason: RegExp): boolean {
  const health = database.health()
  return health.status === 'degraded' && health.reasons.some(text => reason.test(text))
}

t.test('a lock past the deadline: degraded and said once, nothing lost, then healthy again', async t => {
  const { database, log, holder, storage } = await setUp(t)
  holder.exec('BEGIN IMMEDIATE')
  database.log.offer(ipRow())
  await until(() => degradedBy(database, /queue "log" cannot be stored/))
  t.ok(degradedBy(database, /somebody else holds the write lock of the log file/))
  t.match(log.lines, [{ level: 'warn', fields: { err: { code: 'DOORMAN_STORAGE_BUSY' } }, message: /they stay queued/ }])
  database.log.offer(ipRow({ requestId: 'second' }))
  holder.exec('COMMIT')
  await database.flush()
  t.same(database.health(), { status: 'ok' })
  t.match(log.lines.at(-1), { level: 'info', message: /stored again/ })
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 2)
  await database.close()
})

t.test('dropped rows are counted and reported once a minute', async t => {
  const { database, log, holder, pass } = await setUp(t, { queueLimit: 2, closeTimeout: 1 })
  holder.exec('BEGIN IMMEDIATE')
  t.same([1, 2].map(() => database.log.offer(ipRow())), [true, true])
  t.ok(degradedBy(database, /"log" is full; rows dropped for that since the start: 0$/))
  t.same([3, 4].map(() => database.log.offer(ipRow())), [false, false])
  const reports = () => log.lines.filter(line => line.message === 'log rows were dropped').map(line => line.fields['dropped'])
  t.same(reports(), [{ 'queue-full': 1 }], 'the first at once')
  t.ok(degradedBy(database, /"log" is full; rows dropped for that since the start: 2$/))
  pass(60_000)
  database.log.offer(ipRow())
  t.same(reports().at(-1), { 'queue-full': 2 }, 'the others together, a minute later')
  pass(-3_600_000)
  database.log.offer(ipRow())
  t.equal(reports().length, 3, 'a clock set back does not silence it')
  await t.rejects(database.close(), { code: 'DOORMAN_CLOSE_INCOMPLETE' })
  t.match(reports().at(-1), { 'close-deadline': 2 })
})

t.test('a close past its deadline says how many were not stored', async t => {
  const { database, holder } = await setUp(t, { closeTimeout: 60 })
  holder.exec('BEGIN IMMEDIATE')
  for (let i = 0; i < 3; i++) database.log.offer(ipRow())
  const closing = database.close()
  t.equal(database.close(), closing, 'idempotent')
  await t.rejects(closing, { code: 'DOORMAN_CLOSE_INCOMPLETE', message: /60 ms: 3 operations/ })
})

t.test('other queues take part', async t => {
  const { database } = await setUp(t)
  const stored: number[] = []
  const queue = createRowQueue<number>({ name: 'own', limit: 5, batchSize: 5, linger: 1000, wait: 0, clock: database.clock, random: database.random, commit: async rows => { stored.push(...rows) } })
  database.registerQueue('own', queue)
  queue.offer(1)
  await database.flush()
  t.same(stored, [1])
  t.match((await database.stats()).queues['own'], { committed: 1 })
  queue.offer(2)
  await database.close()
  t.same(stored, [1, 2])
})

t.test('the engine\'s condition is part of the health', async t => {
  const { database, storage } = await setUp(t)
  storage.health = () => ({ status: 'degraded', reasons: ['the writer thread has failed'] })
  t.same(database.health(), { status: 'degraded', reasons: ['the writer thread has failed'] })
  await database.close()
})

t.test('the host\'s statements', async t => {
  const { database } = await setUp(t)
  await database.batch([{ sql: 'CREATE TABLE mine (x)' }, { sql: 'INSERT INTO mine VALUES (?)', params: [5] }])
  t.match(await database.get('SELECT x FROM mine'), { x: 5 })
  t.match(await database.get('SELECT x FROM mine WHERE x = ?', [5]), { x: 5 })
  t.same((await database.all('SELECT x FROM mine WHERE x = :x', { x: 6 })), [])
  await database.close()
})

t.test('a flush may be bounded; what is queued stays queued', async t => {
  const { database, holder, storage } = await setUp(t)
  await database.flush(1000)
  holder.exec('BEGIN IMMEDIATE')
  database.log.offer(ipRow())
  await t.rejects(database.flush(20), { code: 'DOORMAN_STORAGE_BUSY', message: /20 ms/ })
  holder.exec('COMMIT')
  await database.flush(20_000)
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 1)
  await database.close()
})

t.test('the statistics show the event loop until the close, and the latest cleanup of all that are registered', async t => {
  const { database } = await setUp(t)
  t.equal((await database.stats()).lastCleanup, null)
  const runs: (CleanupRun | null)[] = [null, null, null]
  for (const i of runs.keys()) database.registerCleanup(() => runs[i]!)
  t.equal(database.lastCleanup, null)
  const run = (startedAt: number) => ({ startedAt }) as CleanupRun
  runs[1] = run(5)
  t.equal(database.lastCleanup, runs[1])
  runs[0] = run(7)
  runs[2] = run(6)
  t.equal((await database.stats()).lastCleanup, runs[0])
  await until(async () => (await database.stats()).eventLoopDelay.samples > 1)
  const { p50, max } = (await database.stats()).eventLoopDelay
  t.ok(p50 > 0 && max >= p50)
  await database.close()
  const { count } = database.eventLoopDelay
  await new Promise(resolve => setTimeout(resolve, 100))
  t.equal(database.eventLoopDelay.count, count, 'not measured any more')
})

t.test('queues of the same name are all kept', async t => {
  const { database } = await setUp(t)
  const make = (stored: number[]) => createRowQueue<number>({ name: 'own', limit: 5, batchSize: 5, linger: 1000, wait: 0, clock: database.clock, random: database.random, commit: async rows => { stored.push(...rows) } })
  const stored: number[][] = [[], [], []]
  for (const rows of stored) {
    const queue = make(rows)
    database.registerQueue('own', queue)
    queue.offer(1)
  }
  t.same(Object.keys((await database.stats()).queues), ['log', 'own', 'own-2', 'own-3'])
  await database.close()
  t.same(stored, [[1], [1], [1]])
})
