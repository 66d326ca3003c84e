/** Options of the plugin, apart from those of the service. */
import t from 'tap'
import { resolveSessionsPlugin, type SessionsPluginOptions } from '../../lib/session-plugin-options.js'

t.test('options of the service and of the plugin, apart', async t => {
  const { options, own } = resolveSessionsPlugin({ preset: 'aal2', bearer: false })
  t.match(options, { preset: 'aal2', idleTimeout: 3_600_000 })
  t.notOk('bearer' in options)
  t.match(own, { bearer: false, decoratorName: 'session', autoValidate: true, crossSite: 'refuse', trustedOrigins: [], tellReason: false })
  t.match(resolveSessionsPlugin({ trustedOrigins: ['https://app.example', 'http://[::1]:5173'] }).own, { trustedOrigins: ['https://app.example', 'http://[::1]:5173'] })
})

t.test('what is wrong is refused by name', async t => {
  const wrong: [object, RegExp][] = [
    [{ crossSite: false }, /sessions\.crossSite.*refuse, allow/],
    [{ tellReason: 'yes' }, /sessions\.tellReason/],
    [{ preset: 'aal2', idleTimeout: '2h' }, /sessions\.idleTimeout.*at most 1h/],
    [{ tellReasons: true }, /sessions\.tellReasons.*did you mean "tellReason"/]
  ]
  for (const trustedOrigins of [['app.example'], ['https://app.example/'], ['https://app.example:443'], ['https://App.example'], ['*'], ['null'], ['ftp://app.example'], [1], 'https://app.example']) {
    wrong.push([{ trustedOrigins }, /sessions\.trustedOrigins.*such as "https:\/\/app\.example\.com"/])
  }
  for (const [options, message] of wrong) t.throws(() => resolveSessionsPlugin(options as SessionsPluginOptions), { code: /^DOORMAN_OPTION/, message }, JSON.stringify(options))
})
