/** Whether a client is another than before. */
import t from 'tap'
import { cleanClient, clientChanges } from '../../lib/client-change.js'

const FIREFOX = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0'
const UPDATED = FIREFOX.replaceAll('128.0', '129.0')
const LINUX = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'

t.test('R41: networks, not addresses; families, not versions', async t => {
  const cases: [string, string | null, string | null, string | null, string | null, string[]][] = [
    ['nothing changed', '192.0.2.1', FIREFOX, '192.0.2.1', FIREFOX, []],
    ['another host of the /24', '192.0.2.1', FIREFOX, '192.0.2.9', FIREFOX, []],
    ['another /24', '192.0.2.1', FIREFOX, '192.0.3.1', FIREFOX, ['network']],
    ['a privacy address of the /64', '2001:db8::1', null, '2001:db8::a:b:c:d', null, []],
    ['another /64', '2001:db8::1', null, '2001:db8:0:1::1', null, ['network']],
    ['from IPv4 to IPv6', '192.0.2.1', null, '2001:db8::1', null, ['network']],
    ['an address not known before', null, FIREFOX, '192.0.2.1', FIREFOX, []],
    ['an address not known now', '192.0.2.1', FIREFOX, null, FIREFOX, []],
    ['hashed addresses say nothing', 'h_yesterday', FIREFOX, 'h_today', FIREFOX, []],
    ['an updated browser', null, FIREFOX, null, UPDATED, []],
    ['another system', null, FIREFOX, null, LINUX, ['device']],
    ['a tool', null, FIREFOX, null, 'curl/8.5.0', ['device']],
    ['no user agent any more', null, FIREFOX, null, '', ['device']],
    ['a user agent not known now', null, FIREFOX, null, null, []],
    ['a user agent not known before', null, null, null, FIREFOX, []],
    ['unknown families say nothing', null, 'Mozilla/5.0', null, '!!!', []],
    ['both', '192.0.2.1', FIREFOX, '198.51.100.1', LINUX, ['network', 'device']]
  ]
  for (const [what, ip, userAgent, ip2, userAgent2, expected] of cases) {
    t.same(clientChanges({ ip, userAgent }, { ip: ip2, userAgent: userAgent2 }), expected, what)
  }
})

t.test('a client in the form that is stored', async t => {
  const rules = { options: { userAgentLimit: 16 }, storedAddress: (address: string) => `<${address}>` }
  t.same(cleanClient({ ip: '::ffff:192.0.2.1', userAgent: 'a\u001bb' + 'c'.repeat(50) }, rules), { ip: '<192.0.2.1>', userAgent: 'ab' + 'c'.repeat(14) })
  t.same(cleanClient({ ip: 'nowhere', userAgent: '' }, rules), { ip: null, userAgent: '' })
  t.same(cleanClient({ ip: null, userAgent: null }, rules), { ip: null, userAgent: null })
})
