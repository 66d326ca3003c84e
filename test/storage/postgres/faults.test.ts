/** What happens when the server, or the way to it, fails: what is answered, what is stored, and that it comes back by itself. */
import t, { type Test } from 'tap'
import { setTimeout as sleep } from 'node:timers/promises'
import { openPostgres, type EngineOptions } from '../../../storage/postgres/engine.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import type { SessionCreateParams, StorageOptions } from '../../../storage/storage.js'
import { recordingLogger, until } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { startProxy } from '../../postgres/proxy.js'
import { PASSWORD, query, startPostgres } from '../../postgres/server.js'
import { append, create, DAY, hashOf, ipRow, NOW, session } from '../contract.js'

async function open (t: Test, url: string, options: Partial<StorageOptions> = {}, engine: EngineOptions = {}) {
  const log = recordingLogger()
  const storage = await openPostgres(readPostgresUrl(url), { busyTimeout: 10_000, maxPending: 1000, log, ...options }, engine)
  t.teardown(() => storage.close(1000))
  return { storage, lines: log.lines }
}

t.test('killed and started again: nothing acknowledged is lost, and the storage comes back by itself', async t => {
  const server = await startPostgres({ settings: { fsync: 'on' } })
  t.teardown(() => server.remove())
  const { storage, lines } = await open(t, server.url())
  const before = await create(storage)
  await server.kill()
  await until(() => storage.health().status === 'degraded', 'the health to say so')
  t.match(storage.health(), { reasons: [/cannot be reached: .*ECONN(REFUSED|RESET)/] })
  t.equal((await storage.stats()).engine, 'postgres', 'numbers are told all the same')
  t.match(lines, [{ level: 'warn', message: /cannot be reached/, fields: { database: 'postgres', hosts: `127.0.0.1:${server.port}` } }])
  t.notMatch(JSON.stringify(lines), PASSWORD)
  const login = create(storage)
  const row = append(storage, [ipRow()])
  await server.start()
  const after = await login
  await row
  await until(() => storage.health().status === 'ok', 'the health to recover')
  t.match(await storage.findSession(before.tokenHash, NOW), { state: 'live' })
  t.match(await storage.findSession(after.tokenHash, NOW), { state: 'live' })
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 1)
  t.match(lines.at(-1), { level: 'info', message: /reached again/, fields: { ms: Number } })
})

t.test('gone for longer: changes are refused with a code, later ones at once', async t => {
  const proxy = await startProxy(t, await freshDatabase())
  const { storage } = await open(t, proxy.url, { busyTimeout: 300 })
  proxy.cut()
  await until(() => storage.health().status === 'degraded')
  const refused = { code: 'DOORMAN_STORAGE_UNAVAILABLE', statusCode: 503 }
  await Promise.all([
    t.rejects(create(storage), refused),
    t.rejects(storage.findSession(hashOf('x'), NOW) as Promise<unknown>, refused),
    t.rejects(append(storage, [ipRow()]), refused),
    t.rejects(storage.batch([{ sql: 'SELECT 1' }]), refused)
  ])
  // By now it has been like that for longer than they would wait.
  await sleep(100)
  const start = performance.now()
  await t.rejects(create(storage), refused)
  await t.rejects(storage.changeCounter('blocks') as Promise<unknown>, refused)
  t.ok(performance.now() - start < 900, 'without waiting again')
  proxy.open()
  await until(() => storage.health().status === 'ok')
  await create(storage)
})

t.test('connections cut one by one are replaced, unnoticed', async t => {
  const url = await freshDatabase()
  const { storage } = await open(t, url)
  const stop = new AbortController()
  const load = Promise.all(Array.from({ length: 4 }, async () => {
    let logins = 0
    for (; !stop.signal.aborted; logins++) await create(storage, { userId: 'load' })
    return logins
  }))
  for (let i = 0; i < 5; i++) {
    await query(url, 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND application_name = \'fastify-doorman\'')
    await sleep(50)
  }
  stop.abort()
  const logins = (await load).reduce((sum, n) => sum + n)
  const [stored] = await query<{ n: string }>(url, 'SELECT count(*) AS n FROM sessions')
  t.equal(Number(stored!.n), logins, 'each login is stored once')
})

t.test('an answer that was lost: the change is recognised when it is repeated', async t => {
  const url = await freshDatabase()
  const proxy = await startProxy(t, url)
  const { storage } = await open(t, proxy.url)
  const lose = async <T> (text: string, work: () => Promise<T>): Promise<T> => {
    const before = proxy.connections
    proxy.loseAnswer(text)
    const result = await work()
    t.ok(proxy.connections > before, `the answer to ${text} was lost`)
    return result
  }
  const { record, tokenHash } = await lose('doorman_create_session', () => create(storage))
  t.match(await storage.findSession(tokenHash, NOW), { state: 'live', session: record })
  const rotation = { sessionId: record.id, fromHash: tokenHash, toHash: hashOf('second'), now: NOW, graceUntil: NOW + 10, reauthenticated: null }
  t.equal(await lose('doorman_rotate_session', () => storage.rotateSession(rotation)), true)
  t.equal(await storage.rotateSession({ ...rotation, toHash: hashOf('other') }), false)
  t.equal(await lose('COMMIT', () => storage.rotateSession({ ...rotation, fromHash: hashOf('second'), toHash: hashOf('third'), graceUntil: NOW })), true)
  t.same(await lose('doorman_end_session', () => storage.endSessions({ id: record.id, userId: 'ada' }, 'revoked', NOW + 1)), [{ id: record.id, userId: 'ada', reason: 'revoked' }])

  const [mine, kept] = [await create(storage), await create(storage)]
  t.same(await lose('doorman_end_of_user', () => storage.endSessions({ userId: 'ada', exceptId: kept.record.id }, 'revoked', NOW + 2)), [{ id: mine.record.id, userId: 'ada', reason: 'revoked' }])
  const [single] = [await create(storage)]
  t.match(await lose('doorman_end_session', () => storage.endSessions({ id: single.record.id }, 'revoked', NOW + 4)), [{ id: single.record.id }])
  t.match(await lose('doorman_end_all', () => storage.endSessions({ all: true }, 'revoked', NOW + 3)), [{ id: kept.record.id }])

  const limit = { max: 1, policy: 'evict-oldest' } as const
  const oldest = await create(storage, {}, { limit })
  const { result } = await lose('COMMIT', () => create(storage, {}, { limit }))
  t.same(result, { created: true, evicted: [{ id: oldest.record.id, userId: 'ada', reason: 'limit' }], known: null })
  t.same((await lose('COMMIT', () => create(storage, { userId: 'bob' }, { replaces: 'nobody' }))).result, { created: true, evicted: [], known: null })
  t.equal((await storage.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 2)

  const login = async (device: string, createdAt: number, rest: Partial<SessionCreateParams> = {}) => {
    const { result } = await lose(rest.limit === undefined ? 'doorman_create_session_seen' : 'COMMIT', () => create(storage, { userId: 'eve', createdAt }, { ...rest, device: { device, network: '192.0.2.0/24' } }))
    return result.created && result.known
  }
  t.same(await login('Firefox on Linux', NOW), { any: false, device: false, network: false, pair: false })
  t.same(await login('Safari on iOS', NOW + 1), { any: true, device: false, network: true, pair: false }, 'what was known before it, though it is recorded by now')
  t.same(await login('Safari on iOS', NOW + 2, { limit: { max: 9, policy: 'reject' } }), { any: true, device: true, network: true, pair: true })
  t.match(await storage.listSessionDevices('eve', 10), [{ device: 'Safari on iOS', sessions: 2 }, { sessions: 1 }], 'counted once')

  const block = { id: 'b', cidr: '192.0.2.0/24', until: null, reason: null, createdAt: NOW }
  await lose('doorman_add_block', () => storage.addBlock(block))
  t.same(await storage.listBlocks(NOW), [block])
  t.equal(await lose('doorman_remove_block', () => storage.removeBlock('b')), true)
  t.same(await storage.listBlocks(NOW), [])
  await lose('doorman_append', () => append(storage, [ipRow(), ipRow()]))
  t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 2)
  await lose('doorman_add_cleanup_run', () => storage.addCleanupRun({ id: 'r', startedAt: NOW, durationMs: 1, dryRun: false, trigger: 'manual', complete: true, removed: {} as never, freedPages: 0, error: null }))
  t.equal((await storage.listCleanupRuns({ limit: 10 })).items.length, 1)

  await storage.batch([{ sql: 'CREATE TABLE notes (text text)' }])
  proxy.loseAnswer('COMMIT')
  await t.rejects(storage.batch([{ sql: 'INSERT INTO notes VALUES (1)' }]), { code: 'DOORMAN_COMMIT_UNKNOWN', statusCode: 503 }, 'of the host\'s own statements only the host can know whether to repeat them')
  t.equal((await storage.all({ sql: 'SELECT * FROM notes' })).length, 1)
  await lose('INSERT INTO notes', () => storage.batch([{ sql: 'INSERT INTO notes VALUES (2)' }]))
  t.equal((await storage.all({ sql: 'SELECT * FROM notes' })).length, 2, 'lost before COMMIT: nothing was stored, so it is repeated')
})

t.test('an answer that was lost, and no server any more: that it is not known is said', async t => {
  const proxy = await startProxy(t, await freshDatabase())
  const { storage } = await open(t, proxy.url, { busyTimeout: 300 })
  proxy.loseAnswer('doorman_create_session')
  const login = create(storage)
  const before = proxy.connections
  await until(async () => {
    if (proxy.connections > before) proxy.cut()
    return proxy.connections > before
  })
  await t.rejects(login, { code: 'DOORMAN_COMMIT_UNKNOWN' })
})

t.test('a server that does not answer any more', async t => {
  const target = await freshDatabase()
  const proxy = await startProxy(t, target)
  const { storage } = await open(t, `${proxy.url}?connections=3&connect_timeout=1&statement_timeout=100`, { busyTimeout: 100 })
  // One of the three is never for changes.
  const [{ tokenHash }] = await Promise.all([create(storage), create(storage), storage.findSession(hashOf('x'), NOW)])
  await until(async () => (await query(target, 'SELECT FROM pg_stat_activity WHERE state = \'idle\' AND application_name = \'fastify-doorman\' AND datname = current_database()')).length === 3, 'three connections at rest')
  proxy.freeze()
  await Promise.all([
    t.rejects(storage.findSession(tokenHash, NOW) as Promise<unknown>, { code: /DOORMAN_STORAGE_(UNAVAILABLE|BUSY)/ }),
    t.rejects(create(storage), { code: /DOORMAN_(COMMIT_UNKNOWN|STORAGE_BUSY)/ })
  ])
  await until(() => storage.health().status === 'degraded')
  proxy.resume()
  await until(() => storage.health().status === 'ok')
  t.match(await storage.findSession(tokenHash, NOW), { state: 'live' })
})

t.test('a lock of somebody else', async t => {
  const url = await freshDatabase()
  const { storage } = await open(t, url, { busyTimeout: 400 })
  const { record, tokenHash } = await create(storage)
  const busy = { code: 'DOORMAN_STORAGE_BUSY', statusCode: 503 }
  const hold = async (mode: string, work: () => Promise<unknown>) => {
    const { default: pg } = await import('pg')
    const other = new pg.Client({ connectionString: url })
    await other.connect()
    await other.query(`BEGIN; LOCK TABLE sessions IN ${mode} MODE`)
    await work()
    await other.end()
  }
  await hold('EXCLUSIVE', async () => {
    await t.rejects(create(storage), { ...busy, message: /400 ms/ })
    const rotation = { sessionId: record.id, fromHash: tokenHash, toHash: hashOf('next'), now: NOW, graceUntil: NOW + DAY, reauthenticated: null, wait: 50 }
    await t.rejects(storage.rotateSession(rotation), { ...busy, message: /50 ms/ })
    t.match(await storage.findSession(tokenHash, NOW), { state: 'live' }, 'checks go on')
  })
  t.match(await storage.findSession(tokenHash, NOW), { state: 'live' }, 'and nothing of what was refused comes later')
  await hold('ACCESS EXCLUSIVE', () => t.rejects(storage.findSession(tokenHash, NOW) as Promise<unknown>, busy))
  const stats = (await storage.stats()).files.main
  t.ok(stats.busy['55P03']! >= 3)
  t.ok(stats.lockWaits >= 3)
  t.ok(stats.lockWaitMsMax >= 50)
  let waiting: Promise<unknown> = Promise.resolve()
  await hold('EXCLUSIVE', async () => {
    waiting = create(storage)
    await until(async () => (await query(url, 'SELECT FROM pg_locks WHERE NOT granted')).length > 0, 'it to wait')
  })
  t.match(await waiting, { result: { created: true } }, 'a lock that goes in time is waited for')
})

t.test('too many that wait', async t => {
  const { storage } = await open(t, `${await freshDatabase()}?connections=1`, { maxPending: 2 })
  const settled = await Promise.allSettled([create(storage), create(storage), create(storage), storage.findSession(hashOf('x'), NOW), append(storage, [ipRow()])])
  t.same(settled.map(({ status }) => status), ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'], 'lookups and rows of the log are not counted')
  t.match(settled[2], { reason: { code: 'DOORMAN_QUEUE_FULL', message: /limit 2/ } })
})

t.test('all connections busy for longer than one waits', async t => {
  const { storage } = await open(t, `${await freshDatabase()}?connections=1`, { busyTimeout: 50 })
  const slow = storage.all({ sql: 'SELECT pg_sleep(1.5)' })
  await t.rejects(create(storage), { code: 'DOORMAN_STORAGE_BUSY', message: /50 ms/ })
  await slow
})

t.test('closing with what cannot be stored any more', async t => {
  const proxy = await startProxy(t, await freshDatabase())
  const { storage } = await open(t, proxy.url)
  proxy.cut()
  await until(() => storage.health().status === 'degraded')
  const [login, list, row] = [create(storage), storage.listBlocks(NOW), append(storage, [ipRow()])]
  const settled = Promise.allSettled([login, list, row])
  t.same(await storage.close(50), { notStored: 1 }, 'the login; lists store nothing, and rows are counted by their queue')
  t.match(await settled, Array.from({ length: 3 }, () => ({ status: 'rejected', reason: { code: /DOORMAN_STORAGE_(CLOSED|UNAVAILABLE)/ } })))
})

t.test('closing while all connections are busy', async t => {
  const { storage } = await open(t, `${await freshDatabase()}?connections=1`)
  const slow = storage.all({ sql: 'SELECT pg_sleep(60)' })
  const settled = Promise.allSettled([slow, create(storage)])
  t.same(await storage.close(100), { notStored: 1 })
  t.match(await settled, [{ status: 'rejected' }, { status: 'rejected', reason: { code: 'DOORMAN_STORAGE_CLOSED' } }])
})

t.test('starting', async t => {
  const url = await freshDatabase()
  const start = (url: string, startWait = 0) => open(t, url, {}, { startWait })
  const unreachable = (message: RegExp) => ({ code: 'DOORMAN_DATABASE_UNREACHABLE', statusCode: 500, message })
  await t.rejects(start('postgres://me:hunter2@127.0.0.1:1,localhost:1/shop'), unreachable(/^The database "shop" on 127\.0\.0\.1:1, localhost:1 cannot be used: .*ECONNREFUSED/))
  await t.rejects(start(url.replace(/\/[^/]*$/, '/nowhere'), 60_000), unreachable(/"nowhere" on .* cannot be used: database "nowhere" does not exist/), 'what does not get better is not waited for')
  await t.rejects(start(url.replace(PASSWORD, 'wrong'), 60_000), unreachable(/password authentication failed/))
  await t.rejects(start(`${url}?sslmode=require`), unreachable(/does not support SSL/))

  const proxy = await startProxy(t, url)
  proxy.cut()
  const opened = start(proxy.url, 60_000)
  await until(() => proxy.connections > 1, 'a second attempt')
  proxy.open()
  await create((await opened).storage)

  proxy.freeze()
  await t.rejects(start(`${proxy.url}?connect_timeout=1`), unreachable(/timeout|terminated/))
})

t.test('several hosts: the one that can be written to', async t => {
  const readOnly = await freshDatabase()
  const url = new URL(await freshDatabase())
  const { storage } = await open(t, `postgres://${url.username}:${url.password}@127.0.0.1:1,${url.host}${url.pathname}`)
  await create(storage)
  await storage.close(1000)
  await query(readOnly, `ALTER DATABASE ${new URL(readOnly).pathname.slice(1)} SET default_transaction_read_only = on`)
  await t.rejects(open(t, readOnly, {}, { startWait: 0 }), { code: 'DOORMAN_DATABASE_UNREACHABLE', message: /standby, or read-only/ })
  await t.rejects(open(t, `${readOnly}?target_session_attrs=any`, { busyTimeout: 50 }), { code: 'DOORMAN_STORAGE_READONLY' })
})

t.test('behind a pooler: nothing is set or prepared beyond a transaction', async t => {
  const url = await freshDatabase()
  const { storage } = await open(t, `${url}?pgbouncer=true&connections=1`, { busyTimeout: 700 })
  await create(storage, {}, { limit: { max: 1, policy: 'reject' } })
  t.same(await storage.all({ sql: 'SELECT name FROM pg_prepared_statements' }), [])
  t.match(await storage.get({ sql: 'SELECT current_setting(\'lock_timeout\') AS wait' }), { wait: '700ms' })
  const [outside] = await storage.connections()
  t.match(outside, { busyWaitMs: 700, pragmas: { application_name: 'fastify-doorman', lock_timeout: '0', statement_timeout: '0' } })
  const direct = (await open(t, `${url}?application_name=api`, { busyTimeout: 40_000 })).storage
  t.match(await direct.connections(), [{ role: 'writer', pragmas: { application_name: 'api', lock_timeout: '40000', statement_timeout: '40000', idle_in_transaction_session_timeout: '60000' } }])
  await direct.createSession({ tokenHash: hashOf('p'), session: session(), limit: null, now: NOW, idleBefore: 0 })
})
