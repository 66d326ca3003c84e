/** What threads say to each other arrives as it was meant, and every request is answered, whatever was asked in whatever order. */
import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { doormanError, errorCatalogue, isDoormanError, type DoormanErrorCode } from '../../../errors.js'
import { decodeError, encodeError, toDoormanError } from '../../../storage/sqlite/errors.js'
import { ThreadClient } from '../../../storage/sqlite/thread-client.js'
import type { Storage } from '../../../storage/storage.js'
import { openSqliteStorage, recordingLogger, tempFile } from '../../helper.js'

const codes = fc.constantFrom(...Object.keys(errorCatalogue) as DoormanErrorCode[])
const text = fc.string({ unit: 'binary' })

t.test('errors survive the way across threads', async t => {
  fc.assert(fc.property(codes, fc.array(fc.oneof(text, fc.integer()), { maxLength: 4 }), fc.option(fc.oneof(text.map(message => new Error(message)), text), { nil: undefined }), (code, args, cause) => {
    const error = doormanError(code, args, cause)
    const arrived = decodeError(structuredClone(encodeError(error)))
    const why = cause instanceof Error ? String(arrived.cause).includes(cause.message) : arrived.cause === undefined
    return isDoormanError(arrived) && arrived.code === code && arrived.statusCode === error.statusCode && arrived.message === error.message && why
  }), { numRuns: 1000 })
  t.pass('1000 errors')
})

t.test('whatever the driver throws becomes an error of the catalogue', async t => {
  const sqlite = fc.constantFrom('BUSY', 'BUSY_SNAPSHOT', 'FULL', 'CORRUPT_VTAB', 'NOTADB', 'READONLY_DBMOVED', 'IOERR_WRITE', 'CANTOPEN_ISDIR', 'CONSTRAINT_UNIQUE', 'ERROR', 'MISMATCH', 'NOMEM', 'SOMETHING_NEW').map(name => `SQLITE_${name}`)
  fc.assert(fc.property(text, fc.oneof(sqlite, text, fc.integer(), fc.constant(undefined)), (message, code) => {
    const error = toDoormanError(Object.assign(new Error(message), code === undefined ? {} : { code }))
    return isDoormanError(error) && isDoormanError(decodeError(structuredClone(encodeError(error))))
  }), { numRuns: 1000 })
  t.pass('1000 errors')
})

t.test('any parameters arrive as structured clone makes them, and come back to the request they belong to', async t => {
  const log = recordingLogger()
  const thread = new ThreadClient({
    name: 'writer',
    script: new URL('./fixtures/thread.js', import.meta.url),
    settings: { location: { main: 'main', log: 'log' }, busyTimeout: 100, identities: { main: undefined, log: undefined } },
    maxPending: 1000,
    log
  })
  t.teardown(() => thread.close(1000))
  const value = fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true, withSparseArray: true, withUnicodeString: true })
  /** Things that no message can hold. */
  const unsendable = fc.constantFrom(() => {}, Promise.resolve(), Symbol('s'), new WeakMap(), { nested: [{ deep: () => {} }] })
  await fc.assert(fc.asyncProperty(fc.array(fc.oneof({ weight: 6, arbitrary: value }, { weight: 1, arbitrary: unsendable }), { maxLength: 20 }), async values => {
    const settled = await Promise.allSettled(values.map(value => thread.run('echo', value)))
    settled.forEach((outcome, i) => {
      let sendable = true
      let expected: unknown
      try {
        expected = structuredClone(values[i])
      } catch {
        sendable = false
      }
      if (sendable !== (outcome.status === 'fulfilled')) throw new Error(`${i}: ${outcome.status}`)
      if (outcome.status === 'fulfilled' ? !isDeepStrictEqual(outcome.value, expected) : outcome.reason.code !== 'DOORMAN_SQL_INVALID') throw new Error(`${i} got another answer`)
    })
    if (thread.pending !== 0) throw new Error(`${thread.pending} are still waiting`)
  }), { numRuns: 150 })
  t.equal(thread.restarts, 0)
})

/** What callers do, and what must come of it; every one with a number of its own, so that answers cannot be mixed up. */
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.constant('insert' as const) },
  { weight: 2, arbitrary: fc.constant('insert twice' as const) },
  { weight: 2, arbitrary: fc.constant('bad statement' as const) },
  { weight: 2, arbitrary: fc.constant('cannot be sent' as const) },
  { weight: 2, arbitrary: fc.constant('cannot be bound' as const) },
  { weight: 3, arbitrary: fc.constant('append' as const) },
  { weight: 3, arbitrary: fc.constant('read' as const) },
  { weight: 2, arbitrary: fc.constant('stats' as const) },
  { weight: 3, arbitrary: fc.constant('turn' as const) }
)

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

/** Plays operations; resolves when each has been settled as it must be. Numbers start at `from`. */
async function play (storage: Storage, operations: readonly Operation[], from: number, closeAfter: number | null) {
  const inserted: number[] = []
  const settled: number[] = []
  const waiting: Promise<void>[] = []
  /** @param expected the code it has to fail with, or what its answer has to be */
  const ask = (n: number, expected: string | ((value: unknown) => boolean), promise: Promise<unknown>) => {
    waiting.push(promise.then(
      value => { if (typeof expected === 'string' || !expected(value)) throw new Error(`${n}: answered ${JSON.stringify(value)}`) },
      // Asked before the close, it may have been given up by it.
      (error: { code: string }) => { if (error.code !== expected && !(closeAfter !== null && error.code === 'DOORMAN_STORAGE_CLOSED')) throw error }
    ).finally(() => { settled.push(n) }))
  }
  const insert = (params: unknown) => storage.batch([{ sql: 'INSERT INTO notes VALUES (?)', params: params as number[] }])
  const act: Record<Operation, (n: number) => unknown> = {
    insert: n => ask(n, value => isDeepStrictEqual(value, [{ changes: 1, lastInsertRowid: n }]), insert([n]).then(value => { inserted.push(n); return value })),
    'insert twice': n => ask(n, 'DOORMAN_CONSTRAINT', storage.batch([{ sql: 'INSERT INTO notes VALUES (?), (?)', params: [-n, -n] }])),
    'bad statement': n => ask(n, 'DOORMAN_SQL_INVALID', storage.batch([{ sql: `INSERT INTO nowhere VALUES (${n})` }])),
    'cannot be sent': n => ask(n, 'DOORMAN_SQL_INVALID', insert([() => {}])),
    'cannot be bound': n => ask(n, 'DOORMAN_SQL_INVALID', insert([{ n }])),
    append: n => ask(n, value => isDeepStrictEqual(value, { deadLetters: 0, duplicates: 0 }), storage.appendLog({ source: 's', seq: n, at: n, rows: [] })),
    read: n => ask(n, value => isDeepStrictEqual(value, { n }), storage.get({ sql: 'SELECT ? AS n', params: [n] })),
    stats: n => ask(n, value => typeof value === 'object' && value !== null && 'engine' in value, storage.stats()),
    turn: () => new Promise(resolve => { setImmediate(resolve) })
  }
  for (const [i, operation] of operations.entries()) {
    const result = act[operation](from + i)
    if (operation === 'turn') await result
  }
  if (closeAfter !== null) await storage.close(closeAfter)
  await Promise.all(waiting)
  if (new Set(settled).size !== settled.length || settled.length !== operations.filter(operation => operation !== 'turn').length) throw new Error(`${settled} of ${operations}`)
  return inserted
}

async function assertStored (storage: Storage, acknowledged: readonly number[]) {
  const stored = (await storage.all({ sql: 'SELECT n FROM notes ORDER BY n' })).map(({ n }) => n)
  if (stored.join() !== [...acknowledged].sort((a, b) => a - b).join()) throw new Error(`acknowledged ${acknowledged}, stored ${stored}`)
}

t.test('a random sequence of operations: each is settled, once, with its own answer', async t => {
  const storage = await openSqliteStorage(t)
  await storage.batch([{ sql: 'CREATE TABLE notes (n INTEGER PRIMARY KEY)' }])
  const acknowledged: number[] = []
  let next = 1
  await fc.assert(fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 100 }), async operations => {
    const from = next
    next += operations.length
    acknowledged.push(...await play(storage, operations, from, null))
    await assertStored(storage, acknowledged)
  }), { numRuns: 40 })
  const { writer, reader } = await storage.stats()
  t.equal(writer.pendingOperations + reader.pendingOperations, 0)
})

t.test('a close settles what is under way, and what it acknowledges is stored', async t => {
  await fc.assert(fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 100 }), fc.integer({ min: 0, max: 30 }), async (operations, deadline) => {
    const file = tempFile(`closed-${Math.random()}.db`)
    const storage = await openSqliteStorage(t, file)
    await storage.batch([{ sql: 'CREATE TABLE notes (n INTEGER PRIMARY KEY)' }])
    const acknowledged = await play(storage, operations, 1, deadline)
    const again = await openSqliteStorage(t, file)
    await assertStored(again, acknowledged)
    await again.close(1000)
  }), { numRuns: 3, endOnFailure: true })
  t.pass('3 random sequences')
})
