/** What only SQLite has: two files, connections and their settings, opening and its refusals, locks, other processes. */
import t from 'tap'
import Database from 'better-sqlite3'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSqliteStorage, recordingLogger, tempFile, until } from '../../helper.js'
import { IP_SOURCES } from '../../../lib/vocabulary.js'
import { openStorage } from '../../../storage/open.js'
import { appliedMigrations } from '../../../storage/sqlite/migrate.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { mainMigrations } from '../../../storage/sqlite/schema-main.js'
import { append, create, cutoffs, DAY, hashOf, ipRow, NOW } from '../contract.js'

const logFile = (file: string) => file.replace(/\.db$/, '-log.db')

t.test('connection settings: read back on every connection of the process', async t => {
  const storage = await openSqliteStorage(t, tempFile(), { busyTimeout: 30_000 })
  const connections = await storage.connections()
  t.same(connections.map(({ role, file, readonly }) => [role, file, readonly]), [
    ['main-reader', 'main', true], ['writer', 'main', false], ['writer', 'log', false], ['reader', 'main', true], ['reader', 'log', true], ['main-reader', 'log', true]
  ])
  for (const { role, file, pragmas, busyWaitMs } of connections) {
    t.match(pragmas, {
      journal_mode: 'wal',
      synchronous: 1,
      cache_size: 10_000,
      temp_store: 2,
      foreign_keys: 1,
      trusted_schema: 0,
      mmap_size: 0,
      auto_vacuum: 2,
      journal_size_limit: 16 * 1024 * 1024
    }, `${role} ${file}`)
    t.equal(pragmas['busy_timeout'], role === 'reader' ? 5000 : 0, 'SQLite\'s own, blocking wait is only where blocking does no harm')
    t.equal(busyWaitMs, { 'main-reader': 0, writer: 30_000, reader: 5000 }[role])
  }
  t.equal(connections[1]!.pragmas['wal_autocheckpoint'], 0, 'copying back is not part of a COMMIT')
  t.same([connections[1]!.pragmas['secure_delete'], connections[2]!.pragmas['secure_delete']], [1, 2], 'deleted bytes are overwritten')
  await storage.check()
  t.equal((await storage.connections()).length, 8, 'the second reader as well, once it was needed')
})

t.test('two files, readable by anybody with sqlite3 under the names of the contract', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const { record } = await create(storage)
  await append(storage, [ipRow({ ip: '198.51.100.200', sessionId: record.id, userId: 'ada' })])
  const main = new Database(file, { readonly: true })
  const log = new Database(logFile(file), { readonly: true })
  t.teardown(() => { main.close(); log.close() })
  t.match(main.prepare('SELECT * FROM sessions').all(), [{ id: record.id, user_id: 'ada', created_at: NOW }])
  t.match(log.prepare('SELECT * FROM ip_logs').all(), [{
    at: NOW, ip: '198.51.100.200', method: 'GET', path: '/hello', route: '/:name', status: 200, duration_us: 1234, user_agent: 'curl/8', session_id: record.id, user_id: 'ada', request_id: 'req-1', outcome: 'replied'
  }])
  const tables = (db: Database.Database) => db.prepare('SELECT name FROM sqlite_schema WHERE type IN (\'table\', \'view\') ORDER BY name').pluck().all()
  t.match(tables(main).join(), /cleanup_runs.*ip_blocks.*leases.*sessions/)
  t.match(tables(log).join(), /dead_letters.*ip_logs.*user_activity/)
  const strict = main.pragma('table_list') as { name: string, strict: number, schema: string }[]
  t.ok(strict.filter(table => table.schema === 'main' && !table.name.startsWith('sqlite_')).every(table => table.strict === 1), 'all tables are STRICT')
})

t.test('a log of before trusted hops were counted: its rows are there, with none; newer ones say theirs, in no more space', async t => {
  const file = tempFile()
  const old = await openFile({ path: logFile(file), file: 'log', migrations: logMigrations.slice(0, 1), busyTimeout: 1000 })
  old.db.exec('INSERT INTO texts (id, kind, hash, last_day, text) VALUES (1, 0, 0, 0, \'/old\')')
  for (const source of IP_SOURCES.keys()) {
    old.run('INSERT INTO ip_log_rows (id, ip, ip_source, method, path_ref, status, duration_us, outcome) VALUES (?, ?, ?, ?, 1, 200, 5, 0)', (NOW - 10 + source) * 1024, 0xc0000201, source, 'GET')
  }
  const columns = (table: string) => old.all<{ name: string }>('SELECT name FROM pragma_table_info(?)', table).map(({ name }) => name)
  const [rowsBefore, viewBefore] = [columns('ip_log_rows'), columns('ip_logs')]
  t.notOk(viewBefore.includes('trusted_hops'))

  const storage = await openSqliteStorage(t, file)
  t.same(appliedMigrations(old), logMigrations.map(({ name }) => name))
  t.same([columns('ip_log_rows'), columns('ip_logs')], [rowsBefore, [...viewBefore, 'trusted_hops']])
  await append(storage, IP_SOURCES.map((ipSource, i) => ipRow({ ipSource, trustedHops: [0, 1, 7, 8, 255][i]!, at: NOW + i })))
  // One that has to go on its own.
  await append(storage, [ipRow({ ipSource: 'forwarded', trustedHops: 3, at: NOW + 9, idempotencyKey: 'k' })])
  const expected = [...IP_SOURCES.map(source => [source, 0]), ...IP_SOURCES.map((source, i) => [source, [0, 1, 7, 8, 255][i]]), ['forwarded', 3]]
  t.same((await storage.listIpLogs({}, { limit: 100 })).items.map(row => [row.ipSource, row.trustedHops]).reverse(), expected)
  t.same(old.all<{ ip_source: string, trusted_hops: number }>('SELECT ip_source, trusted_hops FROM ip_logs ORDER BY id').map(row => [row.ip_source, row.trusted_hops]), expected, 'anybody sees the same')
  t.ok(IP_SOURCES.length <= 8, 'sources have three bits')
  old.close()
})

t.test('the token is nowhere in the files, only its hash', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  await create(storage, { id: 'visible-id' }, { tokenHash: hashOf('the secret token') })
  await storage.close(1000)
  const bytes = readFileSync(file)
  t.ok(bytes.includes('visible-id'))
  t.notOk(bytes.includes('the secret token'))
  t.ok(bytes.includes(Buffer.from(hashOf('the secret token'), 'hex')))
})

t.test('erased bytes are gone from file, WAL and free pages', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const secret = 'user-to-be-forgotten'
  await create(storage, { userId: secret })
  await append(storage, [ipRow({ userId: secret, sessionId: 'session-of-theirs' }), ipRow({ userId: secret }), ipRow()])
  await storage.eraseUser(secret)
  for (const path of [file, `${file}-wal`, logFile(file), `${logFile(file)}-wal`]) t.notOk(readFileSync(path).includes(secret), path)
  t.notOk(readFileSync(logFile(file)).includes('session-of-theirs'))
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 1)
  await append(storage, [ipRow({ userId: secret, requestId: 'back' })])
  t.match((await storage.listIpLogs({ userId: secret }, { limit: 10 })).items, [{ requestId: 'back', userId: secret }], 'the name can be used again')
})

t.test('an erasure tries again while a reader holds the WAL, and leaves the rest to the next cleanup', async t => {
  const file = tempFile()
  const log = recordingLogger()
  const storage = await openSqliteStorage(t, file, { log })
  const secret = 'user-behind-a-reader'
  const { record } = await create(storage, { userId: secret })
  await storage.touchSessions([{ sessionId: record.id, at: NOW + 1, ip: null, userAgent: null, flagged: false }])
  await storage.endSessions({ id: record.id }, 'revoked', NOW)
  const reader = new Database(file, { readonly: true })
  t.teardown(() => reader.close())
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM sessions').get()
  t.match(await storage.eraseUser(secret), { endedSessions: 1 })
  t.match(log.lines, [{ level: 'warn', message: /still in the WAL/ }])
  t.ok(readFileSync(`${file}-wal`).includes(secret))
  reader.exec('COMMIT')
  await storage.maintain({ pages: 1, optimize: false })
  for (const path of [file, `${file}-wal`]) t.notOk(readFileSync(path).includes(secret), path)
  await storage.maintain({ pages: 1, optimize: false })
})

t.test('texts removed by one process are stored again by another that remembered them', async t => {
  const file = tempFile()
  const [a, b] = [await openSqliteStorage(t, file), await openSqliteStorage(t, file)]
  await append(b, [ipRow({ userId: 'u1', sessionId: 's1' })])
  await a.eraseUser('u1')
  await append(b, [ipRow({ userId: 'u1', sessionId: 's1', requestId: 'after' })])
  t.match((await a.listIpLogs({ userId: 'u1' }, { limit: 5 })).items, [{ userId: 'u1', sessionId: 's1', requestId: 'after', path: '/hello' }])
})

t.test('opening: what is there is kept; a second opening finds it', async t => {
  const file = tempFile()
  const first = await openSqliteStorage(t, file)
  const { tokenHash } = await create(first)
  await first.close(1000)
  t.notOk(existsSync(`${file}-wal`), 'the last to close leaves no WAL behind')
  const second = await openSqliteStorage(t, file)
  t.match(await second.findSession(tokenHash, NOW), { state: 'live' })
})

t.test('opening: a file of the second step gets the devices, and keeps what it has', async t => {
  const file = tempFile()
  const connection = await openFile({ path: file, file: 'main', migrations: mainMigrations.slice(0, 2), busyTimeout: 100 })
  connection.run('INSERT INTO sessions (token_hash, id, user_id, created_at, last_active_at, authenticated_at, rotated_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)', Buffer.from(hashOf('old'), 'hex'), 's_old', 'ada', NOW, NOW, NOW, NOW, NOW + DAY)
  connection.close()
  const storage = await openSqliteStorage(t, file)
  t.match(await storage.findSession(hashOf('old'), NOW), { state: 'live', session: { id: 's_old' } })
  t.same(await storage.listSessionDevices('ada', 10), [])
  const device = { device: 'curl', network: null }
  t.match((await create(storage, {}, { device })).result, { known: { any: false } }, 'no user of before the update is reported for having a device')
  t.match((await create(storage, {}, { device: { ...device, device: 'Safari on iOS' } })).result, { known: { any: true, device: false } })
  const db = new Database(file, { readonly: true })
  t.same(db.prepare('SELECT version, name FROM doorman_schema ORDER BY version').all(), mainMigrations.map(({ name }, i) => ({ version: i + 1, name })))
  db.close()
})

t.test('opening is refused, and nothing is overwritten', async t => {
  const open = (file: string, busyTimeout = 100) => openStorage({ url: `file:${file}`, logUrl: null, busyTimeout, maxPending: 1, log: recordingLogger() })
  const refused = async (file: string, code: string, message: RegExp) => {
    const before = readFileSync(file)
    await t.rejects(open(file), { code, message })
    t.ok(readFileSync(file).equals(before), `${code}: untouched`)
  }
  const text = tempFile('text.db')
  writeFileSync(text, 'this is not a database, '.repeat(100))
  await refused(text, 'DOORMAN_NOT_A_DATABASE', /text\.db is not a SQLite database/)

  const newer = join(dirname(text), 'newer.db')
  const storage = await openSqliteStorage(t, newer)
  await storage.close(1000)
  const db = new Database(newer)
  db.exec('INSERT INTO doorman_schema (version, name, applied_at) VALUES (99, \'future\', 0)')
  db.close()
  await refused(newer, 'DOORMAN_SCHEMA_NEWER', /version 5.*up to 4/)

  const foreign = join(dirname(text), 'foreign.db')
  const host = new Database(foreign)
  host.pragma('journal_mode = WAL')
  host.exec('CREATE TABLE Sessions (sid TEXT)')
  host.close()
  await refused(foreign, 'DOORMAN_SCHEMA_FOREIGN', /already has "sessions"/)

  const log = join(dirname(text), 'good.db')
  writeFileSync(logFile(log), 'no database either, '.repeat(100))
  await t.rejects(open(log), { code: 'DOORMAN_NOT_A_DATABASE', message: /good-log\.db/ }, 'the log file is checked as well')
})

t.test('files for the eyes of this user only, and each in its role', async t => {
  const file = tempFile()
  await openSqliteStorage(t, file)
  for (const path of [file, logFile(file), `${file}-wal`, `${file}-shm`]) t.equal(statSync(path).mode & 0o777, 0o600, path)
  const swapped = openStorage({ url: `file:${logFile(file)}`, logUrl: `file:${file}`, busyTimeout: 100, maxPending: 1, log: recordingLogger() })
  await t.rejects(swapped, { code: 'DOORMAN_SCHEMA_FOREIGN', message: /request log/ })
})

t.test('opening waits for a lock, up to its deadline', async t => {
  const file = tempFile()
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('CREATE TABLE host (x); BEGIN IMMEDIATE')
  await t.rejects(openStorage({ url: `file:${file}`, logUrl: null, busyTimeout: 50, maxPending: 1, log: recordingLogger() }), { code: 'DOORMAN_STORAGE_BUSY' })
  const opening = openSqliteStorage(t, file)
  await sleep(20)
  holder.exec('COMMIT')
  holder.close()
  t.same((await opening).health(), { status: 'ok' })
})

t.test('files for the eyes of this user only, and each in its role', async t => {
  const file = tempFile()
  await openSqliteStorage(t, file)
  for (const path of [file, logFile(file), `${file}-wal`, `${file}-shm`]) t.equal(statSync(path).mode & 0o777, 0o600, path)
  const swapped = openStorage({ url: `file:${logFile(file)}`, logUrl: `file:${file}`, busyTimeout: 100, maxPending: 1, log: recordingLogger() })
  await t.rejects(swapped, { code: 'DOORMAN_SCHEMA_FOREIGN', message: /request log/ })
})

t.test('opening waits for a lock that even forbids reading', async t => {
  const file = tempFile()
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('CREATE TABLE host (x); BEGIN EXCLUSIVE')
  const open = (busyTimeout: number) => openStorage({ url: `file:${file}`, logUrl: null, busyTimeout, maxPending: 1, log: recordingLogger() })
  await t.rejects(open(50), { code: 'DOORMAN_STORAGE_BUSY', message: /longer than 50 ms/ })
  const opening = open(10_000)
  t.teardown(() => opening.then(storage => storage.close(1000)))
  await sleep(100)
  holder.exec('COMMIT')
  t.same((await opening).health(), { status: 'ok' })
})

t.test('a second process beside us starts while somebody holds the lock', async t => {
  const file = tempFile()
  await openSqliteStorage(t, file)
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const second = await openSqliteStorage(t, file, { busyTimeout: 10 })
  t.same(second.health(), { status: 'ok' })
  holder.exec('ROLLBACK')
})

t.test('several processes may open a new file at once', async t => {
  const file = tempFile()
  const all = await Promise.all(Array.from({ length: 4 }, () => openSqliteStorage(t, file)))
  await Promise.all(all.map(storage => create(storage)))
  t.equal((await all[0]!.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 4)
})

t.test('in a host\'s own database file: its tables and its version stay its own', async t => {
  const file = tempFile()
  const host = new Database(file)
  host.exec('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO users (name) VALUES (\'ada\'); PRAGMA user_version = 42')
  host.close()
  const storage = await openSqliteStorage(t, file)
  await create(storage)
  t.match(await storage.get({ sql: 'SELECT name FROM users' }), { name: 'ada' })
  const again = new Database(file, { readonly: true })
  t.equal(again.pragma('user_version', { simple: true }), 42)
  again.close()
})

t.test('a foreign lock: reads go on, writes wait without freezing the loop, then succeed', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const { tokenHash } = await create(storage)
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const login = create(storage)
  for (let i = 0; i < 100; i++) {
    t.match(await storage.findSession(tokenHash, NOW), { state: 'live' })
    await sleep(2)
  }
  delay.disable()
  holder.exec('COMMIT')
  t.same((await login).result, { created: true, evicted: [], known: null })
  const { files } = await storage.stats()
  t.ok(files.main.lockWaits >= 1)
  t.ok(files.main.lockWaitMsMax > 100)
  t.comment(`event loop delay while locked: max ${(delay.max / 1e6).toFixed(1)} ms`)
})

t.test('a lock on the log does not delay a login', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const holder = new Database(logFile(file))
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  let logged = false
  const rows = append(storage, [ipRow()]).then(() => { logged = true })
  t.same((await create(storage)).result, { created: true, evicted: [], known: null })
  t.equal(logged, false)
  holder.exec('COMMIT')
  await rows
})

t.test('past the deadline: a clear refusal, nothing half-done', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file, { busyTimeout: 60 })
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  await t.rejects(create(storage), { code: 'DOORMAN_STORAGE_BUSY', statusCode: 503 })
  holder.exec('COMMIT')
  t.equal((await storage.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 0)
})

t.test('an operation may wait less than others, and then never happens', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const { record, tokenHash } = await create(storage)
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const login = create(storage)
  const rotate = { sessionId: record.id, fromHash: tokenHash, toHash: hashOf('next'), now: NOW, graceUntil: NOW, reauthenticated: null }
  await t.rejects(storage.rotateSession({ ...rotate, wait: 20 }), { code: 'DOORMAN_STORAGE_BUSY', message: /20 ms/ })
  holder.exec('COMMIT')
  t.match(await login, { result: { created: true } }, 'the others go on waiting')
  t.match(await storage.findSession(tokenHash, NOW), { state: 'live' })
  t.equal(await storage.rotateSession({ ...rotate, wait: 20 }), true)
})

t.test('closing with a lock that never ends: gives up at the deadline and says so', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const login = create(storage)
  const report = storage.close(50)
  await t.rejects(login, { code: 'DOORMAN_STORAGE_CLOSED' })
  t.same(await report, { notStored: 1 })
})

t.test('closing under a lock that ends in time stores what waited', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const holder = new Database(file)
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const login = create(storage)
  const report = storage.close(10_000)
  await sleep(30)
  holder.exec('COMMIT')
  holder.close()
  t.same((await login).result, { created: true, evicted: [], known: null })
  t.same(await report, { notStored: 0 })
})

t.test('a batch that is refused as a whole is refused with a code', async t => {
  const storage = await openSqliteStorage(t)
  await t.rejects(storage.appendLog({ source: null as unknown as string, seq: 1, at: NOW, rows: [ipRow()] }), { code: 'DOORMAN_CONSTRAINT' })
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 0)
  await append(storage, [ipRow()])
  t.match((await storage.listIpLogs({}, { limit: 10 })).items, [{ path: '/hello' }])
})

t.test('a pinned reader: writers go on, health names the cause, and all is well when it has gone', async t => {
  const file = tempFile()
  const log = recordingLogger()
  const storage = await openSqliteStorage(t, file, { log, walBacklogLimit: 100 })
  const reader = new Database(file, { readonly: true })
  t.teardown(() => reader.close())
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM sessions').get()
  for (let i = 0; i < 120; i++) await create(storage)
  await until(() => storage.health().status === 'degraded')
  t.match(storage.health(), { reasons: [/pinned reader makes the WAL of the main file grow/] })
  t.ok((await storage.stats()).files.main.walBacklog > 100)
  reader.exec('COMMIT')
  await until(() => storage.health().status === 'ok')
  await until(() => log.lines.length === 3)
  t.match(log.lines, [{ level: 'warn', fields: { file: 'main', path: file } }, { message: /reader is gone/ }, { level: 'info', message: /WAL was cut/ }])
})

t.test('backup: a consistent copy while the service writes; nothing is overwritten', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const { tokenHash } = await create(storage)
  await append(storage, [ipRow()])
  const target = join(dirname(file), 'copy.db')
  const writing = Promise.all(Array.from({ length: 20 }, () => create(storage)))
  t.same(await storage.backup(target), [target, logFile(target)])
  await writing
  await t.rejects(storage.backup(target), { code: 'DOORMAN_VALUE_INVALID', message: /nothing exists yet/ })
  const missing = join(dirname(file), 'missing')
  await t.rejects(storage.backup(join(missing, 'copy.db')), { code: 'DOORMAN_DIRECTORY_UNWRITABLE', message: `The directory ${missing} cannot be written (ENOENT)` })
  const copy = await openSqliteStorage(t, target)
  t.match(await copy.findSession(tokenHash, NOW), { state: 'live' })
  t.equal((await copy.listIpLogs({}, { limit: 10 })).items.length, 1)
})

t.test('the check finds damage', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  await create(storage)
  await storage.close(5000)
  const db = new Database(file, { readonly: true })
  const page = db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = \'sessions_by_ip\'').pluck().get() as number
  const pageSize = db.pragma('page_size', { simple: true }) as number
  db.close()
  const bytes = readFileSync(file)
  bytes.fill(0xff, (page - 1) * pageSize + 3, (page - 1) * pageSize + 100)
  writeFileSync(file, bytes)
  const damaged = await openSqliteStorage(t, file)
  const findings = await damaged.check().catch((error: unknown) => [String(error)])
  t.ok(findings.length > 0)
})

t.test('retention: old rows are gone, the file shrinks', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  for (let seq = 1; seq <= 10; seq++) await append(storage, Array.from({ length: 500 }, (_, i) => ipRow({ at: NOW - 40 * DAY + i, path: `/${seq}/${i}/${'long'.repeat(20)}` })), 'old', seq)
  await append(storage, [ipRow()])
  const before = (await storage.stats()).files.log.pageCount
  t.equal((await storage.countSweepable(cutoffs({ ipLogs: NOW - 30 * DAY }), NOW)).ipLogs, 5000)
  while (await storage.sweep({ target: 'ipLogs', before: NOW - 30 * DAY, limit: 1000, now: NOW }) === 1000);
  await storage.maintain({ pages: 100_000, optimize: true })
  const after = (await storage.stats()).files.log
  t.ok(after.pageCount < before, `${before} pages, then ${after.pageCount}`)
  t.equal(after.freePages, 0)
})

t.test('a row that ends the transaction of its batch goes to the dead letters', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const other = new Database(file.replace(/\.db$/, '-log.db'))
  t.teardown(() => other.close())
  other.exec("CREATE TRIGGER rude BEFORE INSERT ON ip_log_rows WHEN NEW.method = 'RUDE' BEGIN SELECT RAISE(ROLLBACK, 'not here'); END")
  t.same(await append(storage, [ipRow(), ipRow({ method: 'RUDE' }), ipRow()]), { deadLetters: 1, duplicates: 0 })
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 2)
})

t.test('rows are indexed a while after they are stored; a lock does not keep that from being given up with everything else', async t => {
  const file = tempFile()
  const storage = await openSqliteStorage(t, file)
  const outsider = new Database(logFile(file), { timeout: 0 })
  t.teardown(() => outsider.close())
  const indexed = () => outsider.prepare('SELECT count(*) FROM ip_log_by_user').pluck().get()
  await append(storage, [ipRow({ at: NOW - 60_000, userId: 'anna' }), ipRow({ userId: 'ben' })])
  await until(() => indexed() === 1, 'the first window: rows of the last moments are left')
  await append(storage, [ipRow({ at: NOW + 60_000, userId: 'anna' })])
  outsider.exec('BEGIN IMMEDIATE')
  await until(async () => (await storage.stats()).files.log.lanes.maintenance.operations === 1, 'the indexer to wait for the lock')
  const batch = append(storage, [ipRow({ userId: 'carla' })])
  batch.catch(() => {})
  t.same(await storage.close(50), { notStored: 0 }, 'rows are counted by their queue')
  await t.rejects(batch, { code: 'DOORMAN_STORAGE_CLOSED' })
  outsider.exec('ROLLBACK')
  t.equal(indexed(), 1)
})
