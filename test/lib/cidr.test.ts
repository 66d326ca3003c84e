/** Networks in CIDR notation, and sets of them. */
import fc from 'fast-check'
import t from 'tap'
import { addressBits, formatBits } from '../../lib/address.js'
import { createCidrSet, formatCidr, parseCidr } from '../../lib/cidr.js'

const normaliseCidr = (text: string) => formatCidr(parseCidr(text)!)

t.test('one canonical form', async t => {
  const spellings: Record<string, string> = {
    '192.0.2.7': '192.0.2.7/32',
    '192.0.2.7/24': '192.0.2.0/24',
    '192.0.2.7/08': '192.0.0.0/8',
    '0.0.0.0/0': '0.0.0.0/0',
    '2001:DB8::7': '2001:db8::7/128',
    '2001:db8:1:2:3::7/48': '2001:db8:1::/48',
    '::/0': '::/0',
    '::ffff:192.0.2.7': '192.0.2.7/32',
    '::ffff:192.0.2.7/120': '192.0.2.0/24',
    '::ffff:192.0.2.7/90': '::ffc0:0:0/90'
  }
  for (const [text, canonical] of Object.entries(spellings)) {
    t.equal(normaliseCidr(text), canonical, text)
    t.equal(normaliseCidr(canonical), canonical)
  }
})

t.test('what is no network is none', async t => {
  for (const text of ['', '/', '/24', '192.0.2.0/', '192.0.2.0/33', '192.0.2.0/-1', '192.0.2.0/24/24', '192.0.2.0:80', '[::1]/128', '::1/129', 'fe80::1%eth0', 'fe80::1%eth0/64', 'example.com', '1.2.3', ' 192.0.2.0/24', '*']) {
    t.equal(parseCidr(text), null, JSON.stringify(text))
  }
})

t.test('a set finds the networks of an address, the most specific first', async t => {
  const set = createCidrSet<string>()
  t.strictSame(set.find('192.0.2.7'), [])
  for (const text of ['192.0.0.0/16', '192.0.2.0/24', '192.0.2.7', '192.0.2.0/24', '2001:db8::/32', '198.51.100.0/24']) set.add(parseCidr(text)!, text)
  t.equal(set.size, 6)
  t.strictSame(set.find('192.0.2.7'), ['192.0.2.7', '192.0.2.0/24', '192.0.2.0/24', '192.0.0.0/16'])
  t.strictSame(set.find('192.0.2.7'), ['192.0.2.7', '192.0.2.0/24', '192.0.2.0/24', '192.0.0.0/16'], 'again, from memory')
  t.strictSame(set.find('192.0.3.1'), ['192.0.0.0/16'])
  t.strictSame(set.find('2001:db8:ffff::1'), ['2001:db8::/32'])
  t.strictSame(set.find('2001:db9::1'), [])
  t.strictSame(set.find('10.0.0.1'), [])
  t.strictSame(set.find('not an address'), [])
})

t.test('what is added later is found for an address asked for before', async t => {
  const set = createCidrSet<number>()
  t.strictSame(set.find('10.0.0.1'), [])
  set.add(parseCidr('10.0.0.0/8')!, 1)
  t.strictSame(set.find('10.0.0.1'), [1])
})

t.test('an address is in a network exactly when their leading bits agree', async () => {
  const address = fc.oneof(fc.bigInt({ min: 0n, max: 0xffff_ffffn }).map(value => ({ bits: 32 as const, value })), fc.bigInt({ min: 2n ** 64n, max: 2n ** 128n - 1n }).map(value => ({ bits: 128 as const, value })))
  fc.assert(fc.property(address, address, fc.nat(128), (network, client, length) => {
    const prefix = Math.min(length, network.bits)
    const set = createCidrSet<true>()
    set.add(parseCidr(`${formatBits(network)}/${prefix}`)!, true)
    const shift = BigInt(network.bits - prefix)
    const expected = network.bits === client.bits && network.value >> shift === client.value >> shift
    return (set.find(formatBits(client)).length === 1) === expected
  }))
})

t.test('every network survives being written and read', async () => {
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(32), (text, prefix) => {
    const cidr = parseCidr(`${text}/${prefix}`)!
    const again = parseCidr(formatCidr(cidr))!
    return again.value === cidr.value && again.prefix === cidr.prefix && addressBits(formatBits(cidr))!.value === cidr.value
  }))
})
