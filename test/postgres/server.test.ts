/** The servers of the tests: that they start, keep what they were told to, and leave nothing behind. */
import t from 'tap'
import { existsSync } from 'node:fs'
import { freshDatabase } from './database.js'
import { DEBIAN_15, dropDatabase, isInstalled, query, startPostgres } from './server.js'

t.test('a new database each time, which is gone once it is dropped', async t => {
  const url = await freshDatabase()
  const other = await freshDatabase()
  t.not(url, other)
  await query(url, 'CREATE TABLE a (b int)')
  t.strictSame(await query(other, 'SELECT * FROM pg_tables WHERE schemaname = \'public\''), [])
  t.match(await query(url, 'SHOW server_version_num'), [{ server_version_num: /^1[89]/ }])
  await dropDatabase(url)
  await t.rejects(query(url, 'SELECT'), { code: '3D000' })
})

t.test('killed and started again, and a standby that takes over', async t => {
  const server = await startPostgres({ settings: { fsync: 'on' } })
  t.teardown(() => server.remove())
  await server.query('CREATE TABLE a AS SELECT 1 AS b')
  await server.kill()
  await t.rejects(server.query('SELECT'), { code: 'ECONNREFUSED' })
  await server.start()
  t.strictSame(await server.query('SELECT * FROM a'), [{ b: 1 }])

  const standby = await server.standby()
  t.teardown(() => standby.remove())
  await server.query('ALTER SYSTEM SET synchronous_standby_names = \'*\'')
  await server.query('SELECT pg_reload_conf()')
  await server.query('INSERT INTO a VALUES (2)')
  t.strictSame(await standby.query('SELECT pg_is_in_recovery() AS recovers'), [{ recovers: true }])
  await t.rejects(standby.query('INSERT INTO a VALUES (3)'), { code: '25006' })
  await server.kill()
  await standby.query('SELECT pg_promote()')
  t.strictSame(await standby.query('SELECT * FROM a ORDER BY b'), [{ b: 1 }, { b: 2 }])
  await standby.query('INSERT INTO a VALUES (3)')
  await standby.remove()
  t.notOk(existsSync(standby.dir))
})

t.test('Debian\'s server', { skip: !isInstalled(DEBIAN_15) && 'is not installed here' }, async t => {
  const server = await startPostgres({ bin: DEBIAN_15 })
  t.teardown(() => server.remove())
  t.equal(server.major, 15)
  await server.stop()
  await server.start()
  t.match(await server.query('SHOW server_version'), [{ server_version: /^15/ }])
})
