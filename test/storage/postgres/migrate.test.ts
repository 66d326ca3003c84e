/** The schema: brought up to date once, by whoever comes first; what is not ours is left alone. */
import t, { type Test } from 'tap'
import pg from 'pg'
import { openPostgres } from '../../../storage/postgres/engine.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import { logMigrations } from '../../../storage/postgres/schema-log.js'
import { mainMigrations } from '../../../storage/postgres/schema-main.js'
import { mainMigrations as sqliteMigrations } from '../../../storage/sqlite/schema-main.js'
import { logMigrations as sqliteLogMigrations } from '../../../storage/sqlite/schema-log.js'
import { recordingLogger, until } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { query } from '../../postgres/server.js'
import { append, create, DAY, ipRow, NOW } from '../contract.js'

async function open (t: Test, url: string) {
  const storage = await openPostgres(readPostgresUrl(url), { busyTimeout: 10_000, maxPending: 1000, log: recordingLogger() }, { clock: () => NOW })
  t.teardown(() => storage.close(1000))
  return storage
}
const ALL_STEPS = sqliteMigrations.length + sqliteLogMigrations.length
const steps = (url: string) => query(url, 'SELECT part, version, name FROM doorman_migrations WHERE version > 0 ORDER BY part, version')

t.test('numbers and names are those of SQLite', async t => {
  const url = await freshDatabase()
  await open(t, url)
  const expected = (part: string, list: readonly { name: string }[]) => list.map(({ name }, i) => ({ part, version: i + 1, name }))
  t.same(await steps(url), [...expected('log', sqliteLogMigrations), ...expected('main', sqliteMigrations)])
})

t.test('ten at once', async t => {
  const url = await freshDatabase()
  const storages = await Promise.all(Array.from({ length: 10 }, () => open(t, `${url}?connections=2`)))
  await Promise.all(storages.map(storage => create(storage)))
  t.equal((await storages[0]!.listSessions({ now: NOW, idleBefore: 0, limit: 100 })).items.length, 10)
  t.equal((await steps(url)).length, ALL_STEPS)
})

t.test('the table of versions made by another process at this very moment', async t => {
  const url = await freshDatabase()
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  await other.query('BEGIN; CREATE TABLE doorman_migrations (part text NOT NULL, version integer NOT NULL, name text NOT NULL, applied_at bigint NOT NULL, PRIMARY KEY (part, version))')
  const opened = open(t, url)
  await until(async () => (await query(url, 'SELECT FROM pg_locks WHERE NOT granted')).length > 0, 'it to wait')
  await other.query('COMMIT')
  await other.end()
  await create(await opened)
})

t.test('what is missing is added, and where nothing is missing no right to change the schema is needed', async t => {
  const url = await freshDatabase()
  await (await open(t, url)).close(1000)
  await query(url, 'DELETE FROM doorman_migrations WHERE part = \'main\' AND version >= 2')
  await query(url, 'DROP TABLE session_devices')
  await query(url, 'DELETE FROM doorman_counters')
  await query(url, 'DELETE FROM session_slots')
  const storage = await open(t, url)
  t.equal(await storage.changeCounter('blocks'), 0)
  t.match((await create(storage, {}, { device: { device: 'curl', network: null } })).result, { known: { any: false } })
  t.equal((await steps(url)).length, ALL_STEPS)
  await storage.close(1000)
  await query(url, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC')
  await create(await open(t, url))
})

for (const partitioned of [true, false]) {
  t.test(`a log of before trusted hops were counted, ${partitioned ? 'in days' : 'in one table'}: its rows are there, with none`, async t => {
    const url = await freshDatabase()
    const [first] = logMigrations(partitioned)
    for (const statement of first!.statements) await query(url, statement)
    await query(url, 'CREATE TABLE doorman_migrations (part text NOT NULL, version integer NOT NULL, name text NOT NULL, applied_at bigint NOT NULL, PRIMARY KEY (part, version))')
    await query(url, 'INSERT INTO doorman_migrations VALUES (\'log\', 1, $1, 0)', [first!.name])
    if (partitioned) await query(url, `CREATE TABLE ip_logs_then PARTITION OF ip_logs FOR VALUES FROM (${NOW - 2 * DAY}) TO (${NOW - DAY})`)
    await query(url, `INSERT INTO ip_logs (at, duration_us, status, ip, ip_source, method, path, outcome) VALUES (${NOW - 2 * DAY}, 5, 200, '192.0.2.1', 'forwarded', 'GET', '/old', 'replied')`)

    const storage = await openPostgres(readPostgresUrl(url), { busyTimeout: 10_000, maxPending: 1000, log: recordingLogger() }, { clock: () => NOW, partitioned })
    t.teardown(() => storage.close(1000))
    await append(storage, [ipRow({ at: NOW - 2 * DAY + 1, trustedHops: 2 }), ipRow({ at: NOW, trustedHops: 255 }), ipRow({ at: NOW + 40 * DAY, trustedHops: 1, idempotencyKey: 'k' })])
    t.same((await storage.listIpLogs({}, { limit: 10 })).items.map(row => [row.at, row.trustedHops]), [[NOW + 40 * DAY, 1], [NOW, 255], [NOW - 2 * DAY + 1, 2], [NOW - 2 * DAY, 0]])
    const columns = await query(url, 'SELECT DISTINCT data_type, is_nullable, column_default FROM information_schema.columns WHERE column_name = \'trusted_hops\'')
    t.same(columns, [{ data_type: 'smallint', is_nullable: 'NO', column_default: '0' }], 'the same in every partition, old and new')
    t.equal((await query(url, 'SELECT FROM information_schema.columns WHERE column_name = \'trusted_hops\'')).length > 3, partitioned)
  })
}

t.test('a step that fails leaves nothing behind', async t => {
  const url = await freshDatabase()
  await query(url, 'CREATE TYPE leases AS (x int)')
  await t.rejects(open(t, url), { code: /DOORMAN_(SQL_INVALID|SCHEMA_FOREIGN)/ })
  t.equal((await query(url, 'SELECT FROM pg_tables WHERE tablename = \'sessions\'')).length, 0)
})

t.test('a database that is not ours, or of a newer release', async t => {
  const foreign = await freshDatabase()
  await query(foreign, 'CREATE TABLE sessions (sid text)')
  await t.rejects(open(t, foreign), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /The database ".*" on 127\.0\.0\.1:\d+ already has "sessions"/ })
  t.same(await query(foreign, 'SELECT tablename FROM pg_tables WHERE schemaname = \'public\''), [{ tablename: 'sessions' }], 'left as it was')

  const url = await freshDatabase()
  await (await open(t, url)).close(1000)
  await query(url, 'INSERT INTO doorman_migrations VALUES (\'main\', $1, \'of tomorrow\', 0)', [mainMigrations.length + 1])
  await t.rejects(open(t, url), { code: 'DOORMAN_SCHEMA_NEWER', message: /schema version 5, this release knows up to 4/ })
  await query(url, 'DELETE FROM doorman_migrations WHERE name = \'of tomorrow\'')
  await query(url, 'UPDATE doorman_migrations SET name = \'something else\' WHERE part = \'main\' AND version = 1')
  await t.rejects(open(t, url), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /doorman_migrations: something else/ })
})

t.test('no right to make tables', async t => {
  const url = await freshDatabase()
  await query(url, 'ALTER DATABASE ' + new URL(url).pathname.slice(1) + ' SET search_path = nowhere')
  await t.rejects(open(t, url), { code: /DOORMAN_/ })
})
