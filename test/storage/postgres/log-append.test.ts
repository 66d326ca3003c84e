/** Batches of the log in one statement: every value comes back, and what is in the way is waited for. */
import t from 'tap'
import type { LogRow } from '../../../storage/storage.js'
import { until } from '../../helper.js'
import { activityRow, append, DAY, ipRow, NOW } from '../contract.js'
import { connectOther, openLog, openOn, partitionOf, partitionsOf } from './log-helper.js'

const HOSTILE = [
  '', ' ', '"', '\\', '\\"', '""', '{', '}', '{}', '{"a"}', ',', 'a,b', 'NULL', 'null', '\\N', '\'', '\'; DROP TABLE ip_logs; --', '$1', '/*', '%s', '\u00e9', '\u{1f600}', '\ufeff', '\ufffd', '\u0001', '\n', '\t',
  'x'.repeat(10_000), '\\'.repeat(999), '"'.repeat(999)
]

t.test('texts come back as they went in, whatever they look like', async t => {
  const { storage } = await openLog(t)
  const rows = HOSTILE.map((text, i) => ipRow({ at: NOW + i, path: text, route: text, userAgent: text, referer: text, requestId: text }))
  const trail = HOSTILE.map((text, i) => activityRow({ at: NOW + i, action: text, detail: JSON.stringify({ text }) }))
  t.same(await append(storage, [...rows, ...trail]), { deadLetters: 0, duplicates: 0 })
  const { items } = await storage.listIpLogs({}, { limit: 100 })
  t.same(items.reverse().map(row => [row.path, row.route, row.userAgent, row.referer, row.requestId]), HOSTILE.map(text => [text, text, text, text, text]))
  const activity = await storage.listActivity({}, { limit: 100 })
  t.same(activity.items.reverse().map(row => [row.action, row.detail]), HOSTILE.map(text => [text, JSON.stringify({ text })]))
})

t.test('numbers come back as they went in, up to what a column holds', async t => {
  const { storage } = await openLog(t)
  const numbers = [0, 1, 255, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 1e15 + 7, Number.MAX_SAFE_INTEGER]
  await append(storage, numbers.map((durationUs, i) => ipRow({ at: NOW + i, durationUs, peerPort: Math.min(durationUs, 2 ** 31 - 1) })))
  const { items } = await storage.listIpLogs({}, { limit: 100 })
  t.same(items.reverse().map(row => [row.at, row.durationUs, row.peerPort]), numbers.map((n, i) => [NOW + i, n, Math.min(n, 2 ** 31 - 1)]))
})

t.test('partitions that cannot be made just now: the batch waits for them, as for any lock', async t => {
  const { ask, storage } = await openLog(t, {}, 300)
  await ask('BEGIN; LOCK TABLE ip_logs IN SHARE UPDATE EXCLUSIVE MODE')
  await t.rejects(append(storage, [ipRow({ at: NOW - 400 * DAY })]), { code: 'DOORMAN_STORAGE_BUSY' })
  await ask('ROLLBACK')
  t.same(await append(storage, [ipRow({ at: NOW - 400 * DAY })]), { deadLetters: 0, duplicates: 0 })
})

t.test('a role that may not make partitions: rows of days without one are set aside, the others are stored', async t => {
  const { url, ask, storage } = await openLog(t)
  // Both tables have that day, whatever day it is.
  await append(storage, [ipRow(), activityRow()])
  await storage.close(1000)
  const role = `clerk_${Date.now()}`
  await ask(`CREATE ROLE ${role} LOGIN PASSWORD 'loopback-only'`)
  await ask(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`)
  await ask(`GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${role}`)
  const asRole = new URL(url)
  asRole.username = role
  asRole.password = 'loopback-only'
  const { storage: restricted } = await openOn(t, asRole.href)
  t.teardown(async () => { await ask(`DROP OWNED BY ${role}; DROP ROLE ${role}`) })
  const old = NOW - 400 * DAY
  t.same(await append(restricted, [ipRow(), ipRow({ at: old, path: '/old' }), activityRow(), activityRow({ at: old })], 'restricted'), { deadLetters: 2, duplicates: 0 })
  t.equal((await restricted.listIpLogs({}, { limit: 10 })).items.length, 2)
  t.match(await ask('SELECT kind, reason FROM dead_letters ORDER BY kind'), [{ kind: 'activity', reason: /^23514: no partition/ }, { kind: 'ip', reason: /^23514: no partition/ }])
})

t.test('rows of any day find their place: partitions are made for them', async t => {
  const database = await openLog(t)
  const { storage } = database
  const ages = [-400, -30, 0, 1, 2, 17, 40, 365, 5000, NOW / DAY]
  const rows = ages.map(age => ipRow({ at: Math.floor(NOW - age * DAY) }))
  t.same(await append(storage, [...rows, activityRow({ at: NOW - 3000 * DAY })]), { deadLetters: 0, duplicates: 0 })
  t.equal((await storage.listIpLogs({}, { limit: 100 })).items.length, ages.length)
  t.equal((await storage.listActivity({}, { limit: 100 })).items.length, 1)
  const partitions = await partitionsOf(database)
  for (const { at } of rows) t.ok(partitions.includes(partitionOf(at)), partitionOf(at))
  t.ok((await partitionsOf(database, 'user_activity')).includes(partitionOf(NOW - 3000 * DAY, 'user_activity')))
  t.notOk(partitions.includes(partitionOf(NOW - 3000 * DAY)), 'each table its own')
})

t.test('what no column can hold is set aside, with the reason, and the others are stored', async t => {
  const { storage, ask } = await openLog(t)
  await ask('CREATE FUNCTION refuse () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION \'not on my watch\'; END $$')
  await ask('CREATE TRIGGER refuse BEFORE INSERT ON ip_logs FOR EACH ROW WHEN (NEW.path = \'/refused\') EXECUTE FUNCTION refuse()')
  const random = Array.from({ length: 20_000 }, (_, i) => String.fromCodePoint(0x4e00 + (i * 7919) % 20_000)).join('')
  const bad: [LogRow, RegExp][] = [
    [ipRow({ path: 'a\0b' }), /^22021/],
    [ipRow({ status: 1000 }), /^23514.*status/],
    [ipRow({ status: 3_000_000_000 }), /^INVALID_VALUE: status /],
    [ipRow({ durationUs: -1 }), /^23514/],
    [ipRow({ method: 'x'.repeat(65) }), /^23514/],
    [ipRow({ path: '/refused' }), /^P0001: not on my watch/],
    [ipRow({ sessionId: random }), /^54000/],
    [activityRow({ userId: 'a\0b' }), /^22021/],
    [activityRow({ detail: '['.repeat(100_000) }), /^(54001|22P02)/],
    [activityRow({ detail: '{"a"' }), /^22P02/],
    [ipRow({ at: Date.UTC(10_000, 0) }), /^INVALID_VALUE: at /],
    [ipRow({ at: -1 }), /^INVALID_VALUE: at /],
    [ipRow({ at: 1.5 }), /^INVALID_VALUE: at /],
    [ipRow({ peerPort: 'http' as never }), /^INVALID_VALUE: peerPort /],
    [ipRow({ trustedHops: 256 }), /^INVALID_VALUE: trustedHops must be an integer from 0 to 255/],
    [ipRow({ userAgent: undefined as never }), /^INVALID_VALUE: userAgent /],
    [activityRow({ userId: null as never }), /^INVALID_VALUE: userId /],
    [ipRow({ durationUs: 10n as never }), /^INVALID_VALUE: durationUs /]
  ]
  const good = Array.from({ length: 40 }, (_, i) => [ipRow({ requestId: `good ${i}` }), activityRow({ action: `good ${i}` })]).flat()
  const rows = [...good]
  for (const [i, [row]] of bad.entries()) rows.splice(i * 5, 0, row)
  t.same(await append(storage, rows, 'poisoned'), { deadLetters: bad.length, duplicates: 0 })
  t.equal((await storage.listIpLogs({}, { limit: 100 })).items.length, 40)
  t.equal((await storage.listActivity({}, { limit: 100 })).items.length, 40)
  const letters = await ask<{ at: number, kind: string, user_id: string | null, reason: string, content: string }>('SELECT * FROM dead_letters')
  for (const [row, reason] of bad) {
    const content = JSON.stringify(row, (_key, value: unknown) => typeof value === 'bigint' ? String(value) : value)
    const letter = letters.find(letter => letter.content === content)
    t.match(letter, { at: NOW, kind: row.kind, reason }, String(reason))
  }
  t.equal(letters.find(({ content }) => content.includes('a\\u0000b') && content.includes('activity'))?.user_id, 'ab', 'storable, and found when the user is erased')
  t.same(await append(storage, rows, 'poisoned'), { deadLetters: 0, duplicates: 0 }, 'sent again, nothing is stored twice')
  t.equal((await ask('SELECT FROM dead_letters')).length, bad.length)
  t.equal((await storage.stats()).files.log.deadLetters, bad.length)
  t.same(await append(storage, [ipRow({ at: NOW - 77 * DAY }), ipRow({ status: -1 })]), { deadLetters: 1, duplicates: 0 }, 'also in the company of a day without partition')
})

t.test('keys: each once, among processes, in a batch that is divided as well', async t => {
  const { storage, url } = await openLog(t)
  const { storage: second } = await openOn(t, url)
  const keyed = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => ipRow({ idempotencyKey: `k${from + i}` }))
  const results = await Promise.all([
    append(storage, keyed(0, 300)), append(second, keyed(0, 300).reverse()), append(storage, keyed(150, 450)), append(second, keyed(150, 450).reverse())
  ])
  t.equal(results.reduce((sum, { duplicates }) => sum + duplicates, 0), 1200 - 450)
  t.equal((await storage.listIpLogs({}, { limit: 1000 })).items.length, 450)
  const rows = [...keyed(440, 460), ...keyed(455, 457), ipRow({ status: 1000, idempotencyKey: 'bad' }), ipRow(), ipRow({ path: 1 as never, idempotencyKey: 'worse' })]
  t.same(await append(storage, rows), { deadLetters: 2, duplicates: 12 })
  t.equal((await storage.listIpLogs({}, { limit: 1000 })).items.length, 461)
  t.same(await append(storage, [ipRow({ idempotencyKey: 'bad' })]), { deadLetters: 0, duplicates: 0 }, 'a row that was refused does not use up its key')
})

t.test('a batch whose connection is cut while it is stored is there once', async t => {
  const { storage, url, other, ask } = await openLog(t)
  const locker = await connectOther(t, url)
  await append(storage, [ipRow()])
  await locker.query('BEGIN; LOCK TABLE ip_logs IN SHARE MODE')
  const stored = append(storage, Array.from({ length: 500 }, () => ipRow()))
  const waiting = 'SELECT pid FROM pg_locks WHERE NOT granted AND relation = \'ip_logs\'::regclass'
  await until(async () => (await ask(waiting)).length > 0, 'the batch to wait')
  await other.query(`SELECT pg_terminate_backend(pid) FROM (${waiting}) AS w`)
  await locker.query('COMMIT')
  t.same(await stored, { deadLetters: 0, duplicates: 0 })
  t.same(await ask('SELECT count(*) AS n FROM ip_logs'), [{ n: 501 }])
})

t.test('what fails for another reason than a row is told, and nothing of the batch is stored', async t => {
  const { storage, ask } = await openLog(t, {}, 300)
  await ask('BEGIN; LOCK TABLE ip_logs IN SHARE MODE')
  await t.rejects(append(storage, [ipRow(), activityRow()]), { code: 'DOORMAN_STORAGE_BUSY' })
  await t.rejects(append(storage, [activityRow(), ipRow({ path: 1 as never }), ipRow()]), { code: 'DOORMAN_STORAGE_BUSY' })
  await ask('ROLLBACK')
  t.same(await ask('SELECT FROM user_activity UNION ALL SELECT FROM dead_letters UNION ALL SELECT FROM log_sources'), [])
})

t.test('without partitions the same rows go into plain tables', async t => {
  const database = await openLog(t, { partitioned: false })
  t.equal((database.storage.facts as { partitions?: boolean }).partitions, false)
  t.same(await append(database.storage, [ipRow({ at: 0 }), ipRow(), activityRow({ at: 5 }), ipRow({ status: -1 })]), { deadLetters: 1, duplicates: 0 })
  t.same(await partitionsOf(database), [])
  const { storage } = await openOn(t, database.url)
  t.equal((storage.facts as { partitions?: boolean }).partitions, false, 'decided once, when the tables are made')
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 2)
})
