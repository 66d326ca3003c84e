/** Files that are removed or replaced under a running process: nothing is acknowledged that nobody could find again, and nothing overwritten. */
import t, { type Test } from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { DoormanError } from '../../../errors.js'
import { assertSame, FileIdentity, identify } from '../../../storage/sqlite/file-identity.js'
import { ThreadClient } from '../../../storage/sqlite/thread-client.js'
import { openSqliteStorage, recordingLogger, tempFile, until } from '../../helper.js'
import { append, create, hashOf, ipRow, NOW } from '../contract.js'

const REPLACED = { code: 'DOORMAN_STORAGE_REPLACED' }
const logFile = (file: string) => file.replace(/\.db$/, '-log.db')

async function setUp (t: Test) {
  const file = tempFile()
  const fatal: DoormanError[] = []
  const log = recordingLogger()
  const storage = await openSqliteStorage(t, file, { log, onFatal: error => { fatal.push(error) } })
  const { tokenHash } = await create(storage)
  await append(storage, [ipRow()])
  return { file, fatal, log, storage, tokenHash }
}

/**
 * Checksums of what is in the folder; of an index, and of what is `ours` and still written to, only that it is there. By another process:
 * reading a file here would drop this process's locks on it.
 */
function contents (file: string, ours = '') {
  const names = readdirSync(dirname(file)).sort()
  return { names, sums: execFileSync('cksum', names.filter(name => !name.endsWith('-shm') && name !== basename(ours)), { cwd: dirname(file), encoding: 'utf8' }) }
}

t.test('the identity of a file', async t => {
  const file = join(t.testdir({ a: '', b: '', 'a-wal': '', 'a-shm': '' }), 'a')
  const known = identify(file)
  assertSame(file, known)
  const identity = new FileIdentity(file, known)
  identity.assertSame()
  writeFileSync(file, 'changed')
  identity.assertSame()
  t.throws(() => assertSame(file.replace(/a$/, 'b'), known), { ...REPLACED, message: /The file .*b was removed or replaced.*put the file back/ })
  t.throws(() => assertSame(file, undefined), REPLACED)
  rmSync(`${file}-shm`)
  t.throws(() => identity.assertSame(), { ...REPLACED, message: /a-shm was removed/ })
  t.equal(identify(`${file}-shm`), undefined)

  rmSync(file)
  symlinkSync(file, file)
  t.throws(() => identify(file), { code: 'ELOOP' })
  assertSame(file, known)
  t.pass('what cannot be looked at is not taken for another file')
})

const deeds: Record<string, (file: string) => void> = {
  'removed file': file => { rmSync(file) },
  'file replaced by a copy': file => {
    execFileSync('cp', [file, `${file}.copy`])
    renameSync(`${file}.copy`, file)
  },
  'removed WAL': file => { rmSync(`${file}-wal`) },
  'WAL of somebody else': file => {
    rmSync(`${file}-wal`)
    writeFileSync(`${file}-wal`, 'somebody else\'s')
  },
  'removed index': file => { rmSync(`${file}-shm`) }
}

for (const [name, which] of [['main', (file: string) => file], ['log', logFile]] as const) {
  // With and without a reader thread: whose connections are open decides what SQLite does at the end.
  for (const [what, deed, reader] of Object.entries(deeds).flatMap(([what, deed]) => [[what, deed, false], [what, deed, true]] as const)) {
    t.test(`${name}: ${what}${reader ? ', with a reader' : ''}`, async t => {
      const { file, fatal, log, storage, tokenHash } = await setUp(t)
      if (reader) await storage.listIpLogs({}, { limit: 1 })
      deed(which(file))
      const ours = what.includes('WAL') ? '' : `${which(file)}-wal`
      const before = contents(file, ours)
      const write: () => Promise<unknown> = name === 'main' ? () => create(storage, { id: 'other' }, { tokenHash: hashOf('other') }) : () => append(storage, [ipRow()], 'test', 2)
      await t.rejects(write, { ...REPLACED, statusCode: 503 })
      await until(() => fatal.length > 0, 'onFatal')
      t.match(fatal, [REPLACED])
      t.equal(storage.failure, fatal[0])
      t.match(storage.health(), { status: 'degraded', reasons: ['writer', ...reader ? ['reader'] : []].map(thread => `the ${thread} thread has failed (DOORMAN_STORAGE_REPLACED)`) })
      t.match(log.lines.filter(line => line.level === 'fatal'), [{ fields: { err: REPLACED } }])

      t.throws(() => storage.findSession(tokenHash, NOW), REPLACED, 'what nobody can reach is not read either')
      await t.rejects(storage.listBlocks(NOW), REPLACED)
      await t.rejects(storage.listIpLogs({}, { limit: 1 }), REPLACED)
      await t.rejects(storage.check(), REPLACED)
      await t.rejects(storage.endSessions({ userId: 'alice' }, 'revoked', NOW), REPLACED)
      await t.rejects(storage.stats(), REPLACED)
      t.same(await storage.close(1000), { notStored: 0 })
      t.same(contents(file, ours), before, 'what is there now is as it was')
      t.equal(fatal.length, 1)
    })
  }
}

t.test('it is noticed within a second when nothing is written', async t => {
  const { file, fatal, storage, tokenHash } = await setUp(t)
  t.match(storage.findSession(tokenHash, NOW), { state: 'live' })
  rmSync(file)
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  await until(() => fatal.length > 0, 'onFatal')
  t.throws(() => storage.findSession(tokenHash, NOW), REPLACED)
})

t.test('and before closing, which would copy the WAL back and remove whatever WAL is there', async t => {
  const { file, fatal, storage } = await setUp(t)
  for (const path of [file, logFile(file)]) deeds['WAL of somebody else']!(path)
  const before = contents(file)
  await storage.close(1000)
  t.same(contents(file), before)
  t.match(fatal, [REPLACED])
})

t.test('nobody has to listen', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  rmSync(file)
  await t.rejects(create(storage), REPLACED)
  await until(() => storage.failure !== undefined, 'the main thread to be told')
  t.match(storage.failure, REPLACED)
})

t.test('a writer thread that follows another creates and changes nothing where the file is not the same', async t => {
  const file = tempFile()
  const thread = new ThreadClient({
    name: 'writer',
    script: new URL('../../../storage/sqlite/writer-thread.js', import.meta.url),
    settings: { location: { main: file, log: logFile(file) }, busyTimeout: 100, identities: { main: { dev: 1n, ino: 1n }, log: undefined } },
    maxPending: 1,
    log: recordingLogger()
  })
  await t.rejects(thread.ready, REPLACED)
  t.notOk(existsSync(file))
})
