/** The pool by itself: whole functions repeated, lanes, and what it refuses. */
import t, { type Test } from 'tap'
import { doormanError } from '../../../errors.js'
import { Circuit } from '../../../storage/postgres/circuit.js'
import type { Connection } from '../../../storage/postgres/connect.js'
import { Connections } from '../../../storage/postgres/connections.js'
import { readPostgresUrl } from '../../../storage/postgres/location.js'
import { openParts } from '../../../storage/postgres/open-parts.js'
import type { Attempt } from '../../../storage/postgres/pool.js'
import { recordingLogger, until } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { query } from '../../postgres/server.js'

async function openPool (t: Test, busyTimeout = 10_000) {
  const url = await freshDatabase()
  const { pool, counters } = await openParts(readPostgresUrl(url), { busyTimeout, maxPending: 100, log: recordingLogger() })
  t.teardown(() => pool.close(0))
  return { url, pool, counters }
}

/** A connection that does nothing. */
function fakeConnection (): Connection & { closed: boolean } {
  const connection = {
    dead: false,
    closed: false,
    version: '1',
    onDead () {},
    async query () { return { rows: [], rowCount: 0 } },
    async commit () {},
    async rollback () {},
    holdProcess () {},
    async close () {
      connection.closed = connection.dead = true
      connection.onDead()
    }
  }
  return connection
}

function fakeConnections (connect: () => Promise<Connection>, size: number) {
  const circuit = new Circuit({ log: recordingLogger(), monotonic: () => performance.now(), name: 'd', where: 'h' })
  return { circuit, connections: new Connections({ connect, size, circuit, random: () => 0 }) }
}

t.test('a conflict: the whole function again, until it is through', async t => {
  const { pool, counters } = await openPool(t)
  await pool.run({ lane: 'interactive' }, client => client.query('CREATE TABLE n (v int)'))
  await pool.run({ lane: 'interactive' }, client => client.query('INSERT INTO n VALUES (0)'))
  const attempts: Attempt[] = []
  // Two have read before either writes: at least one of them has to try again.
  let reading = 2
  let go: () => void
  const bothHaveRead = new Promise<void>(resolve => { go = resolve })
  await Promise.all(Array.from({ length: 8 }, () => pool.transaction({ lane: 'interactive', isolation: 'serializable', rows: 1 }, async (client, attempt) => {
    attempts.push(attempt)
    const { rows } = await client.query<{ v: number }>('SELECT v FROM n')
    if (--reading === 0) go()
    await bothHaveRead
    await client.query('UPDATE n SET v = $1', [rows[0]!.v + 1])
  })))
  const { rows } = await pool.run({ lane: 'interactive', readOnly: true }, client => client.query('SELECT v FROM n'))
  t.same(rows, [{ v: 8 }])
  t.ok(attempts.some(({ number }) => number > 1))
  t.ok(attempts.every(({ uncertain }) => !uncertain))
  const nothing = { interactive: 0, bulk: 0, maintenance: 0 }
  t.match(counters.main.stats(nothing, { pageCount: 1, pageSize: 2 }, 3), { commits: 8, rows: 8, busy: { 40001: attempts.length - 8 }, pageCount: 1, pageSize: 2, deadLetters: 3 })
})

t.test('a failure that a work keeps to itself is no success', async t => {
  const { pool } = await openPool(t)
  await t.rejects(pool.transaction({ lane: 'interactive' }, async client => {
    await client.query('CREATE TABLE kept (v int)')
    await client.query('SELECT 1 / 0').catch(() => {})
  }), { code: 'DOORMAN_STORAGE_FAILED', message: /25P02/ })
  t.same((await pool.run({ lane: 'interactive' }, client => client.query('SELECT to_regclass(\'kept\') AS kept'))).rows, [{ kept: null }])
})

t.test('an error of the work\'s own passes as it is, and its transaction is undone', async t => {
  const { pool } = await openPool(t)
  const own = doormanError('DOORMAN_VALUE_INVALID', ['a', 'b', 'c'])
  await t.rejects(pool.transaction({ lane: 'interactive' }, async client => {
    await client.query('CREATE TABLE undone (v int)')
    throw own
  }), own)
  t.same((await pool.run({ lane: 'interactive' }, client => client.query('SELECT to_regclass(\'undone\') AS undone'))).rows, [{ undone: null }])
})

t.test('limits of one transaction', async t => {
  const { pool } = await openPool(t)
  const settings = await pool.transaction({ lane: 'maintenance', statementTimeout: 77_000, lockTimeout: 55, first: 'SET LOCAL work_mem = 65536' }, async client => {
    const { rows } = await client.query<{ setting: string }>('SELECT setting FROM pg_settings WHERE name IN (\'statement_timeout\', \'lock_timeout\', \'work_mem\') ORDER BY name')
    return rows.map(({ setting }) => setting)
  })
  t.same(settings, ['55', '77000', '65536'])
  await t.rejects(pool.transaction({ lane: 'interactive', statementTimeout: 20 }, client => client.query('SELECT pg_sleep(5)')), { code: 'DOORMAN_STORAGE_BUSY' })
})

t.test('a lock that is not to be waited for', async t => {
  const { url, pool } = await openPool(t)
  const { default: pg } = await import('pg')
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  await other.query('BEGIN; LOCK TABLE sessions')
  let attempts = 0
  await t.rejects(pool.transaction({ lane: 'maintenance', lockTimeout: 10, retryLocks: false }, async client => {
    attempts++
    await client.query('LOCK TABLE sessions')
  }), { code: 'DOORMAN_STORAGE_BUSY' })
  t.equal(attempts, 1)
  await other.end()
})

t.test('a prepared statement that the schema has outgrown is prepared anew', async t => {
  const { url, pool } = await openPool(t)
  await query(url, 'CREATE TABLE shape (a int)')
  const all = () => pool.run({ lane: 'interactive' }, client => client.query({ name: 'doorman_test_shape', text: 'SELECT * FROM shape' }))
  await all()
  await query(url, 'ALTER TABLE shape ADD COLUMN b int')
  t.same((await all()).rows, [])
})

t.test('somebody who waits for an answer finds a connection, whatever else is under way', async t => {
  const opened: Connection[] = []
  const { connections } = fakeConnections(async () => {
    opened.push(fakeConnection())
    return opened.at(-1)!
  }, 6)
  t.teardown(() => connections.close())
  const bulk = await Promise.all([connections.acquire('bulk', 1000), connections.acquire('bulk', 1000), connections.acquire('bulk', 1000)])
  t.equal(await connections.acquire('bulk', 1), null, 'half of them at most')
  const maintenance = await connections.acquire('maintenance', 1000)
  t.notOk([...bulk, maintenance].includes(null))
  t.equal(await connections.acquire('maintenance', 1), null, 'one at most')
  t.equal(await connections.acquire('interactive', 1), null, 'two are not for changes')
  t.not(await connections.acquire('reads', 1000), null)
  t.equal(await connections.acquire('reads', 1), null, 'one of them is for checks only')
  t.not(await connections.acquire('checks', 1000), null)
  const [late, first] = [connections.acquire('bulk', 1000), connections.acquire('interactive', 1000)]
  t.same(connections.waiting, { interactive: 1, bulk: 1, maintenance: 0 })
  connections.release('bulk', bulk[0]!)
  t.equal(await first, bulk[0], 'first who is waited for')
  connections.release('interactive', bulk[0]!)
  t.equal(await late, bulk[0])
  t.equal(opened.length, 6)
})

t.test('with one connection everybody takes turns', async t => {
  const { connections } = fakeConnections(async () => fakeConnection(), 1)
  t.teardown(() => connections.close())
  for (const line of ['checks', 'reads', 'interactive', 'bulk', 'maintenance'] as const) {
    const connection = await connections.acquire(line, 1000)
    t.ok(connection, line)
    connections.release(line, connection!)
  }
})

t.test('the end: nobody gets a connection, not even one that was being opened', async t => {
  let finish!: (connection: Connection) => void
  const { connections } = fakeConnections(() => new Promise(resolve => { finish = resolve }), 1)
  const waiting = connections.acquire('interactive', 60_000)
  await connections.close()
  t.equal(await waiting, null)
  t.equal(await connections.acquire('interactive', 60_000), null)
  const late = fakeConnection()
  finish(late)
  await new Promise(setImmediate)
  t.ok(late.closed)

  let fail!: (error: Error) => void
  const { connections: others, circuit } = fakeConnections(() => new Promise((_resolve, reject) => { fail = reject }), 1)
  const also = others.acquire('interactive', 60_000)
  await others.close()
  fail(new Error('too late to matter'))
  t.equal(await also, null)
  t.same(circuit.reasons(), [])
})

t.test('no room for one more connection is no outage', async t => {
  let refused = 0
  const { connections, circuit } = fakeConnections(async () => {
    refused++
    throw new Error('too many')
  }, 3)
  t.teardown(() => connections.close())
  const only = fakeConnection()
  connections.add(only)
  t.equal(await connections.acquire('interactive', 1000), only)
  const second = connections.acquire('interactive', 5000)
  await until(() => refused >= 3, 'three refusals')
  t.same(circuit.reasons(), [])
  connections.release('interactive', only)
  t.equal(await second, only)
})
