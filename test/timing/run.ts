/**
 * Whether refusals can be told apart by how long they take.
 *
 *   npm run timing                      4000 requests of each class, about a minute
 *   npm run timing -- --samples 20000
 */
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { measure } from './measure.js'
import { textTable } from '../../lib/text-table.js'

const { values } = parseArgs({ options: { samples: { type: 'string', default: '4000' } } })
const samples = Number(values.samples)
if (!Number.isSafeInteger(samples) || samples < 10) {
  console.error(`samples must be a whole number of at least 10; got ${values.samples}\nnpm run timing -- [--samples 4000]`)
  process.exit(2)
}
console.log(`load of the machine before: ${loadavg()[0]!.toFixed(2)}`)
const { comparisons, replies } = await measure(samples)
const µs = (value: number) => value.toFixed(1)
console.log(textTable(['', 'against', 'median µs', 'median µs', 'difference µs (95 %)', 'AUC', 'control', 'band', ''], comparisons.map(({ a, b, medians, difference, auc, control, band, indistinguishable }) => [
  a, b, µs(medians[0]), µs(medians[1]), `${µs(difference.difference)} (${µs(difference.low)} to ${µs(difference.high)})`, auc.toFixed(3), control.toFixed(3), band.toFixed(3), indistinguishable ? 'indistinguishable beyond noise' : 'distinguishable'
])))
console.log(`${samples} samples of each class. AUC: probability that one of the first takes longer than one of the second; control: the same for two halves of one class.`)
const different = comparisons.filter(({ a, b }) => [...replies.get(a)!].join() !== [...replies.get(b)!].join())
for (const { a, b } of different) console.log(`The replies to ${a} and ${b} differ: ${[...replies.get(a)!, ...replies.get(b)!].join('\n')}`)
process.exitCode = different.length === 0 ? 0 : 1
