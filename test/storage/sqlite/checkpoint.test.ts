/** Writing a small file anew: when it is done, when it is left. What it reaches is in test/privacy. */
import Database from 'better-sqlite3'
import t from 'tap'
import { rewriteSmallFile } from '../../../storage/sqlite/checkpoint.js'
import type { Connection } from '../../../storage/sqlite/connection.js'

function connection (pages: number, error?: Error) {
  const done: string[] = []
  const fake = { number: (pragma: string) => pragma === 'page_size' ? 4096 : pages, db: { exec (sql: string) { done.push(sql); if (error !== undefined) throw error } } }
  return { done, fake: fake as unknown as Connection }
}

t.test('a file of up to 64 MiB is written anew, a larger one is left as it is', async t => {
  const small = connection(16_384)
  t.equal(rewriteSmallFile(small.fake), true)
  t.strictSame(small.done, ['VACUUM'])
  const large = connection(16_385)
  t.equal(rewriteSmallFile(large.fake), true)
  t.strictSame(large.done, [])
})

t.test('a lock is not waited for; anything else is told', async t => {
  t.equal(rewriteSmallFile(connection(1, new Database.SqliteError('database is locked', 'SQLITE_BUSY')).fake), false)
  t.throws(() => rewriteSmallFile(connection(1, new Database.SqliteError('database or disk is full', 'SQLITE_FULL')).fake), { code: 'SQLITE_FULL' })
})
