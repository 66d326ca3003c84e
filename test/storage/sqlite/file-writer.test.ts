/** Group commit, lanes and the lock wait, on a real file with a real second connection. */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { performance } from 'node:perf_hooks'
import { Connection } from '../../../storage/sqlite/connection.js'
import { FileWriter } from '../../../storage/sqlite/file-writer.js'
import type { WriteOperation } from '../../../storage/sqlite/lanes.js'
import { LockWatch } from '../../../storage/sqlite/lock-watch.js'
import type { LockNotice, WireReply } from '../../../storage/sqlite/protocol.js'
import { doormanError } from '../../../errors.js'
import { tempFile, until } from '../../helper.js'

const insert: WriteOperation = { lane: 'interactive', run: (c, n: number) => c.run('INSERT INTO t (n) VALUES (?)', n).changes }
const bulk: WriteOperation = { ...insert, lane: 'bulk', rows: () => 10 }
const upkeep: WriteOperation = { ...insert, lane: 'maintenance' }

function setUp (t: Test, busyTimeout = 5000) {
  const path = tempFile()
  const connection = new Connection({ path, role: 'writer', file: 'main' })
  connection.db.pragma('journal_mode = WAL')
  connection.db.exec('CREATE TABLE t (n INTEGER NOT NULL CHECK (n >= 0))')
  const groups: WireReply[][] = []
  const state = { rollbacks: 0, commits: 0, lost: false }
  const notices: LockNotice[] = []
  const lock = new LockWatch({ connection, notify: notice => { notices.push(notice) }, now: () => performance.now(), busyTimeout })
  const writer = new FileWriter({
    connection,
    busyTimeout,
    reply (replies) { if (replies.length > 0) groups.push(replies) },
    rolledBack () { state.rollbacks++ },
    committed () { state.commits++ },
    assertSame () { if (state.lost) throw doormanError('DOORMAN_STORAGE_REPLACED', [path]) },
    deadLetters: () => 3,
    lock,
    wal: () => ({ walFrames: 6, walBacklog: 5, oldestReaderMs: 4, checkpointMsMax: 7 }),
    now: () => performance.now(),
    random: Math.random
  })
  const other = new Database(path, { timeout: 0 })
  t.teardown(() => { connection.close(); other.close() })
  const replies = () => groups.flat()
  const rows = () => other.prepare('SELECT n FROM t ORDER BY rowid').pluck().all()
  const settled = (n: number) => until(() => replies().length === n, `${n} replies`)
  return { writer, connection, other, groups, replies, rows, settled, state, notices }
}

t.test('everything that waits goes into one transaction; lanes have their order', async t => {
  const { writer, groups, rows, settled, state } = setUp(t)
  writer.submit(1, upkeep, 100 as never)
  writer.submit(2, upkeep, 101 as never)
  for (let i = 0; i < 6; i++) writer.submit(10 + i, bulk, (50 + i) as never)
  for (let i = 0; i < 3; i++) writer.submit(20 + i, insert, i as never)
  t.equal(writer.waiting, 11)
  t.same(writer.stats().lanes, { interactive: { operations: 3, bytes: 48 }, bulk: { operations: 6, bytes: 96 }, maintenance: { operations: 2, bytes: 32 } }, '16 bytes per number')
  await settled(11)
  t.same(rows(), [0, 1, 2, 50, 51, 52, 53, 54, 55, 100, 101])
  t.same(groups.map(group => group.length), [9, 1, 1], 'interactive and bulk, maintenance alone')
  t.equal(state.commits, 3)
  const stats = writer.stats()
  t.match(stats, { commits: 3, rows: 3 + 60 + 2, lockWaits: 0, deadLetters: 3, freePages: 0, walFrames: 6, walBacklog: 5, oldestReaderMs: 4, checkpointMsMax: 7 })
  t.match(stats.rowsPerCommitBuckets, [[1, 2], [2, 2], [5, 2], [10, 2], [20, 2], [50, 2], [100, 3]])
  t.ok(stats.pageCount > 0)
})

t.test('a transaction stays short, however many wait', async t => {
  const { writer, groups, settled } = setUp(t)
  const batch: WriteOperation = { ...bulk, rows: () => 900 }
  for (let i = 0; i < 700; i++) writer.submit(i, insert, i as never)
  for (let i = 0; i < 4; i++) writer.submit(1000 + i, batch, i as never)
  await settled(704)
  t.same(groups.map(group => group.length), [503, 201])
})

t.test('operations that may end the transaction have one of their own', async t => {
  const { writer, groups, rows, replies, settled } = setUp(t)
  const host: WriteOperation = { lane: 'interactive', alone: true, run: (c, n: number) => c.run('INSERT OR ROLLBACK INTO t (n) VALUES (?)', n).changes }
  writer.submit(1, insert, 1 as never)
  writer.submit(2, host, -5 as never)
  writer.submit(3, host, 5 as never)
  writer.submit(4, insert, 2 as never)
  await settled(4)
  t.same(groups.map(group => group.map(reply => reply.id)), [[1], [2], [3], [4]])
  t.match(replies()[1], { ok: false, error: { code: 'DOORMAN_CONSTRAINT' } })
  t.same(rows(), [1, 5, 2])
})

t.test('a failing operation fails alone', async t => {
  const { writer, groups, rows, settled, state } = setUp(t)
  for (const n of [1, -1, 2]) writer.submit(n, insert, n as never)
  await settled(3)
  t.equal(groups.length, 1)
  t.match(groups[0], [{ id: 1, ok: true, value: 1 }, { id: -1, ok: false, error: { code: 'DOORMAN_CONSTRAINT' } }, { id: 2, ok: true }])
  t.same(rows(), [1, 2])
  t.equal(state.rollbacks, 2, 'of all three, and of the second alone when they ran again')
})

t.test('beside one that fails: one that ends the transaction, or says that nothing of it can be kept', async t => {
  const { writer, groups, rows, settled } = setUp(t)
  const rude: WriteOperation = { lane: 'interactive', run: (c, n: number) => c.run('INSERT OR ROLLBACK INTO t (n) VALUES (?)', n) }
  const full: WriteOperation = { lane: 'interactive', run () { throw Object.assign(new Database.SqliteError('no space', 'SQLITE_FULL')) } }
  for (const n of [1, -1, 2]) writer.submit(n, insert, n as never)
  writer.submit(3, rude, -3 as never)
  await settled(4)
  t.match(groups.flat().sort((a, b) => a.id - b.id), [{ id: -1, ok: false }, { id: 1, ok: true }, { id: 2, ok: true }, { id: 3, ok: false, error: { code: 'DOORMAN_CONSTRAINT' } }])
  t.same(rows(), [1, 2])
  for (const n of [4, -4]) writer.submit(n, insert, n as never)
  writer.submit(5, full, 5 as never)
  await settled(7)
  t.match(groups.at(-1), [{ id: 4, ok: false, error: { code: 'DOORMAN_STORAGE_FULL' } }, { id: -4, ok: false }, { id: 5, ok: false }])
  t.same(rows(), [1, 2])
})

t.test('one that fails by itself runs once', async t => {
  const { writer, groups, rows, settled, state } = setUp(t)
  writer.submit(1, insert, -1 as never)
  await settled(1)
  t.match(groups, [[{ id: 1, ok: false, error: { code: 'DOORMAN_CONSTRAINT' } }]])
  t.same([rows(), state.rollbacks], [[], 1])
})

t.test('one that ends the transaction fails alone, too; the others run again, in their order', async t => {
  const { writer, groups, rows, settled } = setUp(t)
  const rude: WriteOperation = { lane: 'interactive', run: (c, n: number) => c.run('INSERT OR ROLLBACK INTO t (n) VALUES (?)', n) }
  writer.submit(1, insert, 1 as never)
  writer.submit(2, rude, -1 as never)
  writer.submit(3, insert, 3 as never)
  writer.submit(4, bulk, 4 as never)
  await settled(4)
  t.match(groups, [[{ id: 2, ok: false, error: { code: 'DOORMAN_CONSTRAINT' } }], [{ id: 1, ok: true }, { id: 3, ok: true }, { id: 4, ok: true }]])
  t.same(rows(), [1, 3, 4])
})

t.test('one that knows better the next time runs again', async t => {
  const { writer, groups, rows, settled } = setUp(t)
  let value = -1
  const learning: WriteOperation = { lane: 'bulk', run: c => c.run('INSERT OR ROLLBACK INTO t (n) VALUES (?)', value).changes, again: () => value++ < 0 }
  writer.submit(1, insert, 1 as never)
  writer.submit(2, learning, null as never)
  await settled(2)
  t.match(groups, [[{ id: 1, ok: true }, { id: 2, ok: true }]])
  t.same(rows(), [1, 0])
})

t.test('a foreign lock is waited for without blocking the thread, and counted', async t => {
  const { writer, other, rows, replies, settled } = setUp(t)
  other.exec('BEGIN IMMEDIATE')
  writer.submit(1, insert, 1 as never)
  // Each turn of the loop below proves that the wait left it free.
  await until(() => (writer.stats().busy['SQLITE_BUSY'] ?? 0) > 5, 'several attempts')
  t.equal(replies().length, 0)
  writer.submit(2, insert, 2 as never)
  other.exec('COMMIT')
  await settled(2)
  t.same(rows(), [1, 2])
  const { lockWaits, lockWaitMsMax, lockWaitMsTotal, busy } = writer.stats()
  t.equal(lockWaits, 1)
  t.ok(lockWaitMsMax > 0 && lockWaitMsTotal >= lockWaitMsMax)
  const buckets = writer.stats().lockWaitMsBuckets
  t.same(buckets.map(([bound]) => bound), [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000])
  for (const [bound, count] of buckets) t.equal(count, lockWaitMsMax <= bound ? 1 : 0)
  t.ok(busy['SQLITE_BUSY']! > 5)
})

t.test('whoever waited too long is told, whoever came later goes on waiting', async t => {
  const { writer, other, rows, replies, settled } = setUp(t, 300)
  other.exec('BEGIN IMMEDIATE')
  writer.submit(1, insert, 1 as never)
  writer.submit(2, bulk, 2 as never)
  await settled(2)
  t.match(replies(), [{ id: 1, ok: false, error: { code: 'DOORMAN_STORAGE_BUSY', statusCode: 503, message: /300 ms/ } }, { id: 2, ok: false }])
  const { lockWaits, lockWaitMsTotal } = writer.stats()
  t.equal(lockWaits, 2, 'each of them counts')
  t.ok(lockWaitMsTotal >= 550, 'with all of its wait')
  writer.submit(3, insert, 3 as never)
  other.exec('COMMIT')
  await settled(3)
  t.same(rows(), [3], 'nothing half-done of the others')
  t.ok(writer.stats().lockWaitMsTotal < lockWaitMsTotal + 250, 'who comes later has not waited for what they waited')
})

t.test('no space: the whole group fails and leaves nothing; with space again all is well', async t => {
  const { writer, connection, rows, replies, settled, state } = setUp(t)
  const big: WriteOperation = { lane: 'interactive', run: (c, n: number) => { for (let i = 0; i < 2000; i++) c.run('INSERT INTO t (n) VALUES (?)', n) } }
  connection.db.pragma(`max_page_count = ${connection.number('page_count')}`)
  writer.submit(1, insert, 1 as never)
  writer.submit(2, big, 2 as never)
  await settled(2)
  t.match(replies(), [{ id: 1, ok: false, error: { code: 'DOORMAN_STORAGE_FULL' } }, { id: 2, ok: false, error: { code: 'DOORMAN_STORAGE_FULL' } }])
  t.same(rows(), [])
  t.ok(state.rollbacks > 0)
  connection.db.pragma('max_page_count = 1000000')
  writer.submit(3, big, 3 as never)
  await settled(3)
  t.equal(rows().length, 2000)
})

t.test('a transaction that SQLite has rolled back by itself is not rolled back twice', async t => {
  const { writer, replies, rows, settled } = setUp(t)
  const full: WriteOperation = { lane: 'interactive', run: c => { c.db.exec('ROLLBACK'); throw Object.assign(new Error('full'), { code: 'SQLITE_FULL' }) } }
  writer.submit(1, insert, 1 as never)
  writer.submit(2, full, null as never)
  await settled(2)
  t.match(replies(), [{ error: { code: 'DOORMAN_STORAGE_FULL' } }, { error: { code: 'DOORMAN_STORAGE_FULL' } }])
  t.same(rows(), [])
})

t.test('an input/output error in the middle rolls everything back', async t => {
  const { writer, replies, rows, settled } = setUp(t)
  const broken: WriteOperation = { lane: 'interactive', run () { throw Object.assign(new Error('disk'), { code: 'SQLITE_IOERR_WRITE' }) } }
  writer.submit(1, insert, 1 as never)
  writer.submit(2, broken, null as never)
  await settled(2)
  t.match(replies(), [{ error: { code: 'DOORMAN_STORAGE_IO' } }, { error: { code: 'DOORMAN_STORAGE_IO' } }])
  t.same(rows(), [])
})

t.test('operations outside a transaction', async t => {
  const { writer, replies, settled } = setUp(t)
  const bare = (run: WriteOperation['run']): WriteOperation => ({ lane: 'maintenance', bare: true, run })
  writer.submit(1, bare(c => c.db.inTransaction), null as never)
  writer.submit(2, bare(() => { throw new TypeError('no') }), null as never)
  writer.submit(3, insert, 1 as never)
  await settled(3)
  t.match(replies(), [{ id: 3, ok: true }, { id: 1, ok: true, value: false }, { id: 2, ok: false, error: { code: 'DOORMAN_SQL_INVALID' } }])
})

t.test('a transaction that cannot be begun fails what waits', async t => {
  const { writer, connection, replies, settled } = setUp(t)
  connection.db.exec('BEGIN')
  writer.submit(1, insert, 1 as never)
  await settled(1)
  t.match(replies(), [{ ok: false, error: { code: 'DOORMAN_SQL_INVALID' } }])
  connection.db.exec('ROLLBACK')
})

t.test('what is abandoned is told so', async t => {
  const { writer, other, replies } = setUp(t)
  other.exec('BEGIN IMMEDIATE')
  writer.submit(1, insert, 1 as never)
  writer.submit(2, upkeep, 2 as never)
  writer.abandon(doormanError('DOORMAN_STORAGE_CLOSED'))
  t.match(replies(), [{ id: 1, error: { code: 'DOORMAN_STORAGE_CLOSED' } }, { id: 2 }])
  t.equal(writer.waiting, 0)
  other.exec('ROLLBACK')
})

t.test('many statements: the cache is bounded', async t => {
  const { connection } = setUp(t)
  t.equal(Array.from({ length: 600 }, (_, i) => connection.get<{ i: number }>(`SELECT ${i} AS i`)?.i).filter((n, i) => n === i).length, 600)
})

t.test('a commit into a file that is not ours any more is not acknowledged', async t => {
  const { writer, replies, settled, state } = setUp(t)
  state.lost = true
  writer.submit(1, insert, 1 as never)
  writer.submit(2, bulk, 2 as never)
  await settled(2)
  t.match(replies(), [{ id: 1, ok: false, error: { code: 'DOORMAN_STORAGE_REPLACED' } }, { id: 2, ok: false, error: { code: 'DOORMAN_STORAGE_REPLACED' } }])
  t.equal(state.commits, 0)
})

t.test('a lock held for long is told once, and its end, whether or not anybody still waits for it', async t => {
  const { writer, other, settled, replies, notices } = setUp(t, 60)
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  other.exec('BEGIN IMMEDIATE')
  writer.submit(1, insert, 1 as never)
  await settled(1)
  t.match(replies(), [{ id: 1, ok: false, error: { code: 'DOORMAN_STORAGE_BUSY' } }])
  t.match(notices, [{ state: 'locked', file: 'main', path: String, waitedMs: Number }])
  t.ok(notices[0]!.waitedMs >= 30)
  writer.submit(2, insert, 2 as never)
  await settled(2)
  t.equal(notices.length, 1, 'once')
  other.exec('ROLLBACK')
  await until(() => notices.length === 2, 'the end of the lock, which nobody waits for')
  t.match(notices[1], { state: 'unlocked' })

  other.exec('BEGIN IMMEDIATE')
  writer.submit(3, insert, 3 as never)
  await settled(3)
  writer.submit(4, { ...insert, wait: () => 5000 }, 4 as never)
  other.exec('ROLLBACK')
  await settled(4)
  t.match(replies()[3], { id: 4, ok: true })
  t.same(notices.slice(2).map(({ state }) => state), ['locked', 'unlocked'])

  other.exec('BEGIN IMMEDIATE')
  writer.submit(5, insert, 5 as never)
  await settled(5)
  await new Promise(resolve => setTimeout(resolve, 1100))
  writer.abandon(doormanError('DOORMAN_STORAGE_CLOSED'))
  other.exec('ROLLBACK')
})
