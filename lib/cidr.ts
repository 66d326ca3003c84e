/**
 * Networks in CIDR notation: read and written in one canonical form, and sets of them that an address is looked up in
 * without walking the list.
 */
import { addressBits, formatBits, mask, type AddressBits } from './address.js'
import { createCache } from './cache.js'

/** A network: its first address, with all host bits zero, and how many leading bits count. */
export interface Cidr extends AddressBits { prefix: number }

const SHAPE = /^([^/]+)(?:\/(\d{1,3}))?$/
/** The first 96 bits of ::ffff:0:0/96, IPv4 as IPv6 sockets show it. */
const MAPPED = 0xffffn

/**
 * Reads a network or a single address, such as `192.0.2.7/24` (host bits become zero) or `2001:db8::1`. IPv4-mapped IPv6
 * becomes IPv4 where the prefix covers the mapping. Returns null for anything else, a port or a zone included.
 */
export function parseCidr (text: string): Cidr | null {
  const [, address = '', digits] = SHAPE.exec(text) ?? []
  // A zone would be cut by addressBits' parser, not refused.
  const found = address.includes('%') ? null : addressBits(address)
  if (found === null) return null
  const prefix = digits === undefined ? found.bits : Number(digits)
  if (prefix > found.bits) return null
  if (found.bits === 128 && prefix >= 96 && found.value >> 32n === MAPPED) {
    return { ...mask({ bits: 32, value: found.value & 0xffff_ffffn }, prefix - 96), prefix: prefix - 96 }
  }
  return { ...mask(found, prefix), prefix }
}

/** Writes a network with its prefix: `192.0.2.0/24`, `2001:db8::1/128`. */
export function formatCidr (cidr: Cidr): string {
  return `${formatBits(cidr)}/${cidr.prefix}`
}

/** Whether two networks have an address in common: one of them lies within the other. */
export function overlap (a: Cidr, b: Cidr): boolean {
  const shift = BigInt(a.bits - Math.min(a.prefix, b.prefix))
  return a.bits === b.bits && a.value >> shift === b.value >> shift
}

/** Networks with something attached to each. */
export interface CidrSet<T> {
  readonly size: number
  add (cidr: Cidr, item: T): void
  /** What is attached to the networks that hold a canonical address, most specific network first. Do not change the array. */
  find (address: string): readonly T[]
}

/** Addresses whose answer is remembered: the busy clients of a server. */
const REMEMBERED = 2048

/**
 * Makes an empty set. A look-up costs one map access per distinct prefix length, however many networks there are, and one
 * altogether for addresses seen recently.
 */
export function createCidrSet<T> (): CidrSet<T> {
  // Per family: prefix length → leading bits → items. Sorted so that the longest prefix comes first.
  const families = { 32: [] as Level<T>[], 128: [] as Level<T>[] }
  const answers = createCache<readonly T[]>(REMEMBERED)
  let size = 0

  function search (address: string): readonly T[] {
    const found = addressBits(address)
    if (found === null) return []
    return families[found.bits].flatMap(level => level.items.get(found.value >> BigInt(found.bits - level.prefix)) ?? [])
  }

  return {
    get size () { return size },
    add ({ bits, value, prefix }, item) {
      const levels = families[bits]
      let level = levels.find(level => level.prefix === prefix)
      if (level === undefined) {
        level = { prefix, items: new Map() }
        levels.push(level)
        levels.sort((a, b) => b.prefix - a.prefix)
      }
      const key = value >> BigInt(bits - prefix)
      const items = level.items.get(key)
      if (items === undefined) level.items.set(key, [item])
      else items.push(item)
      size++
      answers.clear()
    },
    find (address) {
      let items = answers.get(address)
      if (items === undefined) {
        items = search(address)
        answers.set(address, items)
      }
      return items
    }
  }
}

interface Level<T> { prefix: number, items: Map<bigint, T[]> }
