/** Addresses in one canonical form, compared with how Node reads them. */
import fc from 'fast-check'
import { existsSync, readFileSync } from 'node:fs'
import { isIP, isIPv4, isIPv6 } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { addressBits, formatBits, mask, network, normaliseAddress } from '../../lib/address.js'

t.test('one canonical form', t => {
  const spellings: Record<string, string> = {
    '192.0.2.1': '192.0.2.1',
    '192.0.2.1:8080': '192.0.2.1',
    '192.0.2.1/24': '192.0.2.1',
    '192.0.2.1/02': '192.0.2.1',
    '0.0.0.0/0': '0.0.0.0',
    '2001:DB8::0:1': '2001:db8::1',
    '2001:0db8:0000:0000:0000:0000:0000:0001': '2001:db8::1',
    '[2001:db8::1]': '2001:db8::1',
    '[2001:db8::1]:443': '2001:db8::1',
    '[fe80::1%eth0]:443': 'fe80::1',
    'fe80::1%eth0': 'fe80::1',
    'fe80::1%25/64': 'fe80::1',
    '2001:db8::/32': '2001:db8::',
    '2001:db8::1/001': '2001:db8::1',
    '::ffff:192.0.2.1': '192.0.2.1',
    '::FFFF:C000:0201': '192.0.2.1',
    '[::ffff:192.0.2.1]:80': '192.0.2.1',
    '0:0:0:0:0:FFFF:C000:0201': '192.0.2.1',
    '[::FFFF:192.0.2.1%eth0]:65535': '192.0.2.1',
    '::ffff:192.0.2.1%3': '192.0.2.1',
    '::ffff:192.0.2.1/96': '192.0.2.1',
    '::ffff:0:0': '0.0.0.0',
    '192.0.2.1:1': '192.0.2.1',
    '192.0.2.1:65535': '192.0.2.1',
    '[2001:DB8::A]:65535': '2001:db8::a',
    'FE80::A%Eth0.1': 'fe80::a',
    // Neither is IPv4-mapped: translated (RFC 2765), NAT64 (RFC 6052).
    '::ffff:0:192.0.2.1': '::ffff:0:c000:201',
    '64:FF9B::192.0.2.1': '64:ff9b::c000:201',
    '::192.0.2.1': '::c000:201',
    // RFC 5952 4.2: the longest run, the first of equals, and never a single group.
    '1:0:0:2:0:0:0:3': '1:0:0:2::3',
    '0:0:1:0:0:1:1:1': '::1:0:0:1:1:1',
    '1:2:3:0:5:6:7:8': '1:2:3:0:5:6:7:8',
    '::': '::',
    '1::': '1::'
  }
  for (const [text, canonical] of Object.entries(spellings)) t.equal(normaliseAddress(text), canonical, text)
  t.end()
})

t.test('what is no address is none', t => {
  const texts = [
    '', ' ', 'unknown', '-', '_hidden', 'example.com', 'localhost', '1', '1.2.3', '1.2.3.4.5', '1.2.3.256', '01.2.3.4', '001.002.003.004', '0x7f.1',
    ' 192.0.2.1', '192.0.2.1 ', '192.0.2.1\n', '192.0.2.1\0', '192.0.2.1,192.0.2.2', '192.0.2.1:0', '192.0.2.1:65536', '192.0.2.1:', '192.0.2.1:80/24',
    '192.0.2.1/', '192.0.2.1/33', '192.0.2.1/-1', '192.0.2.1/0x1', '192.0.2.1/024', '192.0.2.1%eth0', '[192.0.2.1]', '127.0.0.1/0x1', '124.15.6.89/60',
    ':', ':::', '1::2::3', 'g::', '12345::', '2001:db8::1/129', '2001:db8::1/0128', '2001:db8::1/', 'fe80::1%', 'fe80::1%a b', '::%:', '::1%%', '::1%a%b', '[', '[]', '[::1', '::1]', '[::1]:',
    '::ffff:192.0.2.256', '::ffff:192.0.2', '::ffff:192.0.2.1:80', '[::ffff:192.0.2.1]:0', '[192.0.2.1]:80', '[fe80::1%eth0', '[fe80::1]%eth0', '[::1]:0', '[::1]:99999', '[::1]x', '[::1]/64', '::1:80:', '１.2.3.4', 'h_0123456789abcdef', '1'.repeat(101), '::1%' + 'x'.repeat(100)
  ]
  for (const text of texts) t.equal(normaliseAddress(text), null, JSON.stringify(text))
  t.end()
})

/** Writes 16 bytes as IPv6 in some way; the choices decide how. */
function spell (parts: readonly number[], upper: boolean, padded: boolean, compressAt: number, dotted: boolean): string {
  const groups = parts.map(part => padded ? part.toString(16).padStart(4, '0') : part.toString(16))
  if (dotted) groups.splice(6, 2, [parts[6]! >> 8, parts[6]! & 255, parts[7]! >> 8, parts[7]! & 255].join('.'))
  const count = groups.length
  let end = compressAt
  while (end < count && /^0+$/.test(groups[end]!)) end++
  const text = end > compressAt ? `${groups.slice(0, compressAt).join(':')}::${groups.slice(end).join(':')}` : groups.join(':')
  return upper ? text.toUpperCase() : text
}

const sparseParts = fc.array(fc.oneof(fc.constant(0), fc.constant(0xffff), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })

t.test('every spelling of the same address gives the same text, which Node reads as that address', async () => {
  fc.assert(fc.property(sparseParts, fc.boolean(), fc.boolean(), fc.integer({ min: 0, max: 7 }), fc.boolean(), (parts, upper, padded, at, dotted) => {
    const plain = normaliseAddress(parts.map(part => part.toString(16)).join(':'))
    const text = spell(parts, upper, padded, at, dotted)
    // The URL standard has the same rules for IPv6, apart from mapped addresses.
    const known = new URL(`http://[${text}]/`).hostname.slice(1, -1)
    return isIPv6(text) && plain !== null && normaliseAddress(text) === plain && (isIPv4(plain) ? known.startsWith('::ffff:') : plain === known)
  }))
})

t.test('idempotent, and never throws', async () => {
  const nearly = fc.array(fc.constantFrom(...':.[]%/0123456789abcdefF '.split(''), '::', 'ffff', '192.0.2.1'), { maxLength: 20 }).map(parts => parts.join(''))
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), nearly, fc.ipV4(), fc.ipV6(), fc.ipV4Extended()), text => {
    const once = normaliseAddress(text)
    return once === null || (isIP(once) !== 0 && normaliseAddress(once) === once && !once.includes('%'))
  }), { numRuns: 2000 })
})

t.test('numbers and back', async t => {
  t.strictSame(addressBits('192.0.2.1'), { bits: 32, value: 0xc000_0201n })
  t.strictSame(addressBits('::1'), { bits: 128, value: 1n })
  t.equal(addressBits('nothing'), null)
  t.equal(formatBits(mask({ bits: 32, value: 0xc000_0201n }, 24)), '192.0.2.0')
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), text => {
    const canonical = normaliseAddress(text)!
    return formatBits(addressBits(canonical)!) === canonical
  }))
})

t.test('the network a client belongs to', async t => {
  t.equal(network('192.0.2.77'), '192.0.2.0/24')
  t.equal(network('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  t.equal(network('not an address'), 'not an address')
})

// Tests run in the root of the repository.
const corpora = join(process.cwd(), '..', 'shared', 'traffic', 'corpora', 'ip')
const skip = existsSync(corpora) ? false : 'the traffic data is not beside this repository (../shared/traffic)'
const lines = (name: string) => readFileSync(join(corpora, name), 'utf8').split('\n').slice(0, -1)

t.test('a public list of valid addresses: each is read, in canonical form', { skip }, async t => {
  for (const line of lines('valid.txt')) {
    const address = normaliseAddress(line)
    t.ok(address !== null && isIP(address) !== 0 && normaliseAddress(address) === address, `${line} → ${address}`)
  }
})

t.test('a public list of invalid addresses: none is read', { skip }, async t => {
  // The list is about IPv6: it holds plain IPv4 (1.2.3.4) as well. Node's own judgement decides about those.
  for (const line of lines('invalid.txt')) t.equal(normaliseAddress(line), isIPv4(line) ? line : null, JSON.stringify(line))
})
