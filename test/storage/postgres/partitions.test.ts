/** Partitions of the log by day. */
import t from 'tap'
import { activityRow, append, DAY, ipRow, NOW } from '../contract.js'
import { until } from '../../helper.js'
import { connectOther, openLog, openOn, partitionOf, partitionsOf, type LogDatabase } from './log-helper.js'

const ipLogs = (database: LogDatabase, before: number, limit = 1000) => database.storage.sweep({ target: 'ipLogs', before, limit, now: NOW })
const olderThan = (days: number) => Math.floor(NOW / DAY) * DAY - days * DAY
const rowsOfDays = (days: readonly number[], perDay: number) => days.flatMap(day => Array.from({ length: perDay }, (_, i) => ipRow({ at: olderThan(day) + i })))

t.test('today\'s and the next days\' are made when it opens, later ones by the sweep', async t => {
  const database = await openLog(t)
  const now = Date.now()
  // Midnight may have passed since it was opened.
  for (const day of [1, 2]) t.ok((await partitionsOf(database)).includes(partitionOf(now + day * DAY)))
  t.same(await partitionsOf(database, 'user_activity'), (await partitionsOf(database)).map(name => name.replace('ip_logs', 'user_activity')))
  const before = await partitionsOf(database)
  const later = now + 100 * DAY
  await database.storage.sweep({ target: 'activity', before: 0, limit: 1, now: later })
  t.same((await partitionsOf(database)).slice(before.length), [0, 1, 2, 3].map(day => partitionOf(later + day * DAY)))
})

t.test('processes that need the same day at once share its partition', async t => {
  const database = await openLog(t)
  const others = await Promise.all([1, 2, 3].map(() => openOn(t, database.url)))
  await Promise.all([database, ...others].map(({ storage }) => append(storage, rowsOfDays([20, 21, 22, 23, 24, 25, 26, 27, 28, 29], 3))))
  t.equal((await database.storage.listIpLogs({}, { limit: 1000 })).items.length, 120)
  t.equal((await partitionsOf(database)).filter(name => name < partitionOf(olderThan(19))).length, 10)
})

t.test('where all partitions are there, a lock on the log keeps nobody from opening', async t => {
  const database = await openLog(t)
  const locker = await connectOther(t, database.url)
  await locker.query('BEGIN; LOCK TABLE ip_logs, user_activity IN EXCLUSIVE MODE')
  const { storage } = await openOn(t, database.url, {}, 1000)
  t.same((await storage.listIpLogs({}, { limit: 1 })).items, [])
  await locker.query('COMMIT')
})

t.test('a detached partition of the same name is left alone', async t => {
  const database = await openLog(t)
  const { storage, ask } = database
  const name = partitionOf(olderThan(50))
  await append(storage, rowsOfDays([50], 2))
  await ask(`ALTER TABLE ip_logs DETACH PARTITION ${name}`)
  await append(storage, rowsOfDays([50], 3))
  t.ok((await partitionsOf(database)).includes(`${name}_2`))
  t.same(await ask(`SELECT (SELECT count(*) FROM ${name}) AS kept, (SELECT count(*) FROM ip_logs) AS rows`), [{ kept: 2, rows: 3 }])
  t.equal(await ipLogs(database, olderThan(49)), 3)
  t.same(await ask(`SELECT count(*) AS kept FROM ${name}`), [{ kept: 2 }])
})

t.test('partitions of somebody else\'s making are used; where they cover a part of a day only, the rest is set aside', async t => {
  const { storage, ask } = await openLog(t)
  const [from, to] = [olderThan(1000), olderThan(900)]
  await ask(`CREATE TABLE "Old ones" PARTITION OF ip_logs FOR VALUES FROM (${from}) TO (${to - 1000})`)
  await append(storage, [ipRow({ at: to - 1001 })])
  t.same(await append(storage, [ipRow({ at: to - 1000 })], 'refused'), { deadLetters: 1, duplicates: 0 })
  t.same(await ask('SELECT count(*) AS rows FROM "Old ones"'), [{ rows: 1 }])
  await ask('CREATE TABLE others PARTITION OF ip_logs DEFAULT')
  await append(storage, [ipRow({ at: to - 1000 })])
  t.equal(await storage.sweep({ target: 'ipLogs', before: to, limit: 10, now: NOW }), 2, 'dropped with its rows, and the row in the default partition deleted')
  t.same(await ask('SELECT to_regclass(\'"Old ones"\') IS NULL AS dropped, to_regclass(\'others\') IS NULL AS "defaultDropped"'), [{ dropped: true, defaultDropped: false }])
})

t.test('old days are dropped, counted exactly, oldest first; what is kept is not touched', async t => {
  const database = await openLog(t)
  const { storage, ask } = database
  const days = Array.from({ length: 30 }, (_, i) => i + 1)
  await append(storage, rowsOfDays(days, 10))
  await append(storage, days.map(day => activityRow({ at: olderThan(day) })))
  const kept = () => ask(`SELECT at, id, ctid::text, xmin::text, tableoid::text FROM ip_logs WHERE at >= ${olderThan(12)} ORDER BY at, id`)
  const files = () => ask('SELECT c.relname, pg_relation_filenode(c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = \'ip_logs\'::regclass AND relname >= $1 ORDER BY 1', [partitionOf(olderThan(12))])
  const before = [await kept(), await files()]
  t.equal(await ipLogs(database, olderThan(12), 45), 80, 'eight at once, whatever the limit')
  t.same((await partitionsOf(database)).filter(name => name < partitionOf(olderThan(22))), [])
  t.equal((await partitionsOf(database)).filter(name => name < partitionOf(olderThan(12))).length, 10)
  t.equal(await ipLogs(database, olderThan(12), 1000), 100)
  t.equal(await ipLogs(database, olderThan(12), 1000), 0)
  t.same((await partitionsOf(database)).filter(name => name < partitionOf(olderThan(12))), [])
  t.same([await kept(), await files()], before)
  t.equal((await partitionsOf(database, 'user_activity')).filter(name => name < partitionOf(olderThan(0), 'user_activity')).length, 30, 'each table has its own retention')
  t.equal(await storage.sweep({ target: 'activity', before: olderThan(29), limit: 1, now: NOW }), 1)
})

t.test('rows that come late for a day that was dropped are stored, and go with the next sweep', async t => {
  const database = await openLog(t)
  await append(database.storage, rowsOfDays([40], 5))
  t.equal(await ipLogs(database, olderThan(30)), 5)
  await append(database.storage, rowsOfDays([40], 2))
  t.equal(await ipLogs(database, olderThan(30)), 2)
})

t.test('processes that sweep at once count each row once', async t => {
  const database = await openLog(t)
  const others = await Promise.all([1, 2, 3].map(() => openOn(t, database.url)))
  await append(database.storage, rowsOfDays(Array.from({ length: 30 }, (_, i) => 31 + i), 15))
  const removed = await Promise.all([database, ...others].map(({ storage }) => storage.sweep({ target: 'ipLogs', before: olderThan(30), limit: 1000, now: NOW })))
  t.equal(removed.reduce((sum, n) => sum + n, 0), 450)
  t.same(await database.ask('SELECT FROM ip_logs'), [])
})

t.test('a long reader is not waited for: nobody queues behind the drop, rows are deleted, and the partition goes later', async t => {
  let now = 0
  const database = await openLog(t, { monotonic: () => now, random: () => 0 })
  const { storage, url, lines } = database
  await append(storage, rowsOfDays([31, 32], 10))
  const reader = await connectOther(t, url)
  await reader.query('BEGIN; SELECT count(*) FROM ip_logs')
  t.equal(await ipLogs(database, olderThan(30), 12), 12)
  t.match(lines.filter(line => line.level === 'warn'), [{ fields: { table: 'ip_logs', err: { code: '55P03' } }, message: /cannot be dropped/ }])
  t.equal(await ipLogs(database, olderThan(30), 12), 8, 'fewer than asked for: none is left')
  t.equal(lines.filter(line => line.level === 'warn').length, 1, 'no further try so soon')
  t.ok((await partitionsOf(database)).includes(partitionOf(olderThan(31))))
  await append(storage, [ipRow({ at: olderThan(31) }), ipRow()])
  await reader.query('COMMIT')
  now += 60_000
  t.equal(await ipLogs(database, olderThan(30)), 1)
  t.notOk((await partitionsOf(database)).includes(partitionOf(olderThan(31))))
})

t.test('a reader that ends in time does no harm', async t => {
  let endReader = () => {}
  const database = await openLog(t, {
    random () {
      endReader()
      return 1
    }
  })
  await append(database.storage, rowsOfDays([31, 32], 10))
  const reader = await connectOther(t, database.url)
  await reader.query('BEGIN; SELECT count(*) FROM ip_logs')
  endReader = () => { reader.query('COMMIT').catch(() => {}) }
  t.equal(await ipLogs(database, olderThan(30)), 20)
  t.same(database.lines.filter(line => line.level === 'warn'), [])
  t.notOk((await partitionsOf(database)).includes(partitionOf(olderThan(31))))
})

t.test('a partition that something depends on keeps its shape and loses its rows', async t => {
  const database = await openLog(t)
  await append(database.storage, rowsOfDays([31, 32], 10))
  await database.ask(`CREATE VIEW theirs AS SELECT * FROM ${partitionOf(olderThan(31))}`)
  t.equal(await ipLogs(database, olderThan(30)), 20)
  t.match(database.lines.filter(line => line.level === 'warn'), [{ fields: { err: { code: '2BP01' } } }])
  t.same(await database.ask('SELECT FROM theirs'), [])
})

t.test('other failures are told', async t => {
  const database = await openLog(t, {}, 200)
  await append(database.storage, rowsOfDays([31], 10))
  await database.ask('CREATE FUNCTION refuse () RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION \'no\'; END $$')
  await database.ask('CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION refuse()')
  await t.rejects(ipLogs(database, olderThan(30)), { code: 'DOORMAN_CONSTRAINT' })
  t.same(await database.ask('SELECT count(*) AS rows FROM ip_logs'), [{ rows: 10 }])
  await database.ask('DROP EVENT TRIGGER refuse')
})

t.test('a list of new rows does not look into old partitions', async t => {
  const { storage, url } = await openLog(t)
  await append(storage, rowsOfDays([0, 1, 40], 10))
  const locker = await connectOther(t, url)
  await locker.query(`BEGIN; LOCK TABLE ${partitionOf(olderThan(40))} IN ACCESS EXCLUSIVE MODE`)
  t.equal((await storage.listIpLogs({ from: olderThan(1) }, { limit: 100 })).items.length, 20)
  t.equal((await storage.topIpLogs('ip', { from: olderThan(1) }, 10))[0]?.count, 20)
  t.equal((await storage.seriesIpLogs({ from: olderThan(1) }, DAY, 10)).length, 2)
  t.same(await append(storage, [ipRow()]), { deadLetters: 0, duplicates: 0 })
  await locker.query('COMMIT; BEGIN; LOCK TABLE ip_logs IN SHARE MODE')
  const waiting = append(storage, [ipRow({ at: olderThan(40) })])
  await until(async () => (await locker.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount! > 0)
  t.equal((await storage.listIpLogs({}, { limit: 100 })).items.length, 31, 'readers wait for no writer')
  await locker.query('COMMIT')
  await waiting
})
