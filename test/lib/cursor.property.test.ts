/** Cursors: what was given out is read back as it was; anything else is refused with one code. */
import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { decodeCursor, encodeCursor, type ListName } from '../../lib/cursor.js'
import type { PageKey } from '../../storage/storage.js'

const whole = fc.maxSafeInteger()
const keys: Record<ListName, fc.Arbitrary<PageKey>> = {
  'own-sessions': fc.tuple(whole, fc.string({ unit: 'grapheme' })),
  sessions: fc.tuple(whole, fc.string({ unit: 'grapheme' })),
  cleanup: fc.tuple(whole, fc.uuid()),
  'ip-logs': fc.tuple(whole),
  activity: fc.tuple(whole, whole)
}
const lists = Object.keys(keys) as ListName[]

/** The position, or the code of the refusal. */
function read (list: ListName, text: string): PageKey | string {
  try {
    return decodeCursor(list, text)
  } catch (error) {
    return (error as { code: string }).code
  }
}

t.test('every position of every list survives, and is of that list only', async t => {
  for (const list of lists) {
    fc.assert(fc.property(keys[list], key => {
      const cursor = encodeCursor(list, key)!
      return isDeepStrictEqual(read(list, cursor), key) && encodeURIComponent(cursor) === cursor && lists.every(other => other === list || read(other, cursor) === 'DOORMAN_CURSOR_INVALID')
    }))
  }
  t.pass('of all lists')
})

t.test('garbage is refused', async t => {
  const garbage = fc.oneof(fc.string({ unit: 'binary' }), fc.base64String(), fc.uint8Array({ maxLength: 900 }).map(bytes => Buffer.from(bytes).toString('base64url')), fc.json())
  fc.assert(fc.property(fc.constantFrom(...lists), garbage, (list, text) => read(list, text) === 'DOORMAN_CURSOR_INVALID'), { numRuns: 2000 })
  t.pass('2000 texts')
})

t.test('a part of one, or one with something else in it, is refused', async t => {
  fc.assert(fc.property(fc.constantFrom(...lists).chain(list => fc.tuple(fc.constant(list), keys[list])), fc.nat(), fc.string({ minLength: 1, maxLength: 5 }), ([list, key], at, text) => {
    const cursor = encodeCursor(list, key)!
    const place = at % cursor.length
    const others = [cursor.slice(0, place), cursor.slice(place + 1), cursor.slice(0, place) + text + cursor.slice(place), cursor.slice(0, place) + text + cursor.slice(place + text.length)]
    return others.every(other => other === cursor || read(list, other) === 'DOORMAN_CURSOR_INVALID')
  }), { numRuns: 1000 })
  t.pass('1000 cursors')
})
