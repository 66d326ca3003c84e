/** Damage found at the start or in operation: it stops with a code and with what to do, and nothing is overwritten. */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openStorage } from '../../../storage/open.js'
import { openSqliteStorage, recordingLogger, tempFile } from '../../helper.js'
import { append, create, hashOf, ipRow, NOW } from '../contract.js'

const TOKEN = hashOf('a token')
const logFile = (file: string) => file.replace(/\.db$/, '-log.db')

/** Everything in the folder, by name. Nothing is open when it is called. */
const contents = (file: string) => Object.fromEntries(readdirSync(dirname(file)).map(name => {
  const path = join(dirname(file), name)
  return [name, statSync(path).isFile() ? readFileSync(path).toString('latin1') : 'no file']
}))

async function refused (t: Test, file: string, code: string, message: RegExp) {
  const before = contents(file)
  await t.rejects(openStorage({ url: `file:${file}`, logUrl: null, busyTimeout: 100, maxPending: 1, log: recordingLogger() }), { code, message })
  t.same(contents(file), before, 'nothing was changed, nothing is left behind')
}

async function closed (t: Test): Promise<string> {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  await create(storage, {}, { tokenHash: TOKEN })
  await append(storage, [ipRow()])
  await storage.close(5000)
  return file
}

/** The files as a crash leaves them: a WAL that holds what was committed. */
async function crashed (t: Test): Promise<string> {
  const dir = t.testdir({ running: {} })
  const storage = await openSqliteStorage(t, join(dir, 'running', 'doorman.db'))
  await create(storage)
  cpSync(join(dir, 'running'), join(dir, 'copy'), { recursive: true })
  await storage.close(5000)
  return join(dir, 'copy', 'doorman.db')
}

function overwrite (file: string, from: number, length: number, byte = 0x41): void {
  const bytes = readFileSync(file)
  bytes.fill(byte, from, from + length)
  writeFileSync(file, bytes)
}

t.test('at the start', async t => {
  for (const [name, which] of [['main', (file: string) => file], ['log', logFile]] as const) {
    const cases: Record<string, [damage: (path: string) => void, code: string, message: RegExp]> = {
      'a damaged head': [path => { overwrite(path, 0, 100) }, 'DOORMAN_NOT_A_DATABASE', /is not a SQLite database, or is damaged at its head\. It was left untouched: move it away, or restore a backup/],
      'a damaged schema': [path => { overwrite(path, 100, 3000) }, 'DOORMAN_STORAGE_CORRUPT', /SQLITE_CORRUPT, .*doorman(-log)?\.db\): stop the service.*restore a backup/],
      'a truncated file': [path => { truncateSync(path, 8192) }, 'DOORMAN_STORAGE_CORRUPT', /SQLITE_CORRUPT, .*doorman(-log)?\.db\)/],
      'a file cut within a page': [path => { truncateSync(path, 10_000) }, 'DOORMAN_STORAGE_CORRUPT', /SQLITE_CORRUPT, .*doorman(-log)?\.db\)/],
      'no database': [path => { writeFileSync(path, 'this is not a database, '.repeat(100)) }, 'DOORMAN_NOT_A_DATABASE', /move it away/],
      'a directory': [path => { rmSync(path); mkdirSync(path) }, 'DOORMAN_DATABASE_UNOPENABLE', /it is a directory; name a file/]
    }
    for (const [what, [damage, code, message]] of Object.entries(cases)) {
      await t.test(`${name}: ${what}`, async t => {
        const file = await closed(t)
        damage(which(file))
        await refused(t, file, code, message)
      })
    }
  }

  t.test('a directory in place of the log, and no main file yet: none is made', async t => {
    const file = tempFile()
    mkdirSync(logFile(file))
    await refused(t, file, 'DOORMAN_DATABASE_UNOPENABLE', /it is a directory/)
  })
})

t.test('after a crash, files that belong together', async t => {
  t.test('are recovered', async t => {
    const storage = await openSqliteStorage(t, await crashed(t))
    t.equal((await storage.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 1)
  })
  for (const gone of [rmSync, (path: string) => { truncateSync(path, 0) }]) {
    t.test('the file is gone, its WAL is not', async t => {
      const file = await crashed(t)
      gone(file)
      await refused(t, file, 'DOORMAN_DATABASE_UNOPENABLE', /it is missing or empty, but its -wal holds data\. Put the file back/)
    })
  }
  t.test('the WAL is gone', async t => {
    const file = await crashed(t)
    rmSync(`${file}-wal`)
    await refused(t, file, 'DOORMAN_DATABASE_UNOPENABLE', /its -wal is missing.*Put the -wal back; or, to go on without the last commits, remove the -shm/)
    rmSync(`${file}-shm`)
    await openSqliteStorage(t, file)
  })
})

/** Makes one table's or index's first page unreadable. */
function damage (file: string, name: string): void {
  const db = new Database(file, { readonly: true })
  const page = db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = ?').pluck().get(name) as number
  const pageSize = db.pragma('page_size', { simple: true }) as number
  db.close()
  overwrite(file, (page - 1) * pageSize, pageSize, 0xff)
}

t.test('in operation: who meets it is told, and health is degraded from then on', async t => {
  t.test('a list', async t => {
    const file = await closed(t)
    damage(file, 'sessions_by_ip')
    const log = recordingLogger()
    const storage = await openSqliteStorage(t, file, { log })
    t.same(storage.health(), { status: 'ok' }, 'nobody has met it yet')
    const list = () => storage.listSessions({ ip: '192.0.2.7', now: NOW, idleBefore: 0, limit: 10 })
    await t.rejects(list, { code: 'DOORMAN_STORAGE_CORRUPT', statusCode: 503, message: /doorman doctor/ })
    t.same(storage.health(), { status: 'degraded', reasons: ['a damaged part of the database was met'] })
    await t.rejects(list, { code: 'DOORMAN_STORAGE_CORRUPT' })
    t.match(log.lines, [{ level: 'error', fields: { err: { code: 'DOORMAN_STORAGE_CORRUPT' } }, message: /doorman doctor.*restore a backup/ }])
    t.equal(log.lines.length, 1, 'said once')
    t.equal(storage.failure, undefined, 'and the rest goes on')
  })
  for (const tree of ['sqlite_autoindex_sessions_1', 'sessions']) {
    t.test(`a check of a session, and the probe of checks: ${tree}`, async t => {
      const file = await closed(t)
      damage(file, tree)
      const storage = await openSqliteStorage(t, file)
      t.throws(() => storage.findSession(TOKEN, NOW), { code: 'DOORMAN_STORAGE_CORRUPT' })
      t.throws(() => storage.probeSessions(), { code: 'DOORMAN_STORAGE_CORRUPT' })
      t.match(storage.health(), { status: 'degraded' })
    })
  }
})
