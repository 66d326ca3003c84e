/** The schema: brought up to date once, by whoever comes first; what is not ours is left alone. */
import t, { type Test } from 'tap'
import pg from 'pg'
import { openPostgres } from '../../../storage/postgres/engine.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import { mainMigrations } from '../../../storage/postgres/schema-main.js'
import { mainMigrations as sqliteMigrations } from '../../../storage/sqlite/schema-main.js'
import { logMigrations as sqliteLogMigrations } from '../../../storage/sqlite/schema-log.js'
import { recordingLogger, until } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { query } from '../../postgres/server.js'
import { create, NOW } from '../contract.js'

async function open (t: Test, url: string) {
  const storage = await openPostgres(readPostgresUrl(url), { busyTimeout: 10_000, maxPending: 1000, log: recordingLogger() }, { clock: () => NOW })
  t.teardown(() => storage.close(1000))
  return storage
}
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
  t.equal((await steps(url)).length, 3)
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
  await query(url, 'DELETE FROM doorman_migrations WHERE part = \'main\' AND version = 2')
  await query(url, 'DELETE FROM doorman_counters')
  await query(url, 'DELETE FROM session_slots')
  const storage = await open(t, url)
  t.equal(await storage.changeCounter('blocks'), 0)
  t.equal((await steps(url)).length, 3)
  await storage.close(1000)
  await query(url, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC')
  await create(await open(t, url))
})

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
  await t.rejects(open(t, url), { code: 'DOORMAN_SCHEMA_NEWER', message: /schema version 3, this release knows up to 2/ })
  await query(url, 'DELETE FROM doorman_migrations WHERE name = \'of tomorrow\'')
  await query(url, 'UPDATE doorman_migrations SET name = \'something else\' WHERE part = \'main\' AND version = 1')
  await t.rejects(open(t, url), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /doorman_migrations: something else/ })
})

t.test('no right to make tables', async t => {
  const url = await freshDatabase()
  await query(url, 'ALTER DATABASE ' + new URL(url).pathname.slice(1) + ' SET search_path = nowhere')
  await t.rejects(open(t, url), { code: /DOORMAN_/ })
})
