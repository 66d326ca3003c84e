import t from 'tap'
import fc from 'fast-check'
import { createHash } from 'node:crypto'
import { decodeCursor, encodeCursor } from '../../lib/cursor.js'

const invalid = { code: 'DOORMAN_CURSOR_INVALID', statusCode: 400 }

t.test('every position survives', async t => {
  fc.assert(fc.property(fc.array(fc.oneof(fc.string(), fc.integer()), { minLength: 1, maxLength: 4 }), key => {
    const cursor = encodeCursor('sessions', key)
    t.match(cursor, /^[\w-]+$/)
    t.strictSame(decodeCursor('sessions', cursor!), key)
  }), { numRuns: 100 })
  t.equal(encodeCursor('sessions', null), null)
})

t.test('a cursor of another list is refused', async t => {
  t.throws(() => decodeCursor('activity', encodeCursor('sessions', [1, 'a'])!), invalid)
})

t.test('any change is noticed', async t => {
  const cursor = encodeCursor('sessions', [1700000000000, 'abc'])!
  for (let i = 0; i < cursor.length; i++) {
    const other = cursor[i] === 'A' ? 'B' : 'A'
    t.throws(() => decodeCursor('sessions', cursor.slice(0, i) + other + cursor.slice(i + 1)), invalid)
  }
  for (const text of ['', 'x', cursor.slice(0, -1), `${cursor}A`, `${cursor}=`, ` ${cursor}`, 'A'.repeat(100_000), '\u0000', 'null']) {
    t.throws(() => decodeCursor('sessions', text), invalid)
  }
})

t.test('a forged one with a right checksum still has to be a position', async t => {
  const forge = (json: string) => Buffer.concat([createHash('sha256').update(`sessions\n${json}`).digest().subarray(0, 6), Buffer.from(json)]).toString('base64url')
  t.strictSame(decodeCursor('sessions', forge('[1]')), [1])
  for (const json of ['{', '{}', 'null', '[]', '[null]', '[{"a":1}]', '[true]']) t.throws(() => decodeCursor('sessions', forge(json)), invalid)
})
