/** The lock that `doorman doctor` holds to see who waits. */
import Database from 'better-sqlite3'
import { join } from 'node:path'
import t from 'tap'
import { holdLock } from '../../../storage/sqlite/hold-lock.js'

t.test('others cannot write until it lets go', async t => {
  const path = join(t.testdir(), 'x.db')
  const db = new Database(path, { timeout: 0 })
  t.teardown(() => db.close())
  db.exec('CREATE TABLE x (y)')
  const release = holdLock(path)
  t.throws(() => db.exec('INSERT INTO x VALUES (1)'), { code: 'SQLITE_BUSY' })
  t.throws(() => holdLock(path, 10), { code: 'DOORMAN_STORAGE_BUSY' }, 'it does not share')
  release()
  db.exec('INSERT INTO x VALUES (1)')
  holdLock(path)()
})
