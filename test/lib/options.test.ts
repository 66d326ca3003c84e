/** Options are checked in passes; a bad one is always an error that names it. */
import t from 'tap'
import { nearest, option, resolveOptions } from '../../lib/options.js'

const specs = {
  interval: option.duration(3_600_000, { min: 1000, max: 86_400_000 }),
  timeout: option.duration(null),
  size: option.integer(10, { min: 1, max: 100 }),
  most: option.integer(null, { max: 5 }),
  linger: option.duration(5, { max: 60_000 }),
  count: option.integer(0),
  enabled: option.boolean(true),
  mode: option.oneOf('a', ['a', 'b']),
  name: option.text('x'),
  path: option.text(null, /^\//, 'a path that starts with "/"'),
  headers: option.texts(['x-a'], /^x-/, 'a list of names that start with "x-"'),
  names: option.texts([]),
  clock: option.custom<() => number>(Date.now, 'a function', value => typeof value === 'function')
}

t.test('without options every default holds, and the result is frozen', async t => {
  for (const given of [undefined, {}]) {
    const resolved = resolveOptions('test', given, specs)
    t.strictSame(resolved, { interval: 3_600_000, timeout: null, size: 10, most: null, linger: 5, count: 0, enabled: true, mode: 'a', name: 'x', path: null, headers: ['x-a'], names: [], clock: Date.now })
    t.ok(Object.isFrozen(resolved))
  }
})

t.test('given values are read, the caller\'s object and lists stay as they are', async t => {
  const headers = ['x-b']
  const given = { interval: '15m', timeout: 5, size: 100, most: 5, count: 0, enabled: false, mode: 'b', name: 'y', path: '/m', headers, names: undefined }
  const copy = structuredClone(given)
  const clock = () => 0
  t.equal(resolveOptions('test', { clock }, specs).clock, clock)
  const resolved = resolveOptions('test', Object.freeze(given), specs)
  t.match(resolved, { interval: 900_000, timeout: 5, size: 100, most: 5, enabled: false, mode: 'b', name: 'y', path: '/m', headers: ['x-b'], names: [] })
  t.not(resolved.headers, headers)
  t.strictSame(given, copy)
})

t.test('null is accepted where it is the default, and only there', async t => {
  t.match(resolveOptions('test', { timeout: null, most: null, path: null }, specs), { timeout: null, most: null, path: null })
  for (const name of ['interval', 'size', 'name', 'enabled', 'headers', 'clock']) {
    t.throws(() => resolveOptions('test', { [name]: null }, specs), { code: 'DOORMAN_OPTION_INVALID', message: /got null$/ }, name)
  }
})

t.test('a bad value is an error that names the option, what was expected and what came', async t => {
  const cases: [string, unknown, RegExp][] = [
    ['interval', '1 hour', /^Option "test\.interval" must be a duration in milliseconds or such as "24h" of at least 1s and at most 1d; got "1 hour"$/],
    ['interval', 999, /of at least 1s and at most 1d; got 999$/],
    ['interval', '2d', /got "2d"$/],
    ['timeout', '-1s', /a duration in milliseconds or such as "24h", or null; got "-1s"$/],
    ['size', 0, /an integer of at least 1 and at most 100; got 0$/],
    ['size', 1.5, /got 1\.5$/],
    ['size', '5', /got "5"$/],
    ['most', 6, /an integer of at least 0 and at most 5, or null; got 6$/],
    ['linger', '2m', /of at most 1m; got "2m"$/],
    ['count', -1, /an integer of at least 0; got -1$/],
    ['enabled', 'yes', /true or false; got "yes"$/],
    ['mode', 'c', /one of a, b; got "c"$/],
    ['name', '', /a non-empty string; got ""$/],
    ['path', 'm', /a path that starts with "\/", or null; got "m"$/],
    ['headers', ['x-a', 'b'], /a list of names that start with "x-"; got an array of 2$/],
    ['headers', 'x-a', /got "x-a"$/],
    ['names', [1], /a list of non-empty strings; got an array of 1$/],
    ['clock', 5, /a function; got 5$/]
  ]
  for (const [name, value, message] of cases) {
    t.throws(() => resolveOptions('test', { [name]: value }, specs), { code: 'DOORMAN_OPTION_INVALID', message }, `${name}: ${String(value)}`)
  }
})

t.test('what is not an object is no options object', async t => {
  for (const given of [null, 5, 'x', []]) t.throws(() => resolveOptions('test', given, specs), { code: 'DOORMAN_OPTION_INVALID', message: /^Option "test" must be an object; got / })
})

t.test('an unknown name is an error; a near miss is pointed out', async t => {
  const refused = (name: string, message: RegExp) => t.throws(() => resolveOptions('test', { [name]: 1 }, specs), { code: 'DOORMAN_OPTION_UNKNOWN', message })
  refused('intervall', /^Unknown option "test\.intervall"; did you mean "interval"\?$/)
  refused('time_out', /did you mean "timeout"\?$/)
  refused('zzz', /known are interval, timeout, /)
  refused('toString', /known are/)
  t.throws(() => resolveOptions('test', { sice: undefined }, specs), { code: 'DOORMAN_OPTION_UNKNOWN' }, 'whatever its value')
})

t.test('nearest finds what was meant, or nothing', async t => {
  const known = ['idleTimeout', 'absoluteTimeout', 'max']
  t.equal(nearest('idletimeout', known), 'idleTimeout')
  t.equal(nearest('IDLE_TIMEOUT', known), 'idleTimeout')
  t.equal(nearest('idelTimeout', known), 'idleTimeout')
  t.equal(nearest('mux', known), 'max')
  t.equal(nearest('fox', known), undefined, 'two of three letters differ')
  t.equal(nearest('', known), undefined)
  t.equal(nearest('anything', []), undefined)
})
