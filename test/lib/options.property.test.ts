/** Options and variables: what is given is read exactly, or refused with a code. Never is a default taken in its place. */
import fc from 'fast-check'
import t from 'tap'
import { loadConfig } from '../../config.js'
import { formatDuration, parseDuration } from '../../lib/duration.js'
import { option, resolveOptions, type OptionSpec } from '../../lib/options.js'

/** What is read for one option; the code where it is refused. */
function read (spec: OptionSpec<unknown>, value: unknown): unknown {
  try {
    return resolveOptions('test', { value }, { value: spec }).value
  } catch (error) {
    return (error as { code: string }).code
  }
}

const REFUSED = 'DOORMAN_OPTION_INVALID'
/** Defaults out of their own ranges, so that one that is taken can be told from a value. */
const specs = {
  duration: option.duration(-1, { min: 10, max: 10 ** 9 }),
  integer: option.integer(-1, { min: 10, max: 10 ** 9 }),
  boolean: option.boolean('default' as unknown as boolean),
  oneOf: option.oneOf('default', ['a', 'b']),
  text: option.text('', /^[ab]+$/),
  texts: option.texts([''], /^[ab]+$/)
}
const anything = fc.oneof(fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withSparseArray: true }), fc.double(), fc.integer(), fc.string(), fc.constantFrom('1s', '10ms', 'a', 'b', true, 500, ['a'], ''))

t.test('a value of any kind is taken as it is, or refused', async t => {
  for (const [name, spec] of Object.entries(specs)) {
    fc.assert(fc.property(anything, value => {
      const got = read(spec, value)
      if (value === undefined) return got === spec.fallback
      if (got === REFUSED) return true
      if (name === 'duration') return got === parseDuration(value) && (got as number) >= 10 && (got as number) <= 10 ** 9
      if (name === 'texts') return JSON.stringify(got) === JSON.stringify(value)
      return got === value
    }), { numRuns: 1000 })
  }
  t.pass('1000 values for each kind')
})

t.test('every value of the range is taken', async t => {
  fc.assert(fc.property(fc.integer({ min: 10, max: 10 ** 9 }), n => read(specs.integer, n) === n && read(specs.duration, n) === n && read(specs.duration, formatDuration(n)) === n))
  fc.assert(fc.property(fc.oneof(fc.integer({ max: 9 }), fc.integer({ min: 10 ** 9 + 1 })), n => read(specs.integer, n) === REFUSED && read(specs.duration, n) === REFUSED))
  t.pass('and none beyond')
})

t.test('durations: as written, exactly', async t => {
  const units = { ms: 1n, s: 1000n, m: 60_000n, h: 3_600_000n, d: 86_400_000n, w: 604_800_000n }
  fc.assert(fc.property(fc.nat({ max: 10 ** 6 }), fc.constantFrom(...Object.keys(units) as (keyof typeof units)[]), (amount, unit) => parseDuration(`${amount}${unit}`) === Number(BigInt(amount) * units[unit])))
  fc.assert(fc.property(fc.nat({ max: 10 ** 6 }), fc.nat({ max: 999 }), (whole, part) => parseDuration(`${whole}.${String(part).padStart(3, '0')}s`) === whole * 1000 + part))
  fc.assert(fc.property(fc.string(), text => {
    const ms = parseDuration(text)
    return ms === undefined || (Number.isSafeInteger(ms) && ms >= 0 && parseDuration(formatDuration(ms)) === ms)
  }), { numRuns: 2000 })
  t.pass('units and fractions')
})

t.test('variables: as written, or refused; blank is not set', async t => {
  const numeric = fc.oneof(fc.string(), fc.integer().map(String), fc.double().map(String), fc.constantFrom('0', '65535', '65536', '007', '1e3', '0x10', '-1', '+1', ' 80 ', '٣', '1_000', '10s', '1h', '1.5h', '500d', '0s'))
  const load = (env: Record<string, string>) => {
    try {
      return loadConfig(env, { file: null })
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  fc.assert(fc.property(numeric, text => {
    const config = load({ PORT: text })
    if (typeof config === 'string') return config === 'DOORMAN_CONFIG_INVALID'
    return text.trim() === '' ? config.port === 3000 : /^\d+$/.test(text.trim()) && config.port === Number(text.trim())
  }), { numRuns: 1000 })
  fc.assert(fc.property(numeric, text => {
    const config = load({ BUSY_TIMEOUT: text })
    if (typeof config === 'string') return config === 'DOORMAN_CONFIG_INVALID'
    return text.trim() === '' ? config.busyTimeout === 30_000 : config.busyTimeout === parseDuration(text.trim())
  }), { numRuns: 1000 })
  t.pass('1000 texts each')
})
