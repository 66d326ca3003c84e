/** What a migration writes into PostgreSQL. */
import t, { type Test } from 'tap'
import { MIGRATED_TABLES, RANGE_MS, type MigratedRow, type MigratedTable, type MigratedTableName } from '../../../lib/migration-tables.js'
import { openImport } from '../../../storage/postgres/open-import.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import { openMigration, openStorage } from '../../../storage/open.js'
import { openSqliteStorage, recordingLogger, tempFile } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { query } from '../../postgres/server.js'

const tableOf = (name: MigratedTableName): MigratedTable => MIGRATED_TABLES.find(table => table.name === name)!
const [ACTIVITY, BLOCKS, SESSIONS] = [tableOf('user_activity'), tableOf('ip_blocks'), tableOf('sessions')]
const activity = (at: number, id: number): MigratedRow => [at, id, 'alice', null, 'login', null, null]
const nothing = { remove: [], add: [], complete: [], gone: [] }

async function setUp (t: Test, url?: string) {
  const to = url ?? await freshDatabase()
  const target = await openImport(readPostgresUrl(to), { busyTimeout: 5000, log: recordingLogger() })
  t.teardown(() => target.close())
  return { to, target }
}

t.test('rows come back as they went, by their ranges, in the order of bytes', async t => {
  const { target } = await setUp(t)
  t.equal(await target.begin('one', 'copy'), true)
  // In the order of a language "a" would come before "B", and U+1F600 after U+FF5E in any but that of UTF-16.
  const blocks = ['B', 'a', '\u{e9}', '\uff5e', '\u{1f600}'].map((id): MigratedRow => [id, 'x"{},\\', null, null, 1])
  await target.store(BLOCKS, { ...nothing, add: [...blocks].reverse() })
  t.strictSame(await target.rows(BLOCKS, 0, 1, 10, null), blocks)
  t.strictSame(await target.rows(BLOCKS, 0, 1, 2, blocks[1]!), blocks.slice(2, 4))
  t.equal(await target.count(BLOCKS), 5)

  const session = (first: number): MigratedRow => [Buffer.from([first, ...Array<number>(31).fill(255)]), `s${first}`, 'alice', 1, 2, 3, 4, 5, null, null, null, null, null, true, '{}']
  await target.store(SESSIONS, { ...nothing, add: [session(255), session(0), session(128)] })
  t.strictSame(await target.rows(SESSIONS, 128, 256, 10, null), [session(128), session(255)])
  t.strictSame(await target.rows(SESSIONS, 0, 128, 10, null), [session(0)])

  // Days without a partition, ten years apart.
  const rows = [activity(0, 5), activity(0, 7), activity(RANGE_MS, 1), activity(3650 * 86_400_000, 2)]
  await target.store(ACTIVITY, { ...nothing, add: rows })
  t.strictSame(await target.rows(ACTIVITY, 0, 1e7, 10, null), rows)
  t.strictSame(await target.rows(ACTIVITY, 0, 1, 10, rows[0]!), [rows[1]])
})

t.test('a change is stored once, however often it is sent, with what it says of its ranges', async t => {
  const { target } = await setUp(t)
  await target.begin('one', 'copy')
  const record = { range: 0, rows: 2, checksum: 'c', fingerprint: 'f', verified: false }
  const change = { remove: [activity(1, 1)], add: [activity(1, 1), activity(1, 2)], complete: [{ ...record, rows: 9 }, record], gone: [4] }
  await target.store(ACTIVITY, change)
  await target.store(ACTIVITY, change)
  t.equal(await target.count(ACTIVITY), 2)
  t.strictSame(await target.ranges(ACTIVITY), [record], 'the last word counts')
  await target.mark(ACTIVITY, [0], true)
  t.strictSame(await target.ranges(ACTIVITY), [{ ...record, verified: true }])
  await target.mark(ACTIVITY, [0], false)
  t.strictSame(await target.ranges(ACTIVITY), [{ ...record, fingerprint: '' }])
  await target.store(ACTIVITY, { ...nothing, remove: [activity(1, 2)], gone: [0] })
  t.strictSame(await target.ranges(ACTIVITY), [])
  t.equal(await target.count(ACTIVITY), 1)
})

t.test('whoever begins last has the target; only what it brought may be in it', async t => {
  const { to, target } = await setUp(t)
  await t.rejects(target.begin('one', 'verify'), { code: 'DOORMAN_MIGRATION_TARGET_IN_USE', message: /nothing has been migrated/ })
  t.equal(await target.begin('one', 'copy'), true)
  await target.store(ACTIVITY, { ...nothing, add: [activity(1, 41)] })
  const { target: second } = await setUp(t, to)
  t.equal(await second.begin('one', 'copy'), false)
  await t.rejects(target.store(ACTIVITY, { ...nothing, add: [activity(1, 2)] }), { code: 'DOORMAN_MIGRATION_TAKEN_OVER' })
  await t.rejects(target.mark(ACTIVITY, [0], true), { code: 'DOORMAN_MIGRATION_TAKEN_OVER' })
  await t.rejects(target.finish(), { code: 'DOORMAN_MIGRATION_TAKEN_OVER' })
  t.equal(await second.count(ACTIVITY), 1)
  await t.rejects(second.begin('another', 'copy'), { code: 'DOORMAN_MIGRATION_TARGET_IN_USE', message: /of another database/ })

  await query(to, 'INSERT INTO log_sources VALUES (\'service\', 1, 1)')
  await t.rejects(second.begin('one', 'copy'), { code: 'DOORMAN_MIGRATION_TARGET_IN_USE', message: /log_sources has rows/ })
  await query(to, 'DELETE FROM log_sources')
  t.equal(await second.begin('one', 'verify'), false)

  const open = () => openStorage({ url: to, logUrl: null, busyTimeout: 5000, maxPending: 10, log: recordingLogger() })
  await t.rejects(open(), { code: 'DOORMAN_MIGRATION_UNFINISHED', message: new URL(to).pathname.slice(1) })
  await second.finish()
  const storage = await open()
  await storage.appendLog({ source: 'a', seq: 1, at: 1, rows: [{ kind: 'activity', at: 1, userId: 'alice', sessionId: null, action: 'a', ip: null, detail: null }] })
  t.strictSame((await storage.listActivity({}, { limit: 10 })).items.map(({ id }) => id), [42, 41], 'ids go on behind those that were migrated')
  await storage.close(1000)
  await t.rejects(second.begin('one', 'copy'), { code: 'DOORMAN_MIGRATION_FINISHED' })
  t.equal(await second.begin('one', 'verify'), false)
})

t.test('a target that is cut off for a moment', async t => {
  const { to, target } = await setUp(t)
  await target.begin('one', 'copy')
  for (let id = 1; id <= 20; id++) {
    await Promise.all([
      target.store(ACTIVITY, { ...nothing, add: [activity(1, id)] }),
      query(to, 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \'fastify-doorman\' AND datname = current_database()')
    ])
  }
  t.equal(await target.count(ACTIVITY), 20)
})

t.test('drivers that are missing, and a source that cannot be opened', async t => {
  const to = 'postgres://127.0.0.1:1/none'
  const file = tempFile()
  const options = { from: `file:${file}`, to, exclusive: false, busyTimeout: 1000, log: recordingLogger() }
  const missing = async () => { throw new Error('Cannot find package\nmore') }
  await t.rejects(openMigration(options, { source: missing }), { code: 'DOORMAN_SQLITE_MISSING', message: /could not be loaded: Cannot find package\. / })
  await t.rejects(openMigration(options, { target: missing }), { code: 'DOORMAN_POSTGRES_MISSING', message: /Cannot find package\. / })
  await t.rejects(openMigration(options), { code: 'DOORMAN_DATABASE_UNOPENABLE' })
  await t.rejects(openMigration({ ...options, from: 'postgres://u:secret@h/d' }), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /"postgres:\/\/\*\*\*@h\/d"/ })

  // A target that cannot be opened lets go of the source.
  await (await openSqliteStorage(t, file)).close(1000)
  const url = new URL(await freshDatabase())
  url.pathname = '/missing'
  await t.rejects(openMigration({ ...options, to: url.href, exclusive: true }), { code: 'DOORMAN_DATABASE_UNREACHABLE' })
  const { source, target } = await openMigration({ ...options, to: await freshDatabase(), exclusive: true })
  source.close()
  await target.close()
})
