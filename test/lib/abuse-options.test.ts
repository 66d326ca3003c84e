/** Options of the abuse signals: defaults, and what is refused. */
import t from 'tap'
import { checkRouteAbuse, resolveAbuse } from '../../lib/abuse-options.js'

t.test('defaults', async t => {
  t.strictSame(resolveAbuse({}), { notFoundLimit: 100, notFoundWindow: 60_000, tokenLimit: 30, tokenWindow: 60_000, userLimit: 50, userWindow: 3_600_000, block: false })
  t.strictSame(resolveAbuse({ block: {} }).block, { for: 900_000, signals: ['malicious_excess_404', 'session_token_guessing'], max: 100, allow: [], blockPrivate: false })
  t.ok(Object.isFrozen(resolveAbuse({})))
})

t.test('what is given', async t => {
  const given = { notFoundLimit: null, tokenLimit: 1000, userWindow: '24h', block: { for: '1m', signals: ['excess_users_from_address'], max: 10_000, allow: ['192.0.2.7', '2001:db8::/32'], blockPrivate: true } }
  t.match(resolveAbuse(given), { notFoundLimit: null, tokenLimit: 1000, userWindow: 86_400_000, block: { ...given.block, for: 60_000 } })
})

t.test('wrong values name the option', async t => {
  for (const [given, message] of [
    [{ notFoundLimit: 1 }, /"abuse\.notFoundLimit" must be an integer of at least 2 and at most 1000000, or null; got 1/],
    [{ tokenLimit: 1001 }, /"abuse\.tokenLimit"/],
    [{ userWindow: '2d' }, /"abuse\.userWindow" must be a duration .* of at least 1s and at most 1d; got "2d"/],
    [{ block: true }, /"abuse\.block" must be an object, or false; got true/],
    [{ block: null }, /"abuse\.block"/],
    [{ block: [] }, /"abuse\.block"/],
    [{ block: { for: '30s' } }, /"abuse\.block\.for"/],
    [{ block: { signals: ['malicious_excess_403'] } }, /"abuse\.block\.signals" must be a list of malicious_excess_404, session_token_guessing, excess_users_from_address/],
    [{ block: { signals: 'all' } }, /"abuse\.block\.signals"/],
    [{ block: { max: 0 } }, /"abuse\.block\.max"/],
    [{ block: { allow: ['192.0.2.1', 'office'] } }, /"abuse\.block\.allow" must be a list of addresses and networks .*; got "office"/],
    [{ block: { alow: [] } }, /did you mean "allow"/]
  ] as const) t.throws(() => resolveAbuse(given), { message }, JSON.stringify(given))
})

t.test('what a route says', async t => {
  for (const fine of [undefined, true, false]) checkRouteAbuse('GET /', fine)
  t.throws(() => checkRouteAbuse('GET /', 0), { code: 'DOORMAN_OPTION_INVALID', message: /"config\.abuse of GET \/" must be true or false; got 0/ })
})
