/** The WAL through the whole engine: bounded while much is removed, cut when a reader has gone, and what the statistics tell of it. */
import t from 'tap'
import Database from 'better-sqlite3'
import { statSync } from 'node:fs'
import { WAL_AUTOCHECKPOINT } from '../../../storage/sqlite/connection.js'
import { openSqliteStorage, tempFile, until } from '../../helper.js'
import { create, ipRow } from '../contract.js'

t.test('a long sweep leaves the WAL as small as it was', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  for (let seq = 1; seq <= 80; seq++) {
    const rows = Array.from({ length: 500 }, (_, i) => ipRow({ at: seq * 1000 + i, path: `/${seq}/${i % 50}`, userAgent: `agent ${i % 20}` }))
    await storage.appendLog({ source: 'test', seq, at: 1, rows })
  }
  let frames = 0
  let freed = 0
  const look = async () => { frames = Math.max(frames, (await storage.stats()).files.log.walFrames) }
  for (let removed = 1000; removed === 1000; await look()) removed = await storage.sweep({ target: 'ipLogs', before: 1e9, limit: 1000, now: 1e9 })
  for (let left = Infinity; left > 0; await look()) {
    const { freedPages, remainingPages } = await storage.maintain({ pages: 100, optimize: false })
    freed += freedPages
    left = remainingPages
  }
  t.ok(freed > 300, `${freed} pages were given back`)
  t.ok(frames > 100 && frames < 2 * WAL_AUTOCHECKPOINT, `at most ${frames} frames`)
  t.ok(statSync(`${file.replace(/\.db$/, '-log.db')}-wal`).size < 2 * WAL_AUTOCHECKPOINT * 4200)
})

t.test('a reader that stays is seen in the statistics; when it has gone the WAL is cut, though nothing is written', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file, { walBacklogLimit: 100 })
  const reader = new Database(file, { readonly: true })
  t.teardown(() => reader.close())
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM sessions').get()
  for (let i = 0; i < 120; i++) await create(storage)
  await until(async () => (await storage.stats()).files.main.oldestReaderMs > 1100, 'the reader to be seen for longer than one look')
  const { walBacklog, walFrames } = (await storage.stats()).files.main
  t.ok(walBacklog > 100 && walFrames >= walBacklog)
  reader.exec('COMMIT')
  await until(() => statSync(`${file}-wal`).size === 0, 'the cut')
  t.match((await storage.stats()).files.main, { walFrames: 0, walBacklog: 0, oldestReaderMs: 0 })
})

t.test('what waits is told by lane while somebody holds the lock, and how long it was afterwards', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const holder = new Database(file, { timeout: 0 })
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const waiting = [create(storage), storage.touchSessions([{ sessionId: 'x', at: 1, ip: null, userAgent: 'a browser', flagged: false }]), storage.sweep({ target: 'blocks', before: 1, limit: 1, now: 1 })]
  await until(async () => ((await storage.stats()).files.main.busy['SQLITE_BUSY'] ?? 0) > 10, 'several attempts')
  const { lanes } = (await storage.stats()).files.main
  for (const [name, { operations, bytes }] of Object.entries(lanes)) {
    t.equal(operations, 1, name)
    t.ok(bytes > 30 && bytes < 2000, `${name}: ${bytes} bytes`)
  }
  holder.exec('COMMIT')
  await Promise.all(waiting)
  const { lockWaits, lockWaitMsBuckets } = (await storage.stats()).files.main
  t.equal(lockWaits, 1)
  t.same(lockWaitMsBuckets.find(([bound]) => bound === 5), [5, 0], 'more than ten attempts take longer than that')
  t.same(lockWaitMsBuckets.at(-1), [30_000, 1])
})
