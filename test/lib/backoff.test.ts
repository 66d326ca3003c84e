/** The pause between attempts: doubles, is capped, and is spread over its whole range. */
import fc from 'fast-check'
import t from 'tap'
import { backoff, BACKOFF_BASE, BACKOFF_CAP } from '../../lib/backoff.js'

const almostOne = () => 1 - Number.EPSILON

t.test('the ceiling doubles with each attempt, from the base to the cap', async t => {
  t.strictSame([0, 1, 2, 3].map(attempt => backoff(attempt, almostOne)), [50, 100, 200, 400])
  t.equal(backoff(0, almostOne), BACKOFF_BASE)
  t.equal(backoff(7, almostOne), BACKOFF_CAP)
  t.equal(backoff(5000, almostOne), BACKOFF_CAP, 'also where 2^attempt is infinite')
})

t.test('full jitter: the pause lies anywhere below the ceiling, but is never nothing', async t => {
  t.equal(backoff(10, () => 0), 1)
  t.equal(backoff(10, () => 0.5), BACKOFF_CAP / 2)
  fc.assert(fc.property(fc.nat(), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (attempt, random) => {
    const ms = backoff(attempt, () => random)
    return Number.isInteger(ms) && ms >= 1 && ms <= BACKOFF_CAP
  }))
})
