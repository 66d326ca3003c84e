/** A clock that was set is noticed once; one that goes a little wrong is not. */
import t from 'tap'
import { watchClock } from '../../lib/clock-watch.js'

function setup () {
  const time = { clock: 1_000_000, monotonic: 5.5 }
  const look = watchClock(() => time.clock, () => time.monotonic, 100, 10)
  /** Moves both and looks. */
  const after = (clock: number, monotonic: number) => {
    time.clock += clock
    time.monotonic += monotonic
    return look()
  }
  return { after }
}

t.test('clocks that agree, more or less', async t => {
  const { after } = setup()
  t.equal(after(0, 0), null)
  t.equal(after(1_000_000, 1_000_000), null, 'however long it is')
  t.equal(after(600, 500), null, 'exactly as far ahead as it may be')
  t.equal(after(490, 500), null, 'exactly as far behind')
})

t.test('ahead, behind, and backwards: told once', async t => {
  const { after } = setup()
  t.strictSame(after(601, 500), { clock: 601, monotonic: 500 })
  t.equal(after(500, 500), null, 'it agrees since')
  t.strictSame(after(489, 500), { clock: 489, monotonic: 500 })
  t.strictSame(after(-11, 0), { clock: -11, monotonic: 0 })
  t.equal(after(0, 0), null)
})
