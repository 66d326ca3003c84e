/** What is found wrong with where addresses come from: by Fastify's own setting, whatever its form, and by the first requests. */
import Fastify, { type FastifyServerOptions } from 'fastify'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { createAddressCheck, type AddressFinding } from '../../lib/address-check.js'
import { clientAddresses, type ClientAddresses } from '../../lib/fastify-internals.js'
import { clientBehind } from '../../lib/request-row.js'

type TrustProxy = FastifyServerOptions['trustProxy']

interface Seen { headers?: Record<string, string>, peer?: string | undefined, socket?: object }

/** A check of an instance of Fastify, and requests that it is shown. */
function setUp (trustProxy?: TrustProxy, shown = (address: string) => address) {
  const addresses = clientAddresses(Fastify(trustProxy === undefined ? {} : { trustProxy }))
  return setUpWith(addresses, shown)
}

function setUpWith (addresses: ClientAddresses, shown = (address: string) => address) {
  let now = 1_000_000
  const told: AddressFinding[] = []
  const check = createAddressCheck({ addresses, shown, clock: () => now, tell: finding => { told.push(finding) } })
  return {
    check,
    told,
    codes: () => check.findings().map(({ code }) => code),
    see ({ headers = {}, socket = {}, ...rest }: Seen = {}) {
      const raw = { headers, socket: { remoteAddress: 'peer' in rest ? rest.peer : '198.51.100.9', localPort: 80, destroyed: false, ...socket } } as unknown as IncomingMessage
      return check.watch(clientBehind(addresses.chainOf(raw), raw.socket), raw, now)
    },
    wait (ms: number) { now += ms }
  }
}

/** Shows the same request several times. @returns the last answer */
function repeat (times: number, see: () => boolean) {
  let answer = true
  for (let i = 0; i < times; i++) answer = see()
  return answer
}

// ---------------------------------------------------------------- by the setting

const settings: [name: string, trustProxy: TrustProxy | undefined, codes: string[]][] = [
  ['unset', undefined, []],
  ['false', false, []],
  ['0', 0 as never, []],
  ['one address', '10.0.0.1', []],
  ['names', 'loopback, linklocal, uniquelocal', []],
  ['networks', ['10.0.0.0/8', '2001:db8::/32', '203.0.113.0/24'], []],
  ['a function that knows its proxies', address => address === '10.0.0.1', []],
  ['a function that trusts nobody', () => false, []],
  ['a function that fails at strangers', address => new Map([['10.0.0.1', { trusted: true }]]).get(address)!.trusted, []],
  ['true', true, ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['a function that trusts everybody', () => true, ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['a function that trusts the first hop, whoever it is', (_address, hop) => hop === 0, ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['a function that answers later', (async () => false) as unknown as () => boolean, ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['both halves of IPv4', ['0.0.0.0/1', '128.0.0.0/1'], ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['both halves of IPv6', '::/1, 8000::/1', ['IPLOG_PERMISSIVE_TRUST_PROXY']],
  ['one hop', 1 as never, ['IPLOG_NUMERIC_TRUST_PROXY']],
  ['two hops', 2 as never, ['IPLOG_NUMERIC_TRUST_PROXY']],
  ['a number as text', '1', ['IPLOG_NUMERIC_TRUST_PROXY']],
  ['a number in a text', 'loopback, 2', ['IPLOG_NUMERIC_TRUST_PROXY']],
  ['a number in a list', ['loopback', '2'], ['IPLOG_NUMERIC_TRUST_PROXY']]
]

for (const [name, trustProxy, codes] of settings) {
  t.test(`trustProxy: ${name}`, async t => {
    const { check, told } = setUp(trustProxy)
    t.strictSame(told.map(({ code }) => code), codes)
    t.strictSame(check.findings(), told)
    for (const finding of told) {
      t.match(finding, { message: /^trustProxy /, fix: /Fastify's trustProxy.*TRUST_PROXY.*addresses of your proxies/, since: 1_000_000 })
      t.ok(Object.isFrozen(finding))
    }
  })
}

t.test('networks of everybody stop Fastify itself', async t => {
  for (const trustProxy of ['0.0.0.0/0', '::/0']) t.throws(() => Fastify({ trustProxy }), /invalid range/, trustProxy)
})

t.test('a release in which a number of hops counts again: then anybody is trusted, and that is said', async t => {
  const counting = clientAddresses(Fastify({ trustProxy: true }))
  t.strictSame(setUpWith({ ...counting, trustProxy: 1 }).codes(), ['IPLOG_PERMISSIVE_TRUST_PROXY'])
})

// ---------------------------------------------------------------- by headers

t.test('a header that tells an address, and nobody who is trusted to', async t => {
  for (const name of ['X-Forwarded-For', 'Forwarded', 'X-Real-IP', 'CF-Connecting-IP', 'True-Client-IP', 'X-Client-IP', 'Fastly-Client-IP']) {
    const { check, see, told, wait } = setUp()
    see()
    see({ headers: { via: '1.1 office', 'x-forwarded-proto': 'https' } })
    t.strictSame(told, [], 'these tell none')
    wait(5)
    see({ headers: { [name.toLowerCase()]: '192.0.2.7' } })
    see({ headers: { [name.toLowerCase()]: '192.0.2.7' } })
    t.match(told, [{ code: 'IPLOG_UNEXPECTED_FORWARDED', message: `A request has the header ${name}, but`, fix: /trustProxy.*TRUST_PROXY/, since: 1_000_005 }])
    t.equal(told[0]!.fix.includes('let it send X-Forwarded-For'), name !== 'X-Forwarded-For', 'the only one that Fastify reads')
    t.strictSame(check.findings(), told)
  }
})

t.test('with trusted proxies the headers are expected', async t => {
  const { see, told } = setUp('10.0.0.1')
  see({ headers: { 'x-forwarded-for': '192.0.2.7' } })
  see({ headers: { 'x-forwarded-for': '192.0.2.7' }, peer: '10.0.0.1' })
  t.strictSame(told, [])
})

t.test('after the first requests headers are looked at once a second, until there is one', async t => {
  const { see, told, wait } = setUp()
  t.equal(repeat(200, see), true)
  const forwarded = () => see({ headers: { forwarded: 'for=192.0.2.7' } })
  t.equal(repeat(50, forwarded), true)
  t.strictSame(told, [])
  wait(999)
  forwarded()
  t.strictSame(told, [])
  wait(1)
  t.equal(forwarded(), false, 'nothing is left to look for')
  t.equal(told.length, 1)
})

t.test('also where the clock was set back', async t => {
  const { see, told, wait } = setUp()
  repeat(200, see)
  wait(-3_600_000)
  see({ headers: { forwarded: 'for=192.0.2.7' } })
  t.equal(told.length, 1)
})

t.test('with a header among the first requests, the check ends with those', async t => {
  const { see } = setUp()
  t.equal(see({ headers: { 'x-forwarded-for': '192.0.2.7' } }), true)
  t.equal(repeat(198, see), true)
  t.equal(see(), false)
  const trusting = setUp('loopback')
  t.equal(repeat(199, trusting.see), true)
  t.equal(trusting.see(), false)
})

// ---------------------------------------------------------------- by addresses

t.test('one private address for everybody', async t => {
  for (const peer of ['10.0.0.1', '172.17.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', '100.127.0.1', '169.254.1.1', 'fc00::1', 'fdaa::3', 'fe80::1%eth0', '::ffff:172.17.0.1']) {
    const { see, told, codes } = setUp(undefined, address => `<${address}>`)
    repeat(199, () => see({ peer }))
    t.strictSame(told, [], peer)
    see({ peer })
    t.strictSame(codes(), ['IPLOG_SINGLE_PRIVATE_ADDRESS'], peer)
    t.match(told[0], { message: /^The first 200 requests all came from <[^>]+>/, fix: /X-Forwarded-For.*trustProxy.*TRUST_PROXY/ }, 'in the form that may be written down')
    repeat(500, () => see({ peer }))
    t.equal(told.length, 1, 'once')
  }
})

t.test('other addresses are nothing to wonder about', async t => {
  for (const peer of ['127.0.0.1', '::1', '192.0.2.1', '172.32.0.1', '100.128.0.1', '11.0.0.1', '2001:db8::1', 'ff02::1', 'garbage']) {
    const { see, told } = setUp()
    repeat(300, () => see({ peer }))
    t.strictSame(told, [], peer)
  }
})

t.test('nor are two of them', async t => {
  for (const other of ['10.0.0.2', '127.0.0.1', '192.0.2.1', 'garbage']) {
    for (const at of [0, 1, 199]) {
      const { see, told } = setUp()
      for (let i = 0; i < 400; i++) see({ peer: i === at ? other : '10.0.0.1' })
      t.strictSame(told, [], `${other} as number ${at}`)
    }
  }
})

t.test('behind a trusted proxy it is the address that the proxy tells', async t => {
  const { see, told, codes } = setUp('127.0.0.1')
  repeat(200, () => see({ peer: '127.0.0.1', headers: { 'x-forwarded-for': '10.0.0.5' } }))
  t.strictSame(codes(), ['IPLOG_SINGLE_PRIVATE_ADDRESS'], 'another proxy in front of it, most likely')
  t.match(told[0], { message: /10\.0\.0\.5/ })
})

t.test('where a header was seen that is not said as well', async t => {
  const { see, codes } = setUp()
  see({ peer: '10.0.0.1', headers: { 'x-forwarded-for': '192.0.2.7' } })
  repeat(300, () => see({ peer: '10.0.0.1' }))
  t.strictSame(codes(), ['IPLOG_UNEXPECTED_FORWARDED'])
})

// ---------------------------------------------------------------- by sockets

const unix = { peer: undefined, socket: { localPort: undefined } }

t.test('a unix socket', async t => {
  for (const trustProxy of [undefined, '127.0.0.1']) {
    const { see, told } = setUp(trustProxy)
    see(unix)
    see(unix)
    t.match(told, [{ code: 'IPLOG_UNIX_SOCKET', message: /unix socket/, fix: /trustProxy: address => address === undefined/ }])
    t.equal(told.length, 1, 'once')
  }
})

t.test('a unix socket whose other side is trusted', async t => {
  const { see, told, codes } = setUp(address => address === undefined)
  see({ ...unix, headers: { 'x-forwarded-for': '192.0.2.7' } })
  see(unix)
  t.strictSame(told, [])
  const anybody = setUp(true)
  anybody.see(unix)
  t.strictSame(anybody.codes(), ['IPLOG_PERMISSIVE_TRUST_PROXY'])
  t.strictSame(codes(), [])
})

t.test('connections that lost their address are no unix sockets', async t => {
  const { see, told } = setUp()
  see({ peer: undefined })
  see({ peer: undefined, socket: { localPort: undefined, destroyed: true } })
  see({ peer: 'garbage', socket: { localPort: undefined } })
  t.strictSame(told, [])
})
