/** Whatever a socket, a header or another service gives for an address: one canonical form, or none. */
import fc from 'fast-check'
import { isIP, isIPv4 } from 'node:net'
import t from 'tap'
import { addressBits, formatBits, mask, network, normaliseAddress } from '../../lib/address.js'

/** Another's opinion: the URL standard writes IPv6 as RFC 5952 does, but for IPv4-mapped addresses, which are IPv4 here. */
const byUrl = (address: string) => new URL(`http://[${address}]`).hostname.slice(1, -1)

const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map(parts => parts.join('.'))
const around = fc.tuple(fc.constantFrom('', '[', ' ', '::ffff:', '::FFFF:', '0:0:0:0:0:ffff:'), fc.oneof(octets, fc.ipV6()), fc.constantFrom('', ']', ']:80', ':80', ':0', '/24', '/129', '%eth0', '%', '\n', '\0', ', 1.2.3.4')).map(parts => parts.join(''))
const characters = fc.array(fc.constantFrom(...'0123456789abcdefABCDEF:.%[]/ \t\0x'.split(''), '::', '255', 'ffff'), { maxLength: 45 }).map(parts => parts.join(''))
const anything = fc.oneof(around, characters, octets, fc.ipV4(), fc.ipV4Extended(), fc.ipV6(), fc.string({ unit: 'binary', maxLength: 120 }))

t.test('it never throws, what it gives is an address, and giving it that changes nothing', async t => {
  fc.assert(fc.property(anything, text => {
    const address = normaliseAddress(text)
    return address === null || (isIP(address) !== 0 && normaliseAddress(address) === address && (isIPv4(address) || byUrl(address) === address))
  }), { numRuns: 5000 })
  t.pass('5000 texts')
})

t.test('an address that Node takes for one is none the less one here, and the same', async t => {
  fc.assert(fc.property(fc.ipV6(), text => {
    const canonical = byUrl(text)
    const mapped = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(canonical)
    const [high, low] = [parseInt(mapped?.[1] ?? '', 16), parseInt(mapped?.[2] ?? '', 16)]
    const expected = mapped === null ? canonical : [high >> 8, high & 255, low >> 8, low & 255].join('.')
    return normaliseAddress(text) === expected
  }), { numRuns: 2000 })
  t.pass('2000 addresses')
})

t.test('IPv4 is the same address in each of its spellings', async t => {
  fc.assert(fc.property(octets, fc.nat({ max: 65_534 }), fc.nat(32), (address, port, prefix) => {
    const hex = address.split('.').map(octet => Number(octet).toString(16).padStart(2, '0')).join('')
    const spellings = [address, `${address}:${port + 1}`, `${address}/${prefix}`, `::ffff:${address}`, `::FFFF:${hex.slice(0, 4)}:${hex.slice(4)}`, `[::ffff:${address}]:${port + 1}`, `0:0:0:0:0:ffff:${address}%1`]
    return spellings.every(spelling => normaliseAddress(spelling) === address)
  }))
  t.pass('each the same')
})

t.test('numbers of addresses, and the networks they are in', async t => {
  fc.assert(fc.property(fc.oneof(octets, fc.ipV6()), fc.nat(128), (text, length) => {
    const address = normaliseAddress(text)!
    const bits = addressBits(address)!
    const prefix = Math.min(length, bits.bits)
    const masked = mask(bits, prefix)
    const within = network(address)
    const kept = bits.bits === 32 ? 24 : 64
    return formatBits(bits) === address && bits.value - masked.value < 1n << BigInt(bits.bits - prefix) && mask(masked, prefix).value === masked.value &&
      network(within.split('/')[0]!) === within && within === `${formatBits(mask(bits, kept))}/${kept}`
  }), { numRuns: 1000 })
  t.pass('1000 addresses')
})
