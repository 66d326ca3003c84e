/** Opening one file: what can be wrong with it, and migrations. */
import t from 'tap'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { Connection } from '../../../storage/sqlite/connection.js'
import { appliedMigrations, migrate, needsMigration, type Migration } from '../../../storage/sqlite/migrate.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { TextDictionary } from '../../../storage/sqlite/text-dictionary.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { tempFile } from '../../helper.js'

const open = (path: string, migrations: readonly Migration[] = []) => openFile({ path, file: 'main', migrations, busyTimeout: 50 })

t.test('what cannot be opened', async t => {
  const file = tempFile()
  await t.rejects(open(dirname(file)), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: /SQLITE_CANTOPEN/ })
  await t.rejects(open(':memory:'), { code: 'DOORMAN_WAL_UNAVAILABLE', message: /"memory"/ })
  await t.rejects(open(file, [{ name: 'broken', sql: 'CREATE TABEL x' }]), { code: 'DOORMAN_SQL_INVALID' })
})

t.test('migrations run once, in order, and only the missing ones', async t => {
  const file = tempFile()
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
  const file = tempFile()
  const first = await open(file, logMigrations)
  first.close()
  await t.rejects(open(file, [{ name: 'sessions', sql: 'CREATE TABLE s (x)' }]), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /doorman_schema: request log/ })
  const foreign = await open(tempFile('foreign.db'))
  foreign.db.exec('CREATE TABLE host (x); CREATE INDEX Mine ON host (x)')
  t.throws(() => needsMigration(foreign, [{ name: 'one', sql: 'CREATE INDEX mine ON other (x)' }]), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /"mine"/ })
  foreign.close()
})

t.test('a step that fails leaves nothing of the others', async t => {
  const file = tempFile()
  await t.rejects(open(file, [{ name: 'good', sql: 'CREATE TABLE good (x)' }, { name: 'bad', sql: 'INSERT INTO nowhere VALUES (1)' }]), { code: 'DOORMAN_SQL_INVALID' })
  const connection = new Connection({ path: file, role: 'writer', file: 'main' })
  t.same(connection.all('SELECT name FROM sqlite_schema'), [])
  connection.close()
})

/** Files as a process leaves them that was killed: with what it wrote last in the WAL. */
function leavingWal (connection: Connection): () => Buffer[] {
  const paths = [connection.path, `${connection.path}-wal`]
  const bytes = paths.map(path => readFileSync(path))
  connection.close()
  for (const [i, path] of paths.entries()) writeFileSync(path, bytes[i]!)
  return () => paths.map(path => readFileSync(path))
}

t.test('what is refused is not changed by copying its WAL back', async t => {
  const file = tempFile()
  const steps: Migration[] = ['one', 'two', 'three', 'four'].map(name => ({ name, sql: `CREATE TABLE ${name} (x)` }))
  const first = await open(file, steps)
  first.close()
  const killed = await open(file, steps)
  killed.run('INSERT INTO one VALUES (1)')
  const content = leavingWal(killed)
  const before = content()
  await t.rejects(open(file, steps.slice(0, 3)), { code: 'DOORMAN_SCHEMA_NEWER' })
  t.same(content(), before)
  truncateSync(file, 4096 * 3)
  const cut = content()
  await t.rejects(open(file, steps), { code: 'DOORMAN_STORAGE_CORRUPT', message: new RegExp(`SQLITE_CORRUPT, ${file}.*restore a backup`) })
  t.same(content(), cut)
  writeFileSync(file, before[0]!)
  const sound = await open(file, [...steps, { name: 'five', sql: 'CREATE TABLE five (x)' }])
  t.same(sound.all('SELECT x FROM one'), [{ x: 1 }])
  t.equal(appliedMigrations(sound).length, 5)
  sound.close()
})

t.test('the memory of texts is bounded and marks days', async t => {
  const connection = await open(tempFile(), logMigrations)
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
