/** The error catalogue: its codes, and what its errors carry. */
import { STATUS_CODES } from 'node:http'
import t from 'tap'
import { doormanError, errorCatalogue, isDoormanError, show, type DoormanErrorCode } from '../errors.js'

const codes = Object.keys(errorCatalogue) as DoormanErrorCode[]

t.test('codes have the prefix, statuses exist, messages say something', async t => {
  for (const code of codes) {
    const [status, message] = errorCatalogue[code]
    t.match(code, /^DOORMAN_[A-Z]+(_[A-Z]+)*$/)
    t.ok(status >= 400 && status in STATUS_CODES, `${code}: ${status}`)
    t.match(message, /\S/, code)
    t.notMatch(message, /[.!]$/, `${code}: no full stop, for messages are joined with others`)
  }
})

t.test('storage trouble may be tried again, and says so by its status', async t => {
  for (const code of codes.filter(code => code.startsWith('DOORMAN_STORAGE_'))) t.equal(errorCatalogue[code][0], 503, code)
})

t.test('an error with 503 says when to try again, to Fastify and not to logs', async t => {
  for (const code of codes) {
    const error = doormanError(code)
    t.equal(error.headers?.['retry-after'], error.statusCode === 503 ? '1' : undefined, code)
    t.notMatch(Object.keys({ ...error }), ['headers'])
  }
})

t.test('every error is an Error with code, status and a message without placeholders', async t => {
  for (const code of codes) {
    const [status, template] = errorCatalogue[code]
    const args = [...template.matchAll(/%[sd]/g)].map(([type]) => type === '%d' ? 7 : 'word')
    const error = doormanError(code, args)
    t.type(error, Error)
    t.equal(error.code, code)
    t.equal(error.statusCode, status)
    t.notMatch(error.message, /%[sd]/, code)
    t.notOk('cause' in error)
    t.ok(isDoormanError(error))
  }
})

t.test('placeholders are filled in order', async t => {
  t.equal(doormanError('DOORMAN_OPTION_INVALID', ['a.b', 'a number', '"x"']).message, 'Option "a.b" must be a number; got "x"')
  t.equal(doormanError('DOORMAN_CLOSE_INCOMPLETE', [1000, 3]).message, 'Closing gave up after 1000 ms: 3 operations were not stored')
})

t.test('the cause is kept, whatever it is, and never shown in the message', async t => {
  const cause = Object.assign(new Error('SQLITE_BUSY: SELECT 1'), { code: 'SQLITE_BUSY' })
  const error = doormanError('DOORMAN_STORAGE_BUSY', [30_000], cause)
  t.equal(error.cause, cause)
  t.notMatch(error.message, /SQLITE|SELECT/)
  t.equal(doormanError('DOORMAN_INTERNAL', [], null).cause, null)
  t.equal(doormanError('DOORMAN_INTERNAL', [], 'text').cause, 'text')
})

t.test('isDoormanError goes by the code', async t => {
  t.ok(isDoormanError(Object.assign(new Error('of another copy of the package'), { code: 'DOORMAN_QUEUE_FULL' })))
  for (const other of [
    new Error('none'), Object.assign(new Error('other'), { code: 'SQLITE_BUSY' }), Object.assign(new Error('number'), { code: 5 }),
    Object.assign(new Error('inherited'), { code: 'toString' }), { code: 'DOORMAN_QUEUE_FULL' }, 'DOORMAN_QUEUE_FULL', null, undefined
  ]) t.notOk(isDoormanError(other))
})

t.test('show tells what came, short and on one line', async t => {
  class Thing {}
  const cases: [unknown, string][] = [
    ['a "b"\n', '"a \\"b\\"\\n"'], ['x'.repeat(60), `"${'x'.repeat(60)}"`], ['x'.repeat(61), `"${'x'.repeat(57)}..."`],
    [5, '5'], [NaN, 'NaN'], [10n, '10'], [true, 'true'], [null, 'null'], [undefined, 'undefined'], [Symbol('s'), 'Symbol(s)'],
    [() => {}, 'a function'], [Thing, 'a function'], [[1, 2], 'an array of 2'], [`dm_${'A'.repeat(49)}`, '"dm_***"'], [{}, 'an object'], [new Thing(), 'an object']
  ]
  for (const [value, text] of cases) t.equal(show(value), text)
})
