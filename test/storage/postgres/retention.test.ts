/** Retention on PostgreSQL: whole days go, rows of a day in steps. */
import t from 'tap'
import { SWEEP_TARGETS, type PageKey, type StoredIpLog } from '../../../storage/storage.js'
import { until } from '../../helper.js'
import { activityRow, append, create, cutoffs, DAY, hashOf, HOUR, ipRow, NOW } from '../contract.js'
import { connectOther, fillDays, openLog, partitionOf, partitionsOf } from './log-helper.js'

const today = Math.floor(NOW / DAY) * DAY

t.test('forty days of rows: the days that are over go whole, and of those kept not one row is touched', async t => {
  const database = await openLog(t)
  const { storage, ask } = database
  await fillDays(database, { now: NOW, days: 40, perDay: 500 })
  t.same(await ask('SELECT count(*) AS rows FROM ip_logs'), [{ rows: 20_000 }])
  const before = today - 30 * DAY
  const kept = () => ask('SELECT count(*) AS rows, md5(string_agg(concat(tableoid, ctid, xmin, xmax, at, id, path), \',\' ORDER BY at, id)) AS sum FROM ip_logs WHERE at >= $1', [before])
  const [untouched] = await kept()
  t.equal((await storage.countSweepable(cutoffs({ ipLogs: before }), NOW)).ipLogs, 5000)
  let removed = 0
  for (let count = 250; count >= 250; removed += count) count = await storage.sweep({ target: 'ipLogs', before, limit: 250, now: NOW })
  t.equal(removed, 5000)
  t.same(await kept(), [untouched])
  t.equal(untouched!['rows'], 15_000)
  t.same((await partitionsOf(database)).filter(name => name < partitionOf(before)), [])
})

for (const partitioned of [true, false]) {
  t.test(`old rows of a day that is not over are deleted, in steps, ${partitioned ? 'after the partitions' : 'and all others where there are no partitions'}`, async t => {
    const { storage, ask } = await openLog(t, { partitioned })
    const cutoff = NOW - 30 * DAY
    const ages = [0, 1, 2 * HOUR, 5 * HOUR, 20 * HOUR, 30 * HOUR, 3 * DAY, 3 * DAY + 1]
    await append(storage, [...ages, -1, -HOUR, -DAY].flatMap(age => [ipRow({ at: cutoff - age }), activityRow({ at: cutoff - age })]))
    for (const [target, table] of [['ipLogs', 'ip_logs'], ['activity', 'user_activity']] as const) {
      const counts: number[] = []
      do counts.push(await storage.sweep({ target, before: cutoff, limit: 2, now: NOW })); while (counts.at(-1)! >= 2)
      t.same(counts, partitioned ? [4, 2, 1] : [2, 2, 2, 1])
      t.same(await ask(`SELECT at FROM ${table} ORDER BY at`), [{ at: cutoff }, { at: cutoff + 1 }, { at: cutoff + HOUR }, { at: cutoff + DAY }])
    }
  })
}

t.test('a session that is used while it is about to be swept stays', async t => {
  const { storage, other, ask } = await openLog(t)
  const { record } = await create(storage, { lastActiveAt: NOW - 2 * DAY })
  const { record: idle } = await create(storage, { lastActiveAt: NOW - 2 * DAY })
  await ask(`BEGIN; UPDATE sessions SET last_active_at = ${NOW} WHERE id = '${record.id}'`)
  const swept = storage.sweep({ target: 'sessionsIdle', before: NOW - DAY, limit: 10, now: NOW })
  await until(async () => (await ask('SELECT FROM pg_locks WHERE NOT granted')).length > 0, 'the sweep to wait')
  await other.query('COMMIT')
  t.equal(await swept, 1)
  t.match(await storage.findSession(hashOf(record.id), NOW), { state: 'live' })
  t.match(await storage.findSession(hashOf(idle.id), NOW), { state: 'ended', reason: 'idle' })
})

t.test('other processes are told of sessions that were swept or erased, and of nothing else', async t => {
  const { storage } = await openLog(t)
  const changed = async (action: () => Promise<unknown>) => {
    const before = await storage.changeCounter('sessions')
    await action()
    return await storage.changeCounter('sessions') > before
  }
  const sweep = (target: typeof SWEEP_TARGETS[number]) => () => storage.sweep({ target, before: NOW, limit: 10, now: NOW })
  await create(storage, { lastActiveAt: NOW - 1, userId: 'a' })
  await create(storage, { expiresAt: NOW, userId: 'b' })
  await create(storage, { userId: 'c' })
  for (const expected of [true, false]) {
    for (const target of SWEEP_TARGETS) t.equal(await changed(sweep(target)), expected && ['sessionsIdle', 'sessionsExpired'].includes(target), target)
    t.equal(await changed(() => storage.eraseUser('c')), expected)
  }
})

t.test('nothing is given back to the file system: the server sees to its own files', async t => {
  const { storage } = await openLog(t)
  t.same(await storage.maintain({ pages: 10, optimize: true }), { freedPages: 0, remainingPages: 0 })
})

t.test('pages go on exactly where they ended, across days and within one millisecond', async t => {
  const { storage } = await openLog(t)
  const times = Array.from({ length: 60 }, (_, i) => today - (i % 5) * DAY + (i % 3 === 0 ? 0 : i))
  await append(storage, times.flatMap((at, i) => [ipRow({ at, requestId: `${i}` }), activityRow({ at, action: `${i}` })]))
  const all = (await storage.listIpLogs({}, { limit: 100 })).items
  t.same(all.map(item => item.at), [...times].sort((a, b) => b - a))
  for (const limit of [1, 7, 59, 60]) {
    const items: StoredIpLog[] = []
    for (let after: PageKey | null | undefined; after !== null;) {
      const page = await storage.listIpLogs({}, { limit, ...(after === undefined ? {} : { after }) })
      items.push(...page.items)
      after = page.next
      t.ok(page.items.length <= limit)
    }
    t.same(items, all, `${limit} a page`)
  }
  const page = await storage.listActivity({ from: today - DAY }, { limit: 10 })
  const rest = await storage.listActivity({ from: today - DAY }, { limit: 100, after: page.next! })
  t.equal(new Set([...page.items, ...rest.items].map(item => item.action)).size, 24)
  t.equal((await storage.listIpLogs({}, { limit: 100, after: [today - 4 * DAY] })).items.every(item => item.at < today - 4 * DAY), true, 'a position without a number of the row')
  t.same(await storage.listIpLogs({ userId: 'a\0' }, { limit: 1 }), { items: [], next: null }, 'a text that no row can have')
})

t.test('a user with many rows is erased completely, and nobody else', async t => {
  const { storage, ask } = await openLog(t)
  for (let seq = 0; seq < 5; seq++) {
    await append(storage, Array.from({ length: 500 }, (_, i) => [ipRow({ at: NOW - i * HOUR, userId: i % 5 === 0 ? 'bob' : 'ada' }), activityRow({ at: NOW - i * HOUR, userId: i % 5 === 0 ? 'bob' : 'ada' })]).flat())
  }
  const held = await storage.exportUser('ada', 2000)
  t.same([held.ipLogs.length, held.activity.length, held.truncated], [2000, 2000, false])
  t.equal((await storage.exportUser('ada', 1999)).truncated, true)
  t.same(await storage.eraseUser('ada'), { sessions: 0, endedSessions: 0, devices: 0, activity: 2000, ipLogs: 2000, deadLetters: 0 })
  t.same(await ask('SELECT user_id, count(*) AS rows FROM ip_logs GROUP BY 1 UNION ALL SELECT user_id, count(*) FROM user_activity GROUP BY 1'), [{ user_id: 'bob', rows: 500 }, { user_id: 'bob', rows: 500 }])
})

t.test('a lock on the log holds up neither lists nor the retention of sessions', async t => {
  const { storage, url } = await openLog(t)
  await append(storage, [ipRow({ at: NOW - 40 * DAY })])
  await create(storage, { lastActiveAt: NOW - 2 * DAY })
  const locker = await connectOther(t, url)
  await locker.query('BEGIN; LOCK TABLE ip_logs, user_activity IN EXCLUSIVE MODE')
  t.equal(await storage.sweep({ target: 'sessionsIdle', before: NOW - DAY, limit: 10, now: NOW }), 1)
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 1)
  await locker.query('COMMIT')
})
