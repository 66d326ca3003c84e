import t from 'tap'
import { resolveSessionOptions } from '../../lib/session-options.js'

t.test('defaults', async t => {
  t.same(resolveSessionOptions(undefined), {
    idleTimeout: 86_400_000,
    absoluteTimeout: 30 * 86_400_000,
    touchInterval: 60_000,
    maxPerUser: null,
    limitPolicy: 'evict-oldest',
    renewAfter: null,
    renewGrace: 30_000,
    freshness: 900_000,
    clientChange: 'flag',
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

t.test('R16: the presets of NIST are possible', async t => {
  for (const [absoluteTimeout, idleTimeout] of [['30d', '30d'], ['24h', '1h'], ['12h', '15m']]) t.ok(resolveSessionOptions({ absoluteTimeout, idleTimeout }))
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
    [{ clientChange: true }, /sessions\.clientChange.*off, flag, revoke; got true/]
  ]
  for (const [options, message] of wrong) t.throws(() => resolveSessionOptions(options), { message, code: /^DOORMAN_OPTION_/ })
  t.throws(() => resolveSessionOptions({ absoluteTimeout: '1h' }, 'store'), { message: /store\.absoluteTimeout/ })
  t.ok(resolveSessionOptions({ renewAfter: '1h', absoluteTimeout: '1d', idleTimeout: '1d' }))
})
