/**
 * Makes addresses less personal before anything is stored: not at all, cut to their network, or replaced by a keyed hash
 * whose key lives one day and only in memory.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { addressBits, formatBits, mask, network } from './address.js'
import type { Clock } from './clock.js'

export const ANONYMIZATIONS = ['none', 'truncate', 'hash'] as const
/**
 * - `none`: addresses are stored as they are.
 * - `truncate`: the network only, /24 of IPv4 and /48 of IPv6.
 * - `hash`: `h_` and 16 characters of HMAC-SHA256. The same address gives the same text until midnight UTC, in one process.
 */
export type Anonymization = typeof ANONYMIZATIONS[number]

const HASHED = /^h_[\w-]{16}$/
/** Whether a text is an address as `hash` stores it. */
export const isHashedAddress = (text: string): boolean => HASHED.test(text)

export interface Anonymizer {
  readonly mode: Anonymization
  /** The form of a canonical address that may be stored. */
  apply (address: string): string
  /** The network of a canonical address (/24, /64) in the form that may be stored: `truncate` leaves a /48 of IPv6, `hash` a hash of the network. */
  network (address: string): string
  /** Destroys the key. Call when closing. */
  close (): void
}

export interface AnonymizerOptions {
  mode: Anonymization
  clock: Clock
  /** Makes a secret key of the given length. Default: the system's generator. */
  makeKey? (bytes: number): Uint8Array
}

const DAY = 86_400_000
const KEY_BYTES = 32
// 96 bits: with a million addresses a day, two of them share a hash once in 10^17 days.
const HASH_CHARACTERS = 16
const KEPT_BITS = { 32: 24, 128: 48 } as const

/** A canonical address without its host: the first 24 bits of IPv4, 48 of IPv6. What is no address, or has lost its host already, stays as it is. */
export function truncateAddress (address: string): string {
  const found = addressBits(address)
  return found === null ? address : formatBits(mask(found, KEPT_BITS[found.bits]))
}

export function createAnonymizer ({ mode, clock, makeKey = randomBytes }: AnonymizerOptions): Anonymizer {
  let key: Uint8Array = new Uint8Array(0)
  let keyDay: number | null = null
  let midnight: NodeJS.Timeout | undefined

  /** Without yesterday's key nobody can try addresses against yesterday's hashes. */
  function destroyKey (): void {
    clearTimeout(midnight)
    key.fill(0)
    keyDay = null
  }

  /** At midnight, also where no address comes then. By the clock, which may have been set since. */
  function watchMidnight (day: number): void {
    midnight = setTimeout(() => {
      if (Math.floor(clock() / DAY) === day) watchMidnight(day)
      else destroyKey()
    }, Math.max(1, (day + 1) * DAY - clock())).unref()
  }

  function truncateNetwork (address: string): string {
    return `${truncateAddress(address)}/${KEPT_BITS[addressBits(address)!.bits]}`
  }

  function hash (address: string): string {
    const day = Math.floor(clock() / DAY)
    if (day !== keyDay) {
      destroyKey()
      key = makeKey(KEY_BYTES)
      keyDay = day
      watchMidnight(day)
    }
    return `h_${createHmac('sha256', key).update(address).digest('base64url').slice(0, HASH_CHARACTERS)}`
  }

  return {
    mode,
    apply: { none: (address: string) => address, truncate: truncateAddress, hash }[mode],
    network: { none: network, truncate: truncateNetwork, hash: (address: string) => hash(network(address)) }[mode],
    close: destroyKey
  }
}
