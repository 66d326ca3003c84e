/** The tables by which log rows are found: whatever is stored, removed or erased between the indexer's steps, lists see exactly the rows there are. */
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { Connection } from '../../../storage/sqlite/connection.js'
import type { WriteOperation } from '../../../storage/sqlite/lanes.js'
import { indexState } from '../../../storage/sqlite/log-index.js'
import { eraseLog, eraseRequests, requestsOf, type LogErasure } from '../../../storage/sqlite/log-erasure.js'
import { LogIndexer, type IndexerOutcome, type IndexTuning } from '../../../storage/sqlite/log-indexer.js'
import { packRows } from '../../../storage/sqlite/log-wire.js'
import { LogAppender } from '../../../storage/sqlite/log-writes.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { listIpLogs, seriesIpLogs, topIpLogs } from '../../../storage/sqlite/queries.js'
import { sweep } from '../../../storage/sqlite/retention-writes.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import type { IpLogFilter, IpLogRow, StoredIpLog } from '../../../storage/storage.js'
import { textHash } from '../../../storage/sqlite/text-dictionary.js'
import { tempFile, until } from '../../helper.js'
import { ipRow } from '../contract.js'

const HOUR = 3_600_000
const START = 500_000 * HOUR

/** One process: an appender and an indexer on a file, whose steps are done when the test says so. */
class Process {
  readonly indexer: LogIndexer
  readonly appender: LogAppender
  pending: WriteOperation | undefined
  now = START
  #seq = 0

  constructor (readonly connection: Connection, readonly name: string, tuning: Partial<IndexTuning>) {
    this.appender = new LogAppender(connection)
    this.indexer = new LogIndexer({
      submit: step => { this.pending = step },
      now: () => this.now,
      random: () => 0.5,
      tuning: { due: 1, every: 60_000, window: 7, read: 3, write: 2, lag: 0, pause: 0, ...tuning }
    })
  }

  append (rows: IpLogRow[]): void {
    this.#transact(() => this.appender.append({ source: this.name, seq: ++this.#seq, at: this.now, rows: packRows(rows) }))
    this.indexer.committed(this.appender.stored)
  }

  /** Does the step that waits, if any. */
  step (fails = false): void {
    const step = this.pending
    if (step === undefined) return
    this.pending = undefined
    const run = () => step.run(this.connection, null as never) as IndexerOutcome
    this.indexer.settled(fails ? undefined : step.bare === true ? run() : this.#transact(run))
  }

  /** Until there is nothing left to do. */
  finish (): void {
    for (let i = 0; this.pending !== undefined; i++) {
      if (i > 10_000) throw new Error('it never ends')
      this.step()
    }
  }

  #transact<T> (action: () => T): T {
    this.connection.run('BEGIN IMMEDIATE')
    const result = action()
    this.connection.run('COMMIT')
    return result
  }
}

async function openLog (t: Pick<Test, 'teardown'>): Promise<Connection> {
  const connection = await openFile({ path: tempFile(), file: 'log', migrations: logMigrations, busyTimeout: 100 })
  t.teardown(() => connection.close())
  return connection
}

async function setUp (t: Test, tuning: Partial<IndexTuning> = {}, processes = 1) {
  const connection = await openLog(t)
  const list = Array.from({ length: processes }, (_, i) => new Process(connection, `process-${i}`, tuning))
  t.teardown(() => { for (const { indexer } of list) indexer.stop() })
  return { connection, first: list[0]!, second: list[1]! }
}

const row = (at: number, user: number, ip = '192.0.2.1'): IpLogRow => ipRow({ at, userId: `user-${user}`, sessionId: `session-${user}-${at % 2}`, ip })
const users = (rows: readonly StoredIpLog[]) => rows.map(({ userId, at }) => `${userId} ${at - START}`)
const entries = (connection: Connection, name = 'user') => connection.get<{ n: number }>(`SELECT count(*) AS n FROM ip_log_by_${name}`)!.n
const listed = (connection: Connection, filter: IpLogFilter, limit = 500) => listIpLogs(connection, { filter, page: { limit } }).items

t.test('rows are found before, while and after they are indexed', async t => {
  const { connection, first } = await setUp(t)
  first.append([row(START + 1, 1), row(START + 2, 2), row(START + 3, 1)])
  const expected = ['user-1 3', 'user-1 1']
  let steps = 0
  while (first.pending !== undefined) {
    t.strictSame(users(listed(connection, { userId: 'user-1' })), expected)
    first.now = START + 10
    first.step()
    steps++
  }
  t.ok(steps > 5, `${steps} steps`)
  t.strictSame(users(listed(connection, { userId: 'user-1' })), expected)
  t.equal(indexState(connection).until, (START + 3) * 1024)
  t.equal(entries(connection), 3)
})

t.test('between steps there is a pause', async t => {
  const { connection, first } = await setUp(t, { due: 1000, every: 1, pause: 1 })
  first.now = START + 100
  first.append([row(START + 1, 1), row(START + 2, 2)])
  await until(() => first.pending !== undefined, 'the look')
  while (entries(connection, 'session') < 2) {
    first.step()
    t.equal(first.pending, undefined, 'not at once')
    await until(() => first.pending !== undefined, 'the next step')
  }
})

t.test('unless the next window is due already, and none holds up the end', async t => {
  const { first } = await setUp(t, { due: 2, pause: 2 ** 30 })
  first.now = START + 100
  first.append([row(START + 1, 1), row(START + 2, 2)])
  t.ok(first.pending, 'the look')
  first.step()
  t.ok(first.pending, 'the claim: there are rows enough for a window')
  first.step()
  t.equal(first.pending, undefined, 'the window has begun')
  first.indexer.stop()
})

t.test('in pages, over hours and the rows that wait', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 10 * HOUR
  for (let i = 0; i < 20; i++) first.append([row(START + i * HOUR / 4, i % 2)])
  first.finish()
  t.equal(entries(connection), 20)
  first.append([row(START + 9 * HOUR, 1), row(START + 9 * HOUR + 1, 0)])
  const pages: string[][] = []
  for (let after: readonly (string | number)[] | undefined; ;) {
    const page = listIpLogs(connection, { filter: { userId: 'user-1' }, page: { limit: 4, ...after === undefined ? {} : { after } } })
    pages.push(users(page.items))
    if (page.next === null) break
    after = page.next
  }
  t.strictSame(pages.map(page => page.length), [4, 4, 3])
  t.strictSame(pages.flat(), [9, 4.75, 4.25, 3.75, 3.25, 2.75, 2.25, 1.75, 1.25, 0.75, 0.25].map(hours => `user-1 ${hours * HOUR}`))
  t.strictSame(users(listed(connection, { userId: 'user-0', from: START + HOUR, to: START + 2 * HOUR })), [`user-0 ${1.5 * HOUR}`, `user-0 ${HOUR}`])
})

t.test('a row that is stored behind the indexer is found at once, by both ways of storing', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 100
  first.append([row(START + 50, 1)])
  first.finish()
  first.append([row(START + 10, 2, '2001:db8::1'), { ...row(START + 11, 2), idempotencyKey: 'reported' }])
  t.strictSame(users(listed(connection, { userId: 'user-2' })), ['user-2 11', 'user-2 10'])
  t.strictSame(users(listed(connection, { ip: '2001:db8::1' })), ['user-2 10'])
  t.equal(entries(connection), 3, 'with their row')
})

t.test('a row stored behind the indexer while a window is under way is found after it', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 100
  first.append([row(START + 50, 1), row(START + 51, 1), row(START + 52, 1)])
  for (let i = 0; i < 3; i++) first.step()
  first.append([row(START + 20, 1)])
  first.finish()
  t.strictSame(users(listed(connection, { userId: 'user-1' })), ['user-1 52', 'user-1 51', 'user-1 50', 'user-1 20'])
})

t.test('rows of the last moments wait, and so does a few of them', async t => {
  const { connection, first } = await setUp(t, { lag: 1000, due: 3, every: 5 })
  first.now = START + 1500
  first.append([row(START + 100, 1), row(START + 1400, 1)])
  t.equal(first.pending, undefined)
  await until(() => first.pending !== undefined, 'the time for a few')
  first.finish()
  t.equal(indexState(connection).until, (START + 400) * 1024)
  t.equal(entries(connection), 1)
  first.append([row(START + 2900, 1)])
  await until(() => first.pending !== undefined, 'the next time')
  first.now = START + 5000
  first.finish()
  t.equal(entries(connection), 2, 'the newest rows are looked at one by one, however old they are')
})

t.test('of two processes one works; what it leaves the other one does', async t => {
  const { connection, first, second } = await setUp(t, { claim: 1000 }, 2)
  first.now = second.now = START + 100
  first.append([row(START + 1, 1), row(START + 2, 1)])
  second.append([row(START + 3, 1)])
  first.step() // look
  first.step() // claim
  second.step()
  second.step()
  t.equal(second.pending, undefined, 'it leaves it to the first one')
  second.now += 2000
  second.append([row(START + 4, 1)])
  second.finish()
  t.equal(entries(connection), 4)
  first.finish()
  t.strictSame(users(listed(connection, { userId: 'user-1' })), ['user-1 4', 'user-1 3', 'user-1 2', 'user-1 1'])
})

t.test('what another process has done meanwhile is not done again', async t => {
  const { connection, first, second } = await setUp(t, {}, 2)
  first.now = second.now = START + 100
  first.append([row(START + 1, 1)])
  first.step()
  second.append([row(START + 2, 1)])
  second.finish()
  first.step()
  t.equal(first.pending, undefined)
  t.equal(entries(connection), 2)
})

t.test('many entries go in few statements; a stopped one does nothing more', async t => {
  const { connection, first } = await setUp(t, { window: 1000, read: 400, write: 130 })
  first.now = START + 1000
  first.append(Array.from({ length: 240 }, (_, i) => row(START + i, i % 5)))
  first.finish()
  t.equal(entries(connection), 240)
  t.equal(listed(connection, { userId: 'user-4' }).length, 48)
  first.indexer.committed(first.appender.stored)
  t.equal(first.pending, undefined, 'nothing was stored')
  first.append([row(START + 500, 1)])
  first.indexer.stop()
  first.step()
  t.equal(first.pending, undefined)
})

t.test('a log without a row has nothing to find, from the start or since the look', async t => {
  const { connection, first } = await setUp(t, { every: 1 })
  await until(() => first.pending !== undefined, 'the look for what a process before has left')
  first.step()
  t.equal(first.pending, undefined)
  first.now = START + 100
  first.append([row(START + 1, 1)])
  first.step()
  t.ok(first.pending, 'the claim')
  connection.run('DELETE FROM ip_log_rows')
  first.step()
  t.equal(first.pending, undefined)
  t.equal(indexState(connection).until, 0)
})

t.test('a claim of a clock that was set back does not hold', async t => {
  const { connection, first, second } = await setUp(t, { claim: 1000 }, 2)
  first.now = START + HOUR
  second.now = START + 100
  first.append([row(START + 1, 1)])
  first.step()
  first.step()
  second.append([row(START + 2, 1)])
  second.finish()
  t.equal(entries(connection), 2)
})

t.test('a step that fails ends the window; the next one is complete', async t => {
  for (const failing of [1, 2, 3, 4, 5, 6]) {
    const { connection, first } = await setUp(t, { every: 1, claim: 0 })
    first.now = START + 100
    first.append([row(START + 1, 1), row(START + 2, 2), row(START + 3, 3)])
    for (let i = 1; i <= failing; i++) first.step(i === failing)
    await until(() => first.pending !== undefined, 'the next attempt')
    first.finish()
    t.equal(entries(connection), 3, `step ${failing}`)
    t.equal(indexState(connection).until, (START + 3) * 1024)
  }
})

t.test('nothing is left of an erased user, also where the window had read the rows already', async t => {
  const { connection, first } = await setUp(t, { every: 1 })
  first.now = START + 100
  for (let i = 1; i <= 12; i++) first.append([row(START + i, i % 3, `192.0.2.${i % 3}`)])
  for (let i = 0; i < 5; i++) first.step()
  const erased = { activity: 0, ipLogs: 0, deadLetters: 0 }
  for (;;) {
    const step = erase(connection, 'user-1', 2)
    if (step.ipLogs === 0) break
    erased.ipLogs += step.ipLogs
  }
  t.equal(erased.ipLogs, 4)
  first.finish()
  await until(() => first.pending !== undefined, 'the next attempt')
  first.finish()
  t.strictSame(listed(connection, { ip: '192.0.2.1' }), [])
  t.equal(listed(connection, {}).length, 8)
  for (const name of ['ip', 'user', 'session']) t.equal(entries(connection, name), 8, name)
  t.same(connection.all('SELECT text FROM texts WHERE text LIKE \'%-1%\' AND kind > 0 ORDER BY 1'), [{ text: 'session-0-1' }, { text: 'session-2-1' }], 'neither the user nor their sessions')
})

t.test('a user is erased by the tables first, then from the rows that wait', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 100
  for (let i = 1; i <= 6; i++) first.append([row(START + i, i % 2)])
  first.finish()
  first.append([row(START + 50, 1)])
  t.equal(entries(connection), 6)
  const steps = Array.from({ length: 4 }, () => erase(connection, 'user-1', 2).ipLogs)
  t.strictSame(steps, [2, 1, 1, 0])
  t.strictSame(users(listed(connection, {})), ['user-0 6', 'user-0 4', 'user-0 2'])
  t.equal(entries(connection), 3)
})

t.test('an address is erased from the tables, too, where its rows are gone already', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 100
  first.append([row(START + 1, 1, '192.0.2.1'), row(START + 2, 2, '192.0.2.2'), row(START + 3, 3, '192.0.2.1')])
  first.finish()
  t.equal(sweep(connection, { target: 'ipLogs', before: START + 2, limit: 100, now: 0 }), 1)
  t.equal(entries(connection, 'ip'), 3)
  const requester = { address: '192.0.2.1' }
  const ids = requestsOf(connection, { requester, limit: 10 })
  t.strictSame(ids, [(START + 3) * 1024])
  t.equal(eraseRequests(connection, { ...requester, ids }), 1)
  t.equal(eraseRequests(connection, { ...requester, ids: requestsOf(connection, { requester, limit: 10 }) }), 0)
  t.equal(entries(connection, 'ip'), 1, 'that of the other address')
  t.equal(eraseRequests(connection, { ...requester, ids: [(START + 2) * 1024] }), 0, 'nor is a row of another that has the id')
  t.equal(listed(connection, {}).length, 1)
})

t.test('the sweep removes what leads to rows by the hour', async t => {
  const { connection, first } = await setUp(t)
  first.now = START + 10 * HOUR
  for (let i = 0; i < 8; i++) first.append([row(START + i * HOUR / 2, 1)])
  first.finish()
  const before = START + 2.25 * HOUR
  t.equal(sweep(connection, { target: 'ipLogs', before, limit: 100, now: 0 }), 5)
  t.equal(listed(connection, { userId: 'user-1' }).length, 3, 'entries without a row are no rows')
  t.strictSame(topIpLogs(connection, { by: 'ip', filter: { userId: 'user-1' }, limit: 10 }).map(({ count }) => count), [3])
  t.equal(sweep(connection, { target: 'logInternals', before, limit: 5, now: 0 }), 5)
  t.equal(sweep(connection, { target: 'logInternals', before, limit: 50, now: 0 }), 7)
  for (const name of ['ip', 'user', 'session']) t.equal(entries(connection, name), 4, `${name}: two whole hours are gone`)
})

t.test('a file with the indexes of an earlier version is taken over', async t => {
  const path = tempFile()
  const before = await openFile({ path, file: 'log', migrations: logMigrations.slice(0, 1), busyTimeout: 100 })
  before.db.exec(`INSERT INTO texts (kind, hash, last_day, text) VALUES (0, 1, 20000, '/'), (1, ${textHash('user-1')}, 20000, 'user-1')`)
  for (let i = 1; i <= 3; i++) before.run('INSERT INTO ip_log_rows (id, ip, ip_source, method, path_ref, status, duration_us, user_ref, outcome) VALUES (?, 1, 0, \'GET\', 1, 200, 1, 2, 0)', (START + i) * 1024)
  before.close()
  const connection = await openFile({ path, file: 'log', migrations: logMigrations, busyTimeout: 100 })
  t.teardown(() => connection.close())
  t.strictSame(connection.all('SELECT name FROM sqlite_schema WHERE name LIKE \'ip_log_rows_by%\''), [])
  t.equal(listed(connection, { userId: 'user-1' }).length, 3)
  const process = new Process(connection, 'new', { every: 1 })
  t.teardown(() => { process.indexer.stop() })
  process.now = START + HOUR
  await until(() => process.pending !== undefined, 'the look after the start')
  process.finish()
  t.equal(entries(connection), 3)
  t.equal(listed(connection, { userId: 'user-1' }).length, 3)
})

t.test('whatever happens in between, filters find what a look at every row finds', async t => {
  const connection = await openLog(t)
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('append' as const), at: fc.nat(6), user: fc.nat(3), ip: fc.constantFrom('192.0.2.1', '203.0.113.9', '255.1.2.3', '2001:db8::7', null), count: fc.integer({ min: 1, max: 9 }) }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant('step' as const), fails: fc.nat(20).map(n => n === 0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('sweep' as const), at: fc.nat(4) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('erase' as const), user: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('time' as const), at: fc.nat(7) }) }
  )
  let run = 0
  fc.assert(fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
    for (const table of ['ip_log_rows', 'ip_log_by_ip', 'ip_log_by_user', 'ip_log_by_session', 'log_sources']) connection.run(`DELETE FROM ${table}`)
    connection.run('UPDATE log_counters SET value = 0 WHERE name LIKE \'index%\'')
    const process = new Process(connection, `run-${++run}`, { every: 2 ** 30 })
    process.now = START + HOUR
    for (const step of steps) {
      if (step.do === 'append') {
        process.append(Array.from({ length: step.count }, (_, i) => ({ ...row(START + step.at * HOUR / 2 + i, step.user), ip: step.ip, ...i === 3 ? { sessionId: null, userId: null } : {} })))
      } else if (step.do === 'step') process.step(step.fails)
      else if (step.do === 'time') process.now = START + step.at * HOUR / 2
      else if (step.do === 'sweep') {
        for (const target of ['ipLogs', 'logInternals'] as const) sweep(connection, { target, before: START + step.at * HOUR / 2, limit: 1000, now: 0 })
        // Removed texts are noticed by the next append; here they all stay in use.
      } else while (erase(connection, `user-${step.user}`, 3).ipLogs > 0);
      check(connection)
    }
    process.finish()
    check(connection)
    process.indexer.stop()
  }), { numRuns: 60 })
  t.pass(`${run} runs`)
})

/** One step of an erasure, as the engine takes it. */
function erase (connection: Connection, userId: string, limit: number): LogErasure {
  const ids = requestsOf(connection, { requester: { userId }, limit })
  connection.run('BEGIN IMMEDIATE')
  const step = eraseLog(connection, { userId, ids, limit })
  connection.run('COMMIT')
  return step
}

function check (connection: Connection): void {
  const all = listed(connection, {})
  const filters: IpLogFilter[] = [
    ...['192.0.2.1', '255.1.2.3', '2001:db8::7'].map(ip => ({ ip })),
    { userId: 'user-1' }, { userId: 'user-0', from: START + HOUR }, { sessionId: 'session-2-0' }, { sessionId: 'session-1-1', ip: '192.0.2.1', to: START + 2 * HOUR }, { userId: 'user-3', status: 200 }
  ]
  for (const filter of filters) {
    const expected = all.filter(row => (['ip', 'userId', 'sessionId', 'status'] as const).every(name => filter[name] === undefined || row[name] === filter[name]) &&
      row.at >= (filter.from ?? 0) && row.at < (filter.to ?? Infinity))
    const found = listed(connection, filter)
    if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`${JSON.stringify(filter)}: ${users(found).join(', ')} instead of ${users(expected).join(', ')}`)
    const counted = seriesIpLogs(connection, { filter, bucketMs: HOUR * 1000, limit: 100 }).reduce((sum, { count }) => sum + count, 0)
    if (counted !== expected.length) throw new Error(`${JSON.stringify(filter)}: ${counted} counted instead of ${expected.length}`)
  }
}
