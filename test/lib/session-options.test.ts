/** Options of the session service: defaults, presets, and what is refused. */
import t from 'tap'
import { formatDuration } from '../../lib/duration.js'
import { resolveSessionOptions } from '../../lib/session-options.js'

t.test('defaults', async t => {
  t.same(resolveSessionOptions(undefined), {
    preset: null,
    idleTimeout: 86_400_000,
    absoluteTimeout: 30 * 86_400_000,
    touchInterval: 60_000,
    maxPerUser: null,
    limitPolicy: 'evict-oldest',
    renewAfter: null,
    renewGrace: 30_000,
    tokenReuse: 'report',
    freshness: 900_000,
    clientChange: 'flag',
    devices: true,
    dataLimit: 16_384,
    userAgentLimit: 500
  })
  t.ok(Object.isFrozen(resolveSessionOptions({})))
})

t.test('the touch interval follows a short idle timeout, unless it is given', async t => {
  t.equal(resolveSessionOptions({ idleTimeout: '5m' }).touchInterval, 30_000)
  t.equal(resolveSessionOptions({ idleTimeout: '5m', touchInterval: '4m' }).touchInterval, 240_000)
  t.equal(resolveSessionOptions({ idleTimeout: '5m', touchInterval: 0 }).touchInterval, 0)
})

t.test('R16: the presets of NIST', async t => {
  const timeouts = (options: object) => {
    const { preset, absoluteTimeout, idleTimeout, freshness, touchInterval } = resolveSessionOptions(options)
    return [preset, ...[absoluteTimeout, idleTimeout, freshness, touchInterval].map(formatDuration)]
  }
  t.same(timeouts({ preset: null }), [null, '30d', '1d', '15m', '1m'])
  t.same(timeouts({ preset: 'aal1' }), ['aal1', '30d', '1d', '15m', '1m'])
  t.same(timeouts({ preset: 'aal2' }), ['aal2', '1d', '1h', '15m', '1m'])
  t.same(timeouts({ preset: 'aal3' }), ['aal3', '12h', '15m', '5m', '1m'])
  t.same(timeouts({ preset: 'aal3', absoluteTimeout: '8h', idleTimeout: '5m', freshness: '1m' }), ['aal3', '8h', '5m', '1m', '30s'], 'stricter')
  t.same(timeouts({ preset: 'aal1', idleTimeout: '30d' }), ['aal1', '30d', '30d', '15m', '1m'], 'at this level silence ends nothing')
  t.same(timeouts({ preset: 'aal2', idleTimeout: undefined, absoluteTimeout: '24h' }), ['aal2', '1d', '1h', '15m', '1m'])
})

t.test('R16: looser than its preset is refused, by name', async t => {
  const wrong: [object, RegExp][] = [
    [{ preset: 'aal1', absoluteTimeout: '31d' }, /^Option "sessions\.absoluteTimeout" must be at most 30d with preset "aal1"; got 31d$/],
    [{ preset: 'aal2', idleTimeout: 3_600_001 }, /sessions\.idleTimeout.*at most 1h with preset "aal2"; got 3600001ms/],
    [{ preset: 'aal3', freshness: '15m' }, /sessions\.freshness.*at most 5m/],
    [{ preset: 'aal2', absoluteTimeout: '30m' }, /sessions\.absoluteTimeout.*at least idleTimeout \(1h\)/],
    [{ preset: 'aal4' }, /sessions\.preset.*one of aal1, aal2, aal3, or null; got "aal4"/],
    [{ preset: 2 }, /sessions\.preset/]
  ]
  for (const [options, message] of wrong) t.throws(() => resolveSessionOptions(options), { message, code: 'DOORMAN_OPTION_INVALID' })
})

t.test('values and combinations that make no sense are refused, by name', async t => {
  const wrong: [object, RegExp][] = [
    [{ idleTimeout: '24' }, /sessions\.idleTimeout.*duration.*"24"/],
    [{ idleTimeout: 999 }, /sessions\.idleTimeout.*at least 1s/],
    [{ idleTimeuot: '1h' }, /sessions\.idleTimeuot.*did you mean "idleTimeout"/],
    [{ idleTimeout: '2d', absoluteTimeout: '1d' }, /sessions\.absoluteTimeout.*at least idleTimeout \(2d\); got 1d/],
    [{ idleTimeout: '1h', touchInterval: '1h' }, /sessions\.touchInterval.*shorter than idleTimeout \(1h\)/],
    [{ renewAfter: '30d' }, /sessions\.renewAfter.*shorter than absoluteTimeout \(30d\)/],
    [{ renewAfter: '30s' }, /sessions\.renewGrace.*shorter than renewAfter \(30s\); got 30s/],
    [{ maxPerUser: 0 }, /sessions\.maxPerUser.*at least 1/],
    [{ limitPolicy: 'evict' }, /sessions\.limitPolicy.*evict-oldest, evict-idle, reject/],
    [{ tokenReuse: true }, /sessions\.tokenReuse.*report, end/],
    [{ clientChange: true }, /sessions\.clientChange.*off, flag, revoke; got true/]
  ]
  for (const [options, message] of wrong) t.throws(() => resolveSessionOptions(options), { message, code: /^DOORMAN_OPTION_/ })
  t.throws(() => resolveSessionOptions({ absoluteTimeout: '1h' }, 'store'), { message: /store\.absoluteTimeout/ })
  t.ok(resolveSessionOptions({ renewAfter: '1h', absoluteTimeout: '1d', idleTimeout: '1d' }))
})
