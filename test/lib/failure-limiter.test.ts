/** The limit of failures per client, on a clock of the test. */
import t from 'tap'
import { createFailureLimiter } from '../../lib/failure-limiter.js'

function setup () {
  let now = 1000
  return { limiter: createFailureLimiter({ max: 3, window: 60_000, capacity: 2, clock: () => now }), at: (ms: number) => { now = ms } }
}

t.test('as many failures as allowed, then the time to wait', async t => {
  const { limiter, at } = setup()
  t.strictSame([limiter.fail('a'), limiter.fail('a'), limiter.fail('a'), limiter.fail('a')], [0, 0, 0, 60_000])
  at(31_000)
  t.equal(limiter.fail('a'), 30_000)
  t.equal(limiter.fail('b'), 0, 'others are counted apart')
})

t.test('a new window starts from nothing', async t => {
  const { limiter, at } = setup()
  for (let i = 0; i < 4; i++) limiter.fail('a')
  at(60_999)
  t.equal(limiter.fail('a'), 1)
  at(61_000)
  t.equal(limiter.fail('a'), 0)
})

t.test('a clock that is set back locks nobody out for longer', async t => {
  const { limiter, at } = setup()
  at(3_600_000)
  for (let i = 0; i < 4; i++) limiter.fail('a')
  at(0)
  t.strictSame([limiter.fail('a'), limiter.fail('a'), limiter.fail('a'), limiter.fail('a')], [0, 0, 0, 60_000])
})

t.test('memory is bounded: the network that failed first is forgotten first', async t => {
  const { limiter, at } = setup()
  for (let i = 0; i < 4; i++) limiter.fail('a')
  at(2000)
  limiter.fail('b')
  limiter.fail('c')
  t.equal(limiter.size(), 2)
  t.equal(limiter.fail('a'), 0, 'forgotten')
  t.equal(limiter.size(), 2)
})
