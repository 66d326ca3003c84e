/** Driver errors become errors of the catalogue by code, never by message, and survive the way between threads. */
import t from 'tap'
import { doormanError, isDoormanError } from '../../../errors.js'
import { decodeError, encodeError, isFatalToTransaction, isLock, isRowFault, sqliteCode, toDoormanError } from '../../../storage/sqlite/errors.js'

const sqlite = (code: string) => Object.assign(new Error('database is locked'), { code, name: 'SqliteError' })

t.test('classification', async t => {
  t.equal(sqliteCode(null), undefined)
  t.equal(sqliteCode({ code: 5 }), undefined)
  t.equal(sqliteCode(Object.assign(new Error('x'), { code: 'ENOENT' })), undefined)
  for (const code of ['SQLITE_BUSY', 'SQLITE_BUSY_RECOVERY', 'SQLITE_BUSY_SNAPSHOT', 'SQLITE_PROTOCOL']) t.ok(isLock(sqlite(code)), code)
  for (const code of ['SQLITE_LOCKED', 'SQLITE_FULL', 'ENOENT']) t.notOk(isLock(sqlite(code)), code)
  for (const code of ['SQLITE_CONSTRAINT_CHECK', 'SQLITE_MISMATCH', 'SQLITE_TOOBIG', 'SQLITE_RANGE']) t.ok(isRowFault(sqlite(code)), code)
  t.ok(isRowFault(new TypeError('x')))
  t.ok(isRowFault(new RangeError('x')))
  t.notOk(isRowFault(new Error('x')))
  t.notOk(isRowFault(sqlite('SQLITE_FULL')))
  for (const code of ['SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_CORRUPT_INDEX', 'SQLITE_READONLY_DBMOVED']) t.ok(isFatalToTransaction(sqlite(code)), code)
  t.notOk(isFatalToTransaction(sqlite('SQLITE_CONSTRAINT')))
  t.notOk(isFatalToTransaction(new TypeError('x')))
})

t.test('mapping', async t => {
  const codes = {
    SQLITE_BUSY: 'DOORMAN_STORAGE_BUSY',
    SQLITE_FULL: 'DOORMAN_STORAGE_FULL',
    SQLITE_IOERR_READ: 'DOORMAN_STORAGE_IO',
    SQLITE_CANTOPEN: 'DOORMAN_STORAGE_IO',
    SQLITE_CORRUPT_VTAB: 'DOORMAN_STORAGE_CORRUPT',
    SQLITE_NOTADB: 'DOORMAN_STORAGE_CORRUPT',
    SQLITE_READONLY: 'DOORMAN_STORAGE_READONLY',
    SQLITE_CONSTRAINT_UNIQUE: 'DOORMAN_CONSTRAINT',
    SQLITE_ERROR: 'DOORMAN_SQL_INVALID',
    SQLITE_NOMEM: 'DOORMAN_STORAGE_FAILED'
  }
  for (const [from, to] of Object.entries(codes)) t.equal(toDoormanError(sqlite(from)).code, to, from)
  t.equal(toDoormanError(new TypeError('bad')).code, 'DOORMAN_SQL_INVALID')
  t.match(toDoormanError('text').message, /text/)
  const own = doormanError('DOORMAN_STORAGE_CLOSED')
  t.equal(toDoormanError(own), own)
})

t.test('between threads', async t => {
  const sent = toDoormanError(sqlite('SQLITE_FULL'))
  const received = decodeError(structuredClone(encodeError(sent)))
  t.ok(isDoormanError(received))
  t.match(received, { code: 'DOORMAN_STORAGE_FULL', statusCode: 503, message: sent.message })
  t.match(String(received.cause), /SQLITE_FULL: database is locked/)
  t.equal(decodeError(encodeError(doormanError('DOORMAN_QUEUE_FULL', [7]))).cause, undefined)
  t.match(encodeError(toDoormanError(new TypeError('bad'))).cause, /TypeError: bad/)
})
