/** The exact part of "told apart by nothing": the replies are the same, byte by byte. How long they take is judged by `npm run timing`, on a machine that is at rest. */
import t from 'tap'
import { Random } from '../fuzz/random.js'
import { measure } from './measure.js'
import { auc, median, medianDifference, shuffle } from './statistics.js'

t.test('refusals that must not be told apart are the same in every byte but the date', async t => {
  const { comparisons, replies, samples } = await measure(20)
  t.equal(comparisons.length, 6)
  for (const [name, texts] of replies) t.equal(texts.size, 1, `${name}: one reply for all ${samples}`)
  for (const { a, b, auc, medians } of comparisons) {
    t.strictSame([...replies.get(a)!], [...replies.get(b)!], `${a} and ${b}`)
    t.ok(auc >= 0 && auc <= 1 && medians.every(value => value > 0))
  }
  t.match([...replies.get('unknown token')!][0], /^HTTP\/1\.1 401 [^]*"code":"DOORMAN_SESSION_INVALID"/)
  t.match([...replies.get('unknown id')!][0], /^HTTP\/1\.1 404 [^]*"code":"DOORMAN_SESSION_NOT_FOUND"/)
})

t.test('the figures say what they should', async t => {
  const random = new Random(7)
  t.equal(auc([1, 2, 3], [1, 2, 3]), 0.5)
  t.equal(auc([4, 5], [1, 2, 3]), 1)
  t.equal(auc([1], [1, 2]), 0.25)
  t.equal(median([1, 2, 3]), 2)
  t.equal(median([1, 2]), 1.5)
  const noise = () => Array.from({ length: 400 }, () => random.below(1000) / 10)
  const [a, b] = [noise(), noise()]
  t.ok(Math.abs(auc(a, b) - 0.5) < 0.1, 'noise against noise')
  const slower = b.map(value => value + 60)
  t.ok(auc(slower, a) > 0.8, 'a difference is seen')
  const { difference, low, high } = medianDifference(slower, a, random)
  t.ok(low > 0 && low <= difference && difference <= high)
  t.strictSame(shuffle([1, 2, 3, 4], random).sort(), [1, 2, 3, 4])
})
