/** Counting over sliding windows, and how much is remembered. */
import fc from 'fast-check'
import t from 'tap'
import { createCount, createDistinct, createWatch, type Tally } from '../../lib/abuse-watch.js'

const MINUTE = 60_000
const times = (tally: Tally, n: number, now: number) => Array.from({ length: n }, () => tally.add(now, '')).at(-1)

t.test('a count: exact in the first window, sliding from then on', async t => {
  const tally = createCount(MINUTE)
  t.equal(tally.count(0), 0)
  t.equal(times(tally, 60, 1_000_000), 60)
  t.equal(tally.count(1_000_000 + MINUTE - 1), 60)
  t.equal(tally.count(1_000_000 + MINUTE), 60)
  t.equal(tally.count(1_000_000 + 1.5 * MINUTE), 30, 'half of the window before is still in this one')
  t.equal(tally.add(1_000_000 + 1.5 * MINUTE, ''), 31)
  t.equal(tally.count(1_000_000 + 2 * MINUTE - 1), 1)
  t.equal(tally.add(1_000_000 + 9 * MINUTE, ''), 1, 'after silence it begins anew')
  t.equal(tally.add(5000, ''), 1, 'a clock that was set back begins anew as well')
  t.equal(tally.count(5000 + MINUTE), 1)
})

t.test('a count never says more than came in two windows, nor less than in none', async () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 50_000 }), { maxLength: 60 }), steps => {
    const tally = createCount(MINUTE)
    const came: number[] = []
    let now = 0
    return steps.every(step => {
      now += step
      came.push(now)
      const count = tally.add(now, '')
      return count >= 1 && count <= came.filter(at => at > now - 2 * MINUTE).length
    })
  }))
})

t.test('different items: each once, the latest of them, while they are in the window', async t => {
  const tally = createDistinct(MINUTE, 3, Number)
  t.strictSame(['1', '1', '2', '1'].map((item, i) => tally.add(i, item)), [1, 1, 2, 2])
  t.equal(tally.add(10, '3'), 3)
  t.equal(tally.add(11, '4'), 3, 'no more than the limit is remembered')
  t.equal(tally.count(MINUTE + 3), 2, 'the second was seen at 2, and forgotten as the fourth came; the first was seen again at 3')
  t.equal(tally.count(MINUTE + 10), 1)
  t.equal(tally.add(MINUTE + 11, '5'), 1)
  t.equal(tally.add(0, '6'), 1, 'what is a window ahead of the clock is of one that was set back')
})

interface Signal { address: string, count: number, now: number }

function make (limit: number, capacity = 4) {
  return createWatch<Signal>({ limit, window: MINUTE, capacity, createTally: () => createCount(MINUTE), createSignal: (address, count, now) => ({ address, count, now }) })
}

t.test('a signal at the limit, one in each window', async t => {
  const watch = make(3)
  const add = (now: number) => watch.add('a', now, '', 'address')
  t.strictSame([1, 2, 3, 4, 5].map(add), [null, null, { address: 'address', count: 3, now: 3 }, null, null])
  t.match(watch.signalled(6), [{ signal: { now: 3 } }])
  t.equal(watch.signalled(6)[0]!.tally.count(6), 5, 'counted on')
  t.equal(add(MINUTE + 2), null)
  t.match(add(MINUTE + 3), { count: 6 }, 'it goes on')
  t.equal(add(3 * MINUTE), null, 'below the limit again: it has to be reached anew')
  t.strictSame(watch.signalled(3 * MINUTE), [])
  t.equal(add(3 * MINUTE), null)
  t.match(add(3 * MINUTE), { count: 3 })
  t.equal(watch.size(), 1)
})

t.test('the latest signal comes first', async t => {
  const watch = make(2)
  for (const place of ['a', 'b', 'a', 'b']) watch.add(place, 5, '', place)
  t.strictSame(watch.signalled(6).map(({ signal }) => signal.address), ['b', 'a'])
})

t.test('what was seen least recently is forgotten', async t => {
  const watch = make(3)
  const add = (...places: string[]) => places.map(place => watch.add(place, 1, '', place)?.count ?? 0)
  add('a', 'b', 'c', 'a', 'd')
  t.equal(watch.size(), 3, 'b was in the generation that was dropped for d')
  t.strictSame(add('a'), [3], 'a was seen since')
  t.strictSame(add('b', 'b'), [0, 0], 'b begins anew')
  t.strictSame(add('b'), [3])
})

t.test('memory is bounded, whatever comes', async t => {
  const watch = make(2, 100)
  for (let i = 0; i < 10_000; i++) {
    watch.add(`place ${i}`, i, '', '')
    if (i % 3 === 0) watch.add(`place ${i}`, i, '', '')
    if (watch.size() > 200) t.fail(`${watch.size()} places`)
  }
  t.equal(watch.signalled(10_000).length, 100)
})

t.test('a flood of other places forgets none that was signalled', async t => {
  const watch = make(2)
  watch.add('a', 1, '', 'a')
  t.ok(watch.add('a', 1, '', 'a'))
  for (let i = 0; i < 1000; i++) watch.add(`place ${i}`, 2, '', '')
  t.match(watch.signalled(3), [{ signal: { address: 'a' } }])
  t.equal(watch.add('a', 3, '', 'a'), null, 'no second signal within the window')
  t.match(watch.add('a', MINUTE + 1, '', 'a'), { count: 4 }, 'and its count goes on')
})

t.test('signalled ones are forgotten when their window is over, or for later ones where there are too many', async t => {
  const watch = make(1)
  for (const place of ['a', 'b', 'c', 'd', 'e']) t.ok(watch.add(place, 1, '', place))
  t.strictSame(watch.signalled(2).map(({ signal }) => signal.address), ['e', 'd', 'c', 'b'])
  t.ok(watch.add('f', MINUTE + 1, '', 'f'))
  t.equal(watch.size(), 1)
})
