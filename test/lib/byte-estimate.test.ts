/** The estimate of what waits: by the length of strings, and from a sample. */
import t from 'tap'
import { estimateBytes } from '../../lib/byte-estimate.js'

t.test('strings by their length, binary data by its bytes, the rest 8 bytes', async t => {
  t.equal(estimateBytes('hello'), 5)
  t.equal(estimateBytes(new Uint8Array(32)), 32)
  for (const value of [5, 5n, true, null, undefined]) t.equal(estimateBytes(value), 8)
  t.equal(estimateBytes({ path: '/login', at: 5 }), 8 + 6 + 8 + 8)
  t.equal(estimateBytes([]), 0)
  t.equal(estimateBytes(['abc', { a: 'd' }]), 8 + 3 + 8 + 8 + 1)
})

t.test('long lists by an even sample, so that asking costs little', async t => {
  t.equal(estimateBytes(Array.from({ length: 100_000 }, () => 'x'.repeat(92))), 100_000 * 100)
  let looked = 0
  const row = { get path () { looked++; return '/login' } }
  estimateBytes(Array.from({ length: 100_000 }, () => row))
  t.ok(looked <= 32, `${looked} of them were looked at`)
  const half = Array.from({ length: 1000 }, (_, i) => i < 500 ? '' : 'x'.repeat(100))
  const estimate = estimateBytes(half)
  t.ok(Math.abs(estimate - 58_000) < 3000, `${estimate} is about 58 000`)
})
