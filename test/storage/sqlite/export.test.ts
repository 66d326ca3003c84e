/** What a migration reads from SQLite. */
import Database from 'better-sqlite3'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { compareKeys, MIGRATED_TABLES, RANGE_MS, type MigratedTable, type MigratedTableName } from '../../../lib/migration-tables.js'
import { openExport } from '../../../storage/sqlite/export.js'
import { resolveLocation } from '../../../storage/sqlite/location.js'
import type { IpLogRow } from '../../../storage/storage.js'
import { openSqliteStorage, tempFile } from '../../helper.js'

const tableOf = (name: MigratedTableName): MigratedTable => MIGRATED_TABLES.find(table => table.name === name)!
const LOGS = tableOf('ip_logs')
const ipLog = (at: number, path = '/'): IpLogRow => ({ kind: 'ip', at, ip: '192.0.2.1', ipSource: 'socket', peerIp: null, peerPort: null, trustedHops: 0, method: 'GET', path, route: null, status: 200, durationUs: 1, userAgent: null, referer: null, sessionId: null, userId: null, requestId: null, outcome: 'replied' })

/** A storage that is open, and its export. */
async function setUp (t: Test) {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  let seq = 0
  const append = (...rows: IpLogRow[]) => storage.appendLog({ source: 'test', seq: ++seq, at: 1, rows })
  const source = await openExport(resolveLocation(`file:${file}`), { exclusive: false })
  t.teardown(() => { source.close() })
  /** All rows of a table, in small steps. */
  const read = (table: MigratedTable, limit = 3) => [...source.ranges(table)].flatMap(({ range, rows: count }) => {
    const rows = []
    for (let last = null; ;) {
      const step = source.rows(table, range, limit, last)
      rows.push(...step)
      if (step.length < limit) break
      last = step.at(-1)!
    }
    t.equal(rows.length, count)
    return rows
  })
  return { file, storage, append, source, read }
}

t.test('ranges of a minute, empty ones left out; rows by time', async t => {
  const { append, source, read } = await setUp(t)
  t.strictSame([...source.ranges(LOGS)], [])
  await append(ipLog(10 * RANGE_MS + 5), ipLog(2 * RANGE_MS), ipLog(10 * RANGE_MS), ipLog(11 * RANGE_MS - 1), ipLog(11 * RANGE_MS))
  t.strictSame([...source.ranges(LOGS)].map(({ range, rows }) => [range, rows]), [[2, 1], [10, 3], [11, 1]])
  t.strictSame(read(LOGS, 2).map(([at]) => at), [2, 10, 10 + 5 / RANGE_MS, 11 - 1 / RANGE_MS, 11].map(minutes => Math.round(minutes * RANGE_MS)))
})

t.test('rows of a crowded millisecond belong to their own time, even in another range than their neighbours', async t => {
  const { append, source, read } = await setUp(t)
  const end = 6 * RANGE_MS - 1
  const many = Array.from({ length: 2500 }, (_, i) => ipLog(end, `/${i}`))
  for (let i = 0; i < many.length; i += 500) await append(...many.slice(i, i + 500))
  await append(ipLog(end + 1, '/next'))
  t.strictSame([...source.ranges(LOGS)].map(({ range, rows }) => [range, rows]), [[5, 2500], [6, 1]])
  const rows = read(LOGS, 700)
  t.strictSame(rows.map(row => row[7]), [...many.map(({ path }) => path), '/next'])
  t.ok(rows.every(([at], i) => at === (i < 2500 ? end : end + 1)))
})

t.test('a row that stands behind the first of a later range is found, whatever was removed before it', async t => {
  const { file, append, source, read } = await setUp(t)
  const end = 6 * RANGE_MS - 1
  const fill = async (at: number, count: number) => { for (let i = 0; i < count; i += 500) await append(...Array.from({ length: Math.min(500, count - i) }, () => ipLog(at))) }
  await fill(end, 1024)
  await fill(end + 1, 1024)
  await append(ipLog(end, '/late'))
  const db = new Database(file.replace('.db', '-log.db'))
  db.prepare('DELETE FROM ip_log_rows WHERE id < ? AND at_offset = 0').run((end + 1) * 1024)
  db.close()
  t.strictSame([...source.ranges(LOGS)].map(({ range, rows }) => [range, rows]), [[5, 1], [6, 1024]])
  t.equal(read(LOGS, 500)[0]![7], '/late')
})

t.test('a fingerprint changes when a row comes or goes, and with nothing else', async t => {
  const { storage, append, source, read } = await setUp(t)
  const prints = () => new Map(['ip_logs', 'user_activity', 'dead_letters', 'ingested'].flatMap(name => [...source.ranges(tableOf(name as MigratedTableName))].map(({ range, fingerprint }) => [`${name} ${range}`, fingerprint])))
  const activity = { kind: 'activity' as const, at: RANGE_MS, userId: 'alice', sessionId: null, action: 'a', ip: null, detail: null }
  await append(ipLog(RANGE_MS), ipLog(5 * RANGE_MS), { ...ipLog(RANGE_MS), idempotencyKey: 'k1' }, { ...ipLog(RANGE_MS), status: 1e9 })
  await storage.appendLog({ source: 'other', seq: 1, at: 2 * RANGE_MS, rows: [activity, { ...ipLog(RANGE_MS), idempotencyKey: 'k2' }] })
  const before = prints()
  t.strictSame([...before.keys()], ['ip_logs 1', 'ip_logs 5', 'user_activity 1', 'dead_letters 0', 'ingested 0', 'ingested 2'])
  t.strictSame(prints(), before)
  t.strictSame(read(tableOf('ingested'), 1), [[1, 'k1'], [2 * RANGE_MS, 'k2']])
  await append(ipLog(5 * RANGE_MS + 1))
  const after = prints()
  t.not(after.get('ip_logs 5'), before.get('ip_logs 5'))
  t.equal(after.get('ip_logs 1'), before.get('ip_logs 1'))
  await storage.eraseUser('alice')
  t.notOk(prints().has('user_activity 1'))
})

t.test('rows as every engine has them', async t => {
  const { storage, read } = await setUp(t)
  const now = 1_000_000
  const record = { id: 's', userId: 'al\0ice', createdAt: 1, lastActiveAt: 2, authenticatedAt: 3, rotatedAt: 4, expiresAt: 5, ip: null, lastIp: '192.0.2.1', userAgent: null, lastUserAgent: null, device: null, flagged: true, data: '{}' }
  for (const first of [0, 7, 255]) await storage.createSession({ tokenHash: Buffer.alloc(32, first).toString('hex'), session: { ...record, id: `s${first}` }, limit: null, now, idleBefore: 0 })
  await storage.addBlock({ id: 'b', cidr: '192.0.2.0/24', until: null, reason: null, createdAt: 1 })
  await storage.addCleanupRun({ id: 'c', startedAt: 1, durationMs: 2, dryRun: false, trigger: 'manual', complete: true, removed: {} as never, freedPages: 3, error: null })
  t.strictSame(read(tableOf('sessions'))[1], [Buffer.alloc(32, 7), 's7', 'al\ufffdice', 1, 2, 3, 4, 5, null, '192.0.2.1', null, null, null, true, '{}'])
  await storage.createSession({ tokenHash: Buffer.alloc(32, 7).fill(8, 1).toString('hex'), session: { ...record, id: 's8' }, limit: null, now, idleBefore: 0 })
  t.strictSame(read(tableOf('sessions'), 1).map(row => row[1]), ['s0', 's7', 's8', 's255'])
  for (const userId of ['bob', 'Bob', 'ö']) {
    for (const [n, network] of ['', '192.0.2.0/24', '2001:db8::/64'].entries()) {
      await storage.createSession({ tokenHash: createHash('sha256').update(userId + n).digest('hex'), session: { ...record, id: `${userId}${n}`, userId }, limit: null, now, idleBefore: 0, device: { device: n === 2 ? null : 'curl', network } })
    }
  }
  const devices = read(tableOf('session_devices'), 2)
  t.strictSame(devices.slice(0, 4), [['Bob', '', '2001:db8::/64', 1, 1, 1], ['Bob', 'curl', '', 1, 1, 1], ['Bob', 'curl', '192.0.2.0/24', 1, 1, 1], ['bob', '', '2001:db8::/64', 1, 1, 1]])
  t.equal(devices.length, 9)
  t.strictSame([...devices].sort((a, b) => compareKeys(tableOf('session_devices'), a, b)), devices, 'in the order of their bytes')
  t.strictSame(read(tableOf('ip_blocks')), [['b', '192.0.2.0/24', null, null, 1]])
  t.strictSame(read(tableOf('cleanup_runs')), [['c', 1, 2, false, 'manual', true, '{}', 3, null]])
})

t.test('exclusive: not beside anybody, and nobody beside it', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const location = resolveLocation(`file:${file}`)
  await t.rejects(openExport(location, { exclusive: true }), { code: 'DOORMAN_MIGRATION_SOURCE_IN_USE', message: `The file ${file} is open in another process: stop every process on it before the final run` })
  await storage.close(1000)
  const before = readFileSync(file)
  const source = await openExport(location, { exclusive: true })
  const other = new Database(file, { timeout: 0 })
  t.throws(() => other.prepare('SELECT * FROM sessions').all(), { code: 'SQLITE_BUSY' })
  other.close()
  t.strictSame([...source.ranges(tableOf('sessions'))], [])
  source.close()
  t.strictSame(readFileSync(file), before)
  // A reader of the log alone is enough.
  const reader = new Database(location.log)
  reader.prepare('SELECT * FROM texts').all()
  await t.rejects(openExport(location, { exclusive: true }), { code: 'DOORMAN_MIGRATION_SOURCE_IN_USE', message: location.log })
  reader.close()
  ;(await openExport(location, { exclusive: true })).close()
})

t.test('what is not a database of ours, as it is now, is refused and left alone', async t => {
  const file = tempFile()
  const location = resolveLocation(`file:${file}`)
  for (const exclusive of [false, true]) {
    await t.rejects(openExport(location, { exclusive }), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: 'there is no such file' })
    t.notOk(existsSync(file))
    writeFileSync(file, '')
    await t.rejects(openExport(location, { exclusive }), { code: 'DOORMAN_MIGRATION_SOURCE_OLD' })
    t.equal(readFileSync(file).length, 0)
    writeFileSync(file, 'something else '.repeat(100))
    await t.rejects(openExport(location, { exclusive }), { code: 'DOORMAN_NOT_A_DATABASE' })
    truncateSync(file)
    const db = new Database(file)
    db.exec('CREATE TABLE doorman_schema (version INTEGER PRIMARY KEY, name TEXT, applied_at INTEGER); INSERT INTO doorman_schema VALUES (1, \'sessions, blocks, cleanup\', 1), (2, \'changes of sessions and blocks are counted\', 1), (3, \'devices of users\', 1), (4, \'sessions in the order they began\', 1), (5, \'x\', 1)')
    db.close()
    await t.rejects(openExport(location, { exclusive }), { code: 'DOORMAN_SCHEMA_NEWER' })
    rmSync(file)
  }
  const made = tempFile()
  await (await openSqliteStorage(t, made)).close(1000)
  const there = resolveLocation(`file:${made}`)
  truncateSync(there.log)
  await t.rejects(openExport(there, { exclusive: false }), { code: 'DOORMAN_MIGRATION_SOURCE_OLD', message: there.log })
})

t.test('the identity is that of the data, wherever the files lie', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const [copy] = await storage.backup(tempFile('copy.db'))
  const [original, copied] = await Promise.all([file, copy!].map(path => openExport(resolveLocation(`file:${path}`), { exclusive: false })))
  t.equal(copied!.identity, original!.identity)
  const other = tempFile()
  await (await openSqliteStorage(t, other)).close(1000)
  const different = await openExport(resolveLocation(`file:${other}`), { exclusive: false })
  t.not(different.identity, original!.identity)
  for (const source of [original!, copied!, different]) source.close()
})
