/** A pinned reader is noticed, nobody waits for it, and its end is noticed too. */
import t from 'tap'
import Database from 'better-sqlite3'
import { Connection } from '../../../storage/sqlite/connection.js'
import type { Notice } from '../../../storage/sqlite/protocol.js'
import { WalNotices } from '../../../storage/sqlite/wal-notices.js'
import { WalWatch } from '../../../storage/sqlite/wal-watch.js'
import { recordingLogger, tempFile, until } from '../../helper.js'

t.test('from the first growth to the end', async t => {
  const path = tempFile(t)
  const connection = new Connection({ path, role: 'writer', file: 'log' })
  connection.db.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)')
  const reader = new Database(path, { readonly: true })
  t.teardown(() => { connection.close(); reader.close() })
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const log = recordingLogger()
  const notices = new WalNotices(log)
  const seen: Notice[] = []
  const watch = new WalWatch({ connection, limit: 150, recheckMs: 5, notify: notice => { seen.push(notice); notices.add(notice) } })
  t.teardown(() => watch.stop())
  const commit = (n: number) => {
    for (let i = 0; i < n; i++) {
      connection.run('INSERT INTO t VALUES (1)')
      watch.committed()
    }
  }
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM t').get()
  commit(100)
  t.same(seen, [], 'a hundred frames are nothing yet')
  commit(100)
  t.match(seen, [{ file: 'log', stuck: true }])
  t.ok(seen[0]!.walBacklog >= 150)
  commit(300)
  t.equal(seen.length, 1, 'said once')
  t.match(notices.reasons(), [/pinned reader makes the WAL of the log file grow/])
  let rechecks = 0
  const { pragma } = connection.db
  connection.db.pragma = (...args) => {
    rechecks++
    return pragma.apply(connection.db, args)
  }
  await until(() => rechecks > 2)
  t.equal(seen.length, 1, 'not yet')
  reader.exec('COMMIT')
  await until(() => seen.length === 2)
  t.match(seen[1], { stuck: false, walBacklog: 0 })
  t.same(notices.reasons(), [])
  t.match(log.lines, [{ level: 'warn' }, { level: 'info' }])
  commit(100)
  t.equal(seen.length, 2, 'all is well')
})
