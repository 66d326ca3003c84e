/** A pinned reader is noticed, nobody waits for it, its end is noticed too, and the WAL is cut then, whether anything is written or not. */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { statSync } from 'node:fs'
import { cutWal, walState } from '../../../storage/sqlite/checkpoint.js'
import { Connection, WAL_AUTOCHECKPOINT } from '../../../storage/sqlite/connection.js'
import { CopyBack } from '../../../storage/sqlite/copy-back.js'
import type { WalNotice } from '../../../storage/sqlite/protocol.js'
import { Notices } from '../../../storage/sqlite/notices.js'
import { WalWatch, type WalWatchOptions } from '../../../storage/sqlite/wal-watch.js'
import { recordingLogger, tempFile, until } from '../../helper.js'

const PIN = 'SELECT count(*) FROM t'

function setUp (t: Test, options: Partial<WalWatchOptions> = {}) {
  const path = tempFile()
  const connection = new Connection({ path, role: 'writer', file: 'log' })
  connection.db.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)')
  const log = recordingLogger()
  const notices = new Notices(log)
  const seen: WalNotice[] = []
  const time = { now: 0 }
  // The watch's timer keeps nothing alive.
  const alive = setInterval(() => {}, 1000)
  const watch = new WalWatch({ connection, limit: 150, recheckMs: 5, now: () => time.now, notify: notice => { seen.push(notice); notices.add(notice) }, ...options })
  const readers: Database.Database[] = []
  t.teardown(async () => {
    clearInterval(alive)
    await watch.stop()
    for (const reader of readers) reader.close()
    connection.close()
  })
  /** A reader that has begun to read, and stays on that snapshot. */
  const pin = () => {
    const reader = new Database(path, { readonly: true })
    readers.push(reader)
    reader.exec('BEGIN')
    reader.prepare(PIN).get()
    return { leave () { reader.exec('COMMIT') } }
  }
  /** Looks and PASSIVE checkpoints so far; `fail` makes the next ones throw. */
  const pragmas = { count: 0, fail: null as Error | null }
  const get = connection.get.bind(connection)
  connection.get = (...args) => {
    pragmas.count++
    if (pragmas.fail !== null) throw pragmas.fail
    return get(...args)
  }
  const commit = (n: number) => {
    for (let i = 0; i < n; i++) {
      connection.run('INSERT INTO t VALUES (1)')
      watch.committed()
    }
  }
  const looks = async (n: number) => {
    const before = pragmas.count
    await until(() => pragmas.count >= before + n, `${n} looks`)
  }
  const walBytes = () => statSync(`${path}-wal`).size
  return { path, connection, watch, log, notices, seen, time, pin, commit, looks, walBytes, pragmas }
}

t.test('from the first growth to the end', async t => {
  const { path, log, notices, seen, time, pin, commit, looks, walBytes, watch } = setUp(t)
  const reader = pin()
  commit(100)
  t.same(seen, [], 'a hundred frames are nothing yet')
  t.equal(watch.figures().oldestReaderMs, 0)
  commit(100)
  t.match(seen, [{ file: 'log', state: 'pinned' }])
  t.ok(seen[0]!.walBacklog >= 150)
  commit(300)
  t.equal(seen.length, 1, 'said once')
  t.match(notices.reasons(), [/pinned reader makes the WAL of the log file grow/])
  t.ok(walBytes() > 500 * 4096)
  time.now = 1234
  const { walFrames: grown, oldestReaderMs } = watch.figures()
  t.ok(grown > 500)
  t.equal(oldestReaderMs, 1234)
  await looks(3)
  t.equal(seen.length, 1, 'not yet')
  t.ok(walBytes() > 500 * 4096)
  reader.leave()
  await until(() => seen.length === 3)
  t.match(seen.slice(1), [{ state: 'released', walBacklog: 0 }, { state: 'cut', walFrames: grown, walBytes: grown * 4096 }])
  t.equal(walBytes(), 0, 'cut, though nothing was written')
  t.match(watch.figures(), { walFrames: 0, walBacklog: 0, oldestReaderMs: 0 })
  t.same(notices.reasons(), [])
  t.match(log.lines, [
    { level: 'warn', fields: { file: 'log', path, walFrames: Number, walBacklog: Number, walBytes: Number, oldestReaderMs: 0 }, message: /reader stays on an old snapshot/ },
    { level: 'info', message: /reader is gone/ },
    { level: 'info', message: /was cut/ }
  ])
  commit(100)
  t.equal(seen.length, 3, 'all is well')
})

t.test('what is read only now keeps the file from being cut, and stops nobody', async t => {
  const { seen, pin, commit, looks, walBytes, connection } = setUp(t)
  const old = pin()
  commit(300)
  const fresh = pin()
  old.leave()
  await until(() => seen.at(-1)?.state === 'released')
  await looks(4)
  t.ok(walBytes() > 300 * 4096, 'refused, and tried again')
  t.equal(seen.length, 2)
  const before = performance.now()
  t.equal(cutWal(connection), false)
  t.ok(performance.now() - before < 500, 'at once')
  fresh.leave()
  await until(() => seen.at(-1)?.state === 'cut')
  t.equal(walBytes(), 0)
})

t.test('it is cut although a commit has started it anew before', async t => {
  const { connection, pin, commit, walBytes, seen } = setUp(t)
  const reader = pin()
  commit(200)
  reader.leave()
  connection.db.pragma('wal_checkpoint(PASSIVE)')
  commit(1)
  t.ok(walState(connection).frames < 10, 'anew')
  t.ok(walBytes() > 0)
  await until(() => walBytes() === 0, 'the cut')
  t.match(seen.at(-1), { state: 'cut', walBacklog: 0 })
})

t.test('one reader after another: the time is that of the one who is there', async t => {
  const { watch, time, pin, commit, looks } = setUp(t, { limit: 20_000 })
  const first = pin()
  commit(WAL_AUTOCHECKPOINT + 100)
  const { walFrames, walBacklog, oldestReaderMs } = watch.figures()
  t.ok(walFrames > WAL_AUTOCHECKPOINT + 100 && walBacklog >= WAL_AUTOCHECKPOINT + 100)
  t.equal(oldestReaderMs, 0)
  time.now = 5000
  commit(10)
  t.equal(watch.figures().oldestReaderMs, 5000)
  const second = pin()
  commit(10)
  first.leave()
  time.now = 6000
  commit(1)
  const held = watch.figures()
  t.equal(held.oldestReaderMs, 0, 'copied back up to the second one')
  t.ok(held.walBacklog < 20)
  time.now = 7000
  t.equal(watch.figures().oldestReaderMs, 1000)
  second.leave()
  await looks(1)
  t.match(watch.figures(), { walBacklog: 0, oldestReaderMs: 0 }, 'all copied back, though nobody wrote')
})

t.test('a WAL that started anew under another reader', async t => {
  const { watch, time, pin, commit, connection } = setUp(t, { recheckMs: 60_000 })
  pin()
  commit(200)
  const { copied } = walState(connection)
  time.now = 5000
  t.equal(watch.figures().oldestReaderMs, 5000)
  // The same position, fewer frames: as it looks when the WAL started anew between two looks.
  connection.get = <Row>() => ({ log: 180, checkpointed: copied }) as Row
  t.equal(watch.figures().oldestReaderMs, 0)
})

t.test('without a reader nothing is said, whatever is written', async t => {
  const { watch, seen, commit, looks, pragmas } = setUp(t, { limit: 20_000 })
  commit(2.5 * WAL_AUTOCHECKPOINT)
  t.ok(watch.figures().walFrames < WAL_AUTOCHECKPOINT + 100)
  await looks(1)
  const { count } = pragmas
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(pragmas.count, count, 'and nothing is looked for when nothing is written')
  t.same(seen, [])
})

t.test('a file that cannot be read or written now ends nothing', async t => {
  const { watch, seen, pin, commit, looks, pragmas } = setUp(t)
  const reader = pin()
  commit(300)
  t.equal(seen.length, 1)
  pragmas.fail = Object.assign(new Error('disk full'), { code: 'SQLITE_FULL' })
  await looks(3)
  commit(100)
  t.throws(() => watch.figures(), { code: 'SQLITE_FULL' }, 'who asks is told')
  pragmas.fail = null
  reader.leave()
  await until(() => seen.at(-1)?.state === 'cut', 'all to be well again')
})

t.test('before there is a WAL', async t => {
  const connection = new Connection({ path: tempFile(), role: 'writer', file: 'main' })
  t.teardown(() => connection.close())
  t.same(walState(connection), { frames: 0, copied: 0 })
})

t.test('a WAL that has grown large is copied back by a thread beside the writer, until little is left', async t => {
  const { seen, pin, commit, walBytes, watch } = setUp(t, { limit: 20_000, recheckMs: 20 })
  const reader = pin()
  commit(2000)
  reader.leave()
  commit(1)
  t.equal(watch.figures().walBacklog, 0, 'up to 4000 frames the writer does it itself')
  const other = pin()
  commit(4200)
  t.ok(watch.figures().walBacklog >= 4000)
  other.leave()
  commit(3)
  t.ok(watch.figures().walBacklog >= 4000, 'these commits copy nothing back')
  await until(() => watch.figures().walBacklog === 0, 'the thread to do it')
  await until(() => seen.at(-1)?.state === 'cut')
  t.equal(walBytes(), 0)
  t.same(seen.map(({ state }) => state), ['cut'], 'far from the limit nothing needs to be said')

  const again = pin()
  commit(4200)
  await watch.stop()
  again.leave()
})

t.test('the thread that copies back: one that fails is followed by another, and what it meets ends nothing', async t => {
  const path = tempFile('missing.db')
  const broken = new CopyBack({ path: `${path}/nowhere`, file: 'log', everyMs: 5 })
  broken.start()
  broken.start()
  await until(() => !broken.running, 'it to fail')
  broken.start()
  t.equal(broken.running, true)
  await broken.stop()
  await broken.stop()

  const writer = new Connection({ path, role: 'writer', file: 'log' })
  writer.db.exec('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)')
  const copying = new CopyBack({ path, file: 'log', everyMs: 5 })
  copying.start()
  for (let i = 0; i < 1500; i++) writer.run('INSERT INTO t VALUES (1)')
  await until(() => { const { frames, copied } = walState(writer); return frames > 1500 && frames === copied }, 'everything to be copied back')
  await copying.stop()
  t.equal(copying.running, false)
  writer.close()
})
