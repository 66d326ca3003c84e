/**
 * Client addresses: any text a socket, a proxy's header or another service gives for one, read into one canonical form
 * (RFC 5952; IPv4 in dots), or refused. What is not an address is never stored as one.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { createCache } from './cache.js'

/** Longest text worth looking at: an IPv6 address with an interface's name, brackets, port or prefix stays far below. */
const MAX_LENGTH = 100
/** Addresses that are remembered: enough for the busy clients of a server, little enough to be forgotten (about 1 MB). */
const CACHE_SIZE = 4096

const BRACKETS = /^\[([^\]]*)\](?::(\d{1,5}))?$/
const V4_PORT = /^([\d.]+):(\d{1,5})$/
// Prefixes as people write them: leading zeros, but no more digits than the longest prefix has.
const V4_PREFIX = /^(.*)\/(\d{1,2})$/
const V6_PREFIX = /^(.*)\/(\d{1,3})$/
// RFC 4007 leaves zones to the system; interface names and numbers look like this.
const ZONE = /^(.*)%[\w.~-]+$/

const known = createCache<string | null>(CACHE_SIZE)

/**
 * The canonical form of an address: `192.0.2.1`, `2001:db8::1`. IPv4-mapped IPv6 becomes IPv4; a zone, a port
 * (`[v6]:port`, `v4:port`) or a valid prefix (`/64`) is left out. Anything else, white space included, gives null.
 * Remembers recent answers, because the same clients come again and again. Never throws.
 */
export function normaliseAddress (text: string): string | null {
  let address = known.get(text)
  if (address === undefined) {
    address = text.length > MAX_LENGTH ? null : read(text)
    // Only what is short is kept: hostile headers must not fill the memory.
    if (text.length <= MAX_LENGTH) known.set(text, address)
  }
  return address
}

function read (text: string): string | null {
  const bare = withoutPort(text)
  if (bare !== undefined) return bare
  return readV4(text, V4_PREFIX) ?? readV6(text)
}

/** The address of a text that has a port or brackets; null when it is none, undefined when it has neither. */
function withoutPort (text: string): string | null | undefined {
  const [, v6, v6Port] = BRACKETS.exec(text) ?? []
  if (v6 !== undefined) return isPort(v6Port) ? zoneless(v6) : null
  const [, v4, v4Port] = V4_PORT.exec(text) ?? []
  return v4 === undefined ? undefined : isPort(v4Port) && isIPv4(v4) ? v4 : null
}

const isPort = (text: string | undefined) => text === undefined || (Number(text) >= 1 && Number(text) <= 65_535)

function readV4 (text: string, prefix: RegExp): string | null {
  const [, address = text, bits = '0'] = prefix.exec(text) ?? []
  return isIPv4(address) && Number(bits) <= 32 ? address : null
}

function readV6 (text: string): string | null {
  const [, address = text, bits = '0'] = V6_PREFIX.exec(text) ?? []
  return Number(bits) <= 128 ? zoneless(address) : null
}

function zoneless (text: string): string | null {
  const [, address = text] = ZONE.exec(text) ?? []
  // Node takes anything for a zone.
  return isIPv6(address) && !address.includes('%') ? formatV6(parseV6(address)) : null
}

/**
 * The eight groups of a text that Node takes for IPv6. Not left to ipaddr.js (2.5.0): it reads the deprecated `::192.0.2.1`
 * as the IPv4-mapped `::ffff:192.0.2.1`, and so makes two addresses one.
 */
function parseV6 (address: string): readonly number[] {
  const [before, after] = address.split('::', 2).map(groups)
  if (after === undefined) return before!
  return [...before!, ...new Array<number>(8 - before!.length - after.length).fill(0), ...after]
}

function groups (text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap(group => {
    if (!group.includes('.')) return parseInt(group, 16)
    const [a, b, c, d] = group.split('.').map(Number)
    return [a! * 256 + b!, c! * 256 + d!]
  })
}

const isMapped = (parts: readonly number[]) => parts[5] === 0xffff && parts.slice(0, 5).every(part => part === 0)

/** Eight groups as RFC 5952 wants them: lower case, no leading zeros, `::` for the first longest run of two or more zeros. */
function formatV6 (parts: readonly number[]): string {
  if (isMapped(parts)) return [parts[6]! >> 8, parts[6]! & 255, parts[7]! >> 8, parts[7]! & 255].join('.')
  let start = -1
  let length = 1
  for (let i = 0; i < 8; i++) {
    let end = i
    while (end < 8 && parts[end] === 0) end++
    if (end - i > length) [start, length] = [i, end - i]
  }
  const text = (from: number, to: number) => parts.slice(from, to).map(part => part.toString(16)).join(':')
  return start === -1 ? text(0, 8) : `${text(0, start)}::${text(start + length, 8)}`
}

// ---------------------------------------------------------------- numbers

/** Family and value of a canonical address. */
export interface AddressBits { bits: 32 | 128, value: bigint }

/** Reads a canonical address as a number; null for anything else. */
export function addressBits (address: string): AddressBits | null {
  if (isIPv4(address)) return { bits: 32, value: address.split('.').reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n) }
  if (isIPv6(address)) return { bits: 128, value: parseV6(address).reduce((sum, part) => (sum << 16n) | BigInt(part), 0n) }
  return null
}

/** Writes the number of an address as canonical text. An IPv4-mapped IPv6 value gives IPv4. */
export function formatBits ({ bits, value }: AddressBits): string {
  const parts = (count: number, size: number) =>
    Array.from({ length: count }, (_, i) => Number((value >> BigInt((count - 1 - i) * size)) & ((1n << BigInt(size)) - 1n)))
  return bits === 32 ? parts(4, 8).join('.') : formatV6(parts(8, 16))
}

/** Sets all bits after the first `prefix` ones to zero. */
export function mask ({ bits, value }: AddressBits, prefix: number): AddressBits {
  const host = BigInt(bits - prefix)
  return { bits, value: (value >> host) << host }
}

/**
 * The network a client is taken to belong to: /24 of IPv4, /64 of IPv6 (what one household or one host moves within), such
 * as `192.0.2.0/24`. A text that is no address is its own network.
 */
export function network (address: string): string {
  // Without big numbers: this runs for each request of a flood.
  if (isIPv4(address)) return `${address.slice(0, address.lastIndexOf('.'))}.0/24`
  if (isIPv6(address)) return `${formatV6([...parseV6(address).slice(0, 4), 0, 0, 0, 0])}/64`
  return address
}
