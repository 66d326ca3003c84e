/** Sessions where several connections change them at once, and what only this engine has to get right. */
import t, { type Test } from 'tap'
import pg from 'pg'
import { openPostgres } from '../../../storage/postgres/engine.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import type { Storage } from '../../../storage/storage.js'
import { recordingLogger, until } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { query } from '../../postgres/server.js'
import { create, DAY, hashOf, NOW } from '../contract.js'

async function open (t: Test, url: string): Promise<Storage> {
  const storage = await openPostgres(readPostgresUrl(url), { busyTimeout: 20_000, maxPending: 1000, log: recordingLogger() })
  t.teardown(() => storage.close(1000))
  return storage
}
const waits = (url: string, n = 1) => until(async () => (await query(url, 'SELECT FROM pg_locks WHERE NOT granted')).length >= n, 'somebody to wait for a lock')

/** Somebody else in the middle of a transaction; the result commits it. */
async function inTransaction (url: string, sql: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(`BEGIN; ${sql}`)
  return async () => {
    await client.query('COMMIT')
    await client.end()
  }
}

t.test('a session that is being rotated is ended all the same, with its new token', async t => {
  const url = await freshDatabase()
  const storage = await open(t, url)
  for (const selection of [(id: string) => ({ id }), () => ({ userId: 'ada' }), () => ({ all: true as const })]) {
    const { record } = await create(storage)
    const next = hashOf(`next of ${record.id}`)
    const commit = await inTransaction(url, `UPDATE sessions SET token_hash = '\\x${next}' WHERE id = '${record.id}'`)
    const ended = storage.endSessions(selection(record.id), 'revoked', NOW)
    await waits(url)
    await commit()
    t.match(await ended, [{ id: record.id }])
    t.match(await storage.findSession(next, NOW), { state: 'ended', reason: 'revoked' })
  }
})

t.test('what ends while it is being rotated is not rotated', async t => {
  const url = await freshDatabase()
  const storage = await open(t, url)
  const { record, tokenHash } = await create(storage)
  const commit = await inTransaction(url, `DELETE FROM sessions WHERE id = '${record.id}'`)
  const rotated = storage.rotateSession({ sessionId: record.id, fromHash: tokenHash, toHash: hashOf('next'), now: NOW, graceUntil: NOW, reauthenticated: null })
  await waits(url)
  await commit()
  t.equal(await rotated, false)
  t.equal(await storage.findSession(hashOf('next'), NOW), null)
  t.equal(await storage.findSession(tokenHash, NOW), null, 'and left no tombstone')
})

t.test('the limit of a user, exact over processes', async t => {
  const url = await freshDatabase()
  const storages = await Promise.all([open(t, url), open(t, url), open(t, url)])
  const limit = { max: 3, policy: 'evict-oldest' } as const
  const results = await Promise.all(Array.from({ length: 30 }, (_, i) => create(storages[i % 3]!, { userId: i % 2 === 0 ? 'ada' : 'bob', createdAt: NOW + i }, { limit })))
  for (const userId of ['ada', 'bob']) t.equal((await storages[0]!.listSessions({ userId, now: NOW, idleBefore: 0, limit: 100 })).items.length, 3)
  t.equal(results.flatMap(({ result }) => result.created ? result.evicted : []).length, 24)
})

t.test('uses of the same sessions by several processes do not stand in each other\'s way', async t => {
  const url = await freshDatabase()
  const storages = await Promise.all([open(t, url), open(t, url)])
  const sessions = await Promise.all(Array.from({ length: 50 }, () => create(storages[0]!)))
  await Promise.all(Array.from({ length: 20 }, (_, i) => {
    const touches = sessions.map(({ record }) => ({ sessionId: record.id, at: NOW + i, ip: null, userAgent: null, flagged: false }))
    return storages[i % 2]!.touchSessions(i % 4 < 2 ? touches : touches.reverse())
  }))
  t.ok((await storages[0]!.listSessions({ now: NOW, idleBefore: NOW + 18, limit: 100 })).items.length === 50)
  for (const storage of storages) t.notMatch((await storage.stats()).files.main.busy, { '40P01': Number })
  await storages[0]!.touchSessions([
    { sessionId: sessions[0]!.record.id, at: NOW + 50, ip: null, userAgent: 'late', flagged: false },
    { sessionId: sessions[0]!.record.id, at: NOW + 40, ip: '192.0.2.40', userAgent: 'early', flagged: true },
    { sessionId: sessions[0]!.record.id, at: NOW + 60, ip: null, userAgent: null, flagged: false }
  ])
  t.match(await storages[0]!.getSession(sessions[0]!.record.id), { lastActiveAt: NOW + 60, lastIp: '192.0.2.40', lastUserAgent: 'late', flagged: true })
})

t.test('lookups that come together go together', async t => {
  const url = await freshDatabase()
  const storage = await open(t, `${url}?application_name=counted`)
  const sessions = await Promise.all(Array.from({ length: 600 }, () => create(storage)))
  await query(url, 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements').catch(() => {})
  const found = await Promise.all(sessions.flatMap(({ tokenHash }) => [storage.findSession(tokenHash, NOW), storage.findSession(tokenHash, NOW)]))
  t.same(found.map(lookup => lookup?.state === 'live' && lookup.session.id), sessions.flatMap(({ record }) => [record.id, record.id]), 'to each its own')
  const mixed = await Promise.all([hashOf('none'), sessions[3]!.tokenHash, hashOf('nobody')].map(hash => storage.findSession(hash, NOW)))
  t.match(mixed, [null, { state: 'live' }, null])
})

t.test('grace is judged by each question\'s own time', async t => {
  const storage = await open(t, await freshDatabase())
  const { record, tokenHash } = await create(storage)
  await storage.rotateSession({ sessionId: record.id, fromHash: tokenHash, toHash: hashOf('next'), now: NOW, graceUntil: NOW + 100, reauthenticated: null })
  const found = await Promise.all([NOW, NOW + 99, NOW + 100, NOW + DAY].map(now => storage.findSession(tokenHash, now)))
  t.same(found.map(lookup => lookup?.state), ['grace', 'grace', 'ended', 'ended'])
})

t.test('a revocation by another process is seen by the next question', async t => {
  const url = await freshDatabase()
  const [one, two] = await Promise.all([open(t, url), open(t, url)])
  for (let i = 0; i < 50; i++) {
    const { record, tokenHash } = await create(one)
    t.match(await two.findSession(tokenHash, NOW), { state: 'live' })
    await one.endSessions({ id: record.id }, 'revoked', NOW)
    t.match(await two.findSession(tokenHash, NOW), { state: 'ended' })
  }
})

t.test('numbers beyond what is exact, and JSON, come back as they are', async t => {
  const storage = await open(t, await freshDatabase())
  t.same(await storage.get({ sql: 'SELECT 9007199254740993::bigint AS big, 7::bigint AS small, \'{"a": 1}\'::json AS json, \'{"a":1}\'::jsonb AS jsonb, 5::int AS n' }), { big: 9007199254740993n, small: 7, json: '{"a": 1}', jsonb: '{"a": 1}', n: 5 })
})

t.test('what PostgreSQL does not offer', async t => {
  const storage = await open(t, await freshDatabase())
  await t.rejects(storage.backup('/tmp/x'), { code: 'DOORMAN_UNSUPPORTED', statusCode: 501, message: /pg_dump/ })
  for (const sql of ['SET search_path = x', 'LISTEN x', 'start transaction', 'COPY x TO STDOUT', 'PREPARE x AS SELECT 1', 'reset all']) await t.rejects(storage.batch([{ sql }]), { code: 'DOORMAN_SQL_NOT_ALLOWED' }, sql)
})

t.test('what the check finds', async t => {
  const url = await freshDatabase()
  const storage = await open(t, url)
  await query(url, 'UPDATE pg_index SET indisvalid = false WHERE indexrelid = \'sessions_by_ip\'::regclass')
  t.same(await storage.check(), ['the index sessions_by_ip is not valid: REINDEX INDEX sessions_by_ip'])
  const stats = await storage.stats()
  t.ok(stats.files.main.pageSize > 0)
})
