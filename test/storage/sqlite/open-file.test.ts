/** Opening one file: what can be wrong with it, and migrations. */
import t from 'tap'
import { dirname } from 'node:path'
import { Connection } from '../../../storage/sqlite/connection.js'
import { appliedMigrations, migrate, needsMigration, type Migration } from '../../../storage/sqlite/migrate.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { TextDictionary } from '../../../storage/sqlite/text-dictionary.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { tempFile } from '../../helper.js'

const open = (path: string, migrations: readonly Migration[] = []) => openFile({ path, file: 'main', migrations, busyTimeout: 50 })

t.test('what cannot be opened', async t => {
  const file = tempFile(t)
  await t.rejects(open(dirname(file)), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: /SQLITE_CANTOPEN/ })
  await t.rejects(open(':memory:'), { code: 'DOORMAN_WAL_UNAVAILABLE', message: /"memory"/ })
  await t.rejects(open(file, [{ name: 'broken', sql: 'CREATE TABEL x' }]), { code: 'DOORMAN_SQL_INVALID' })
})

t.test('migrations run once, in order, and only the missing ones', async t => {
  const file = tempFile(t)
  const steps: Migration[] = [{ name: 'one', sql: 'CREATE TABLE one (x)' }, { name: 'two', sql: 'CREATE TABLE two (x)' }]
  const first = await open(file, steps.slice(0, 1))
  t.same(appliedMigrations(first), ['one'])
  first.close()
  const second = await open(file, steps)
  t.same(appliedMigrations(second), ['one', 'two'])
  t.same(second.all('SELECT version, name FROM doorman_schema'), [{ version: 1, name: 'one' }, { version: 2, name: 'two' }])
  migrate(second, steps, 0)
  t.equal(needsMigration(second, steps), false, 'another process may have been faster')
  second.close()
})

t.test('the schema of another file is refused', async t => {
  const file = tempFile(t)
  const first = await open(file, logMigrations)
  first.close()
  await t.rejects(open(file, [{ name: 'sessions', sql: 'CREATE TABLE s (x)' }]), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /doorman_schema: request log/ })
  const foreign = await open(tempFile(t, 'foreign.db'))
  foreign.db.exec('CREATE TABLE host (x); CREATE INDEX Mine ON host (x)')
  t.throws(() => needsMigration(foreign, [{ name: 'one', sql: 'CREATE INDEX mine ON other (x)' }]), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /"mine"/ })
  foreign.close()
})

t.test('a step that fails leaves nothing of the others', async t => {
  const file = tempFile(t)
  await t.rejects(open(file, [{ name: 'good', sql: 'CREATE TABLE good (x)' }, { name: 'bad', sql: 'INSERT INTO nowhere VALUES (1)' }]), { code: 'DOORMAN_SQL_INVALID' })
  const connection = new Connection({ path: file, role: 'writer', file: 'main' })
  t.same(connection.all('SELECT name FROM sqlite_schema'), [])
  connection.close()
})

t.test('the memory of texts is bounded and marks days', async t => {
  const connection = await open(tempFile(t), logMigrations)
  const texts = new TextDictionary(connection, 2)
  const [a, b, c] = ['a', 'b', 'c'].map(text => texts.ref('shared', text, 10))
  t.equal(new Set([a, b, c]).size, 3)
  t.same(['a', 'b', 'c'].map(text => texts.ref('shared', text, 10)), [a, b, c])
  t.not(texts.ref('user', 'a', 10), a, 'users are kept apart')
  t.equal(texts.ref('shared', 'a', 11), a)
  t.equal(texts.ref('shared', 'a', 9), a)
  t.same(connection.all('SELECT last_day FROM texts WHERE id = ?', a!), [{ last_day: 11 }])
  connection.close()
})
