/** Durations are read exactly or not at all. */
import fc from 'fast-check'
import t from 'tap'
import { formatDuration, parseDuration } from '../../lib/duration.js'

t.test('reads numbers as milliseconds and texts with a unit', async t => {
  const expected: [unknown, number][] = [
    [0, 0], [250, 250], ['250ms', 250], ['30s', 30_000], ['15m', 900_000], ['24h', 86_400_000], ['30d', 2_592_000_000], ['2w', 1_209_600_000],
    ['0s', 0], ['0ms', 0], ['1.5h', 5_400_000], ['0.5s', 500], ['2.3h', 8_280_000], ['0.001s', 1]
  ]
  for (const [value, ms] of expected) t.equal(parseDuration(value), ms, String(value))
})

t.test('refuses everything else', async t => {
  const values = ['', '30', 's', '30 s', '30S', '-1s', '+1s', '.5s', '1.s', '1e3s', '1h30m', '30sec', '1y', ' 1s', '1s\n', '1.5ms', '0.0001s', `${'9'.repeat(20)}s`, 'toString',
    -1, 1.5, NaN, Infinity, 2 ** 53, null, undefined, true, 10n, {}, ['1s']]
  for (const value of values) t.equal(parseDuration(value), undefined, typeof value === 'string' ? JSON.stringify(value) : typeof value)
})

t.test('writes the largest unit that divides it', async t => {
  const expected: [number, string][] = [[0, '0ms'], [1, '1ms'], [999, '999ms'], [1000, '1s'], [90_000, '90s'], [60_000, '1m'], [86_400_000, '1d'], [90_000_000, '25h'], [30 * 86_400_000, '30d']]
  for (const [ms, text] of expected) t.equal(formatDuration(ms), text)
})

t.test('what is written reads back as the same', async t => {
  fc.assert(fc.property(fc.oneof(fc.nat(), fc.nat({ max: 1000 }).map(n => n * 86_400_000), fc.maxSafeNat()), ms => parseDuration(formatDuration(ms)) === ms))
})
