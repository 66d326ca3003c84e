/** What is refused before anything is opened. */
import t from 'tap'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { assertFileSystem, assertOneLibrary, assertSqliteVersion, assertWritableDirectory, loadedObjects, prepareLocation, sqliteLibraries, sqliteVersion } from '../../../storage/sqlite/guards.js'

t.test('SQLite before 3.51.3 is refused', async t => {
  for (const good of ['3.51.3', '3.51.10', '3.53.2', '4.0.0']) assertSqliteVersion(good)
  for (const bad of ['3.51.2', '3.50.9', '2.99.99', '3.51']) t.throws(() => assertSqliteVersion(bad), { code: 'DOORMAN_SQLITE_TOO_OLD', message: new RegExp(bad) })
  assertSqliteVersion(sqliteVersion())
})

t.test('a missing native part says what to do', async t => {
  t.throws(() => sqliteVersion(() => { throw new Error('Could not locate the bindings file. Tried:\n → a\n → b') }), {
    code: 'DOORMAN_SQLITE_MISSING', message: /bindings file\. Tried:\. Install it.*npm rebuild/
  })
})

t.test('two SQLite libraries in one process are refused', async t => {
  sqliteVersion()
  t.equal(sqliteLibraries(loadedObjects()).length, 1, 'this process has one')
  assertOneLibrary(loadedObjects())
  assertOneLibrary(['/a/better_sqlite3.node', '/a/better_sqlite3.node', '/lib/libc.so'])
  for (const second of ['/b/better_sqlite3.node', '/b/node_sqlite3.node', 'C:\\libsql.node']) {
    t.throws(() => assertOneLibrary(['/a/better_sqlite3.node', second]), { code: 'DOORMAN_SQLITE_DUPLICATE' }, second)
  }
})

t.test('network file systems are refused by name', async t => {
  assertFileSystem('/srv', 0xef53)
  t.throws(() => assertFileSystem('/srv', 0x6969), { code: 'DOORMAN_FILESYSTEM_UNSUPPORTED', message: /\/srv is on a NFS/ })
  t.throws(() => assertFileSystem('/srv', 0xff534d42 | 0), { message: /CIFS/ }, 'a negative type, as some platforms give it')
})

t.test('a directory that must be there', async t => {
  const dir = t.testdir({ file: '' })
  assertWritableDirectory(dir)
  for (const [name, reason] of [['missing', 'ENOENT'], ['file', 'ENOTDIR']] as const) {
    t.throws(() => assertWritableDirectory(join(dir, name)), { code: 'DOORMAN_DIRECTORY_UNWRITABLE', message: `The directory ${join(dir, name)} cannot be written (${reason})` })
  }
})

t.test('the directory is created, and what is no file is refused', async t => {
  const dir = t.testdir()
  prepareLocation(join(dir, 'a', 'b', 'doorman.db'))
  t.ok(existsSync(join(dir, 'a', 'b')))
  writeFileSync(join(dir, 'file'), '')
  prepareLocation(join(dir, 'file'))
  t.throws(() => prepareLocation(join(dir, 'file', 'doorman.db')), { code: 'DOORMAN_DIRECTORY_UNWRITABLE', message: /(ENOTDIR|EEXIST)/ })
  mkdirSync(join(dir, 'doorman.db'))
  t.throws(() => prepareLocation(join(dir, 'doorman.db')), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: /it is a directory/ })
  t.throws(() => prepareLocation('/dev/null'), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: /not a regular file/ })
})
