/** Cursors of pages: opaque, and refused when they are changed. */
import t from 'tap'
import fc from 'fast-check'
import { createHash } from 'node:crypto'
import { decodeCursor, encodeCursor, type ListName } from '../../lib/cursor.js'

const invalid = { code: 'DOORMAN_CURSOR_INVALID', statusCode: 400 }

t.test('every position survives', async t => {
  fc.assert(fc.property(fc.tuple(fc.maxSafeInteger(), fc.string()), key => {
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

t.test('a forged one with a right checksum still has to be a position of its list', async t => {
  const forge = (list: ListName, json: string) =>
    Buffer.concat([createHash('sha256').update(`${list}\n${json}`).digest().subarray(0, 6), Buffer.from(json)]).toString('base64url')
  const dated = { good: '[5,"a"]', bad: ['["5","a"]', '[5,5]', '[5]', '[5,"a",1]', '[1.5,"a"]', '[1e300,"a"]', '[null,"a"]', '[5,null]', '[5,["a"]]'] }
  const lists: Record<ListName, { good: string, bad: string[] }> = {
    'own-sessions': dated,
    sessions: dated,
    cleanup: dated,
    'ip-logs': { good: '[5]', bad: ['["5"]', '[5,"5"]', '[5,null]', '[5,5,5]', '[9007199254740992]', '[0.5]', '[true]', '[[5]]'] },
    activity: { good: '[5,6]', bad: ['[5]', '[5,"6"]', '["5",6]', '[5,6,7]', '[5,9007199254740992]', '[5,0.5]'] }
  }
  t.strictSame(decodeCursor('ip-logs', forge('ip-logs', '[5,6]')), [5, 6], 'engines differ in how they number rows')
  for (const [name, { good, bad }] of Object.entries(lists)) {
    const list = name as ListName
    t.strictSame(decodeCursor(list, forge(list, good)), JSON.parse(good))
    for (const json of [...bad, '{', '{}', 'null', '[]', '[null]', '[{"a":1}]', '"ab"']) t.throws(() => decodeCursor(list, forge(list, json)), invalid, `${list} ${json}`)
  }
})
