/** Which of the driver's errors pass, and what they are called. */
import t from 'tap'
import { doormanError } from '../../../errors.js'
import { asCause, classify, isRowFault, isUncertain, sqlState, toDoormanError } from '../../../storage/postgres/errors.js'

const failed = (code: string, more: object = {}) => Object.assign(new Error(`it said ${code}`), { code, ...more })

t.test('what is worth another attempt', async t => {
  for (const code of ['40001', '40P01', '40003', '55P03']) t.equal(classify(failed(code), false, false), 'conflict', code)
  for (const code of ['08006', '57P01', '57P02', '57P03', '57P05', '25006', '53300']) t.equal(classify(failed(code), false, false), 'lost', code)
  for (const code of ['23505', '57014', '42P01', '53100', 'XX001', '28P01']) t.equal(classify(failed(code), true, false), 'final', code)
  t.equal(classify(failed('25006'), false, true), 'final', 'a change in a reading transaction')
  t.equal(classify(failed('ECONNRESET'), true, false), 'lost')
  t.equal(classify(new TypeError('a fault of ours'), false, false), 'final')
  t.equal(classify(doormanError('DOORMAN_CONSTRAINT', ['x']), true, false), 'final')
  t.equal(classify(failed('0A000', { routine: 'RevalidateCachedQuery' }), false, false), 'lost', 'prepared before the schema changed')
  t.equal(classify(failed('0A000', { routine: 'other' }), false, false), 'final')
})

t.test('what may have been stored all the same', async t => {
  for (const error of [failed('ECONNRESET'), failed('57P01'), failed('08006'), failed('40003')]) t.ok(isUncertain(error), error.code)
  for (const code of ['40001', '25006', '53300']) t.notOk(isUncertain(failed(code)), code)
})

t.test('names', async t => {
  for (const [error, code, message] of [
    [failed('23505', { constraint: 'sessions_pkey', detail: 'Key (token_hash)=(secret)' }), 'DOORMAN_CONSTRAINT', /sessions_pkey/],
    [failed('22P02'), 'DOORMAN_CONSTRAINT', /22P02/],
    [failed('40001'), 'DOORMAN_STORAGE_BUSY', /longer than 70 ms/],
    [failed('57014'), 'DOORMAN_STORAGE_BUSY', /70/],
    [failed('42601'), 'DOORMAN_SQL_INVALID', /it said 42601/],
    [failed('25001'), 'DOORMAN_SQL_INVALID', /it said/],
    [failed('42501'), 'DOORMAN_STORAGE_FAILED', /42501/],
    [failed('53100'), 'DOORMAN_STORAGE_FULL', /full/],
    [failed('58030'), 'DOORMAN_STORAGE_IO', /58030/],
    [failed('XX002'), 'DOORMAN_STORAGE_CORRUPT', /XX002/],
    [failed('25006'), 'DOORMAN_STORAGE_READONLY', /25006/],
    [failed('57P03'), 'DOORMAN_STORAGE_UNAVAILABLE', /57P03/],
    [failed('F0000'), 'DOORMAN_STORAGE_FAILED', /F0000/],
    [new TypeError('a fault of ours'), 'DOORMAN_SQL_INVALID', /a fault of ours/]
  ] as const) t.match(toDoormanError(error, 70), { code, message }, code)
  t.match(toDoormanError(failed('ECONNREFUSED'), 70, true), { code: 'DOORMAN_STORAGE_UNAVAILABLE', message: /ECONNREFUSED/ })
  t.match(toDoormanError(new Error('Connection terminated'), 70, true), { code: 'DOORMAN_STORAGE_UNAVAILABLE', message: /Connection terminated/ })
  const own = doormanError('DOORMAN_CONSTRAINT', ['x'])
  t.equal(toDoormanError(own, 70), own)
})

t.test('nothing of a row gets into a log', async t => {
  const error = toDoormanError(failed('23514', { constraint: 'c', detail: 'Failing row contains (secret)', where: 'secret' }), 0)
  t.notMatch(JSON.stringify([error, error.cause, Object.entries(error.cause as object)]), /secret/)
  t.strictSame(Object.entries(asCause(new Error('x'))), [])
  t.match(asCause(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })), { message: 'ECONNREFUSED', code: 'ECONNREFUSED' })
})

t.test('faults of a row, also when they are wrapped', async t => {
  t.ok(isRowFault(failed('22021')))
  t.ok(isRowFault(toDoormanError(failed('P0001'), 0)))
  t.notOk(isRowFault(failed('40001')))
  t.notOk(isRowFault('a text'))
  for (const code of ['ECONNRESET', 'EPIPE']) t.equal(sqlState(failed(code)), undefined)
  t.equal(sqlState(Object.assign(new Error('x'), { code: 5 })), undefined)
})
