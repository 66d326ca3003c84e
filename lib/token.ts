/**
 * Session tokens: `dm_` + 256 random bits in base64url + a checksum of six base62 digits. The prefix lets secret scanners
 * find leaked tokens; the checksum lets a mistyped or made-up one be refused without asking the database. The token says
 * nothing about its user, and only its SHA-256 is ever stored. Public ids are drawn separately, never from the token.
 */
import * as crypto from 'node:crypto'
import type { TokenHash } from '../storage/storage.js'

/** Cryptographically secure random bytes, a fresh buffer each time. Injected, so that tests decide. */
export type RandomBytes = (size: number) => Buffer

const PREFIX = 'dm_'
const SECRET_BYTES = 32
const SECRET_END = PREFIX.length + 43 // 32 bytes are 43 characters of base64url
const CHECKSUM_LENGTH = 6 // 62 ** 6 > 2 ** 32

/** Length of every token in characters. */
export const TOKEN_LENGTH = SECRET_END + CHECKSUM_LENGTH

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const BASE62_CODES = Uint8Array.from(BASE62, char => char.charCodeAt(0))
const IS_BASE64URL = new Uint8Array(0x10000)
for (const char of `${BASE62}-_`) IS_BASE64URL[char.charCodeAt(0)] = 1

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1
  return n
})
const crcStep = (crc: number, char: number) => CRC_TABLE[(crc ^ char) & 0xff]! ^ (crc >>> 8)
const CRC_OF_PREFIX = [...PREFIX].reduce((crc, char) => crcStep(crc, char.charCodeAt(0)), 0xffffffff)

/** Checksum of a token's prefix and secret, which `text` starts with; undefined for a character out of place. */
function checksum (text: string): number | undefined {
  let crc = CRC_OF_PREFIX
  for (let i = PREFIX.length; i < SECRET_END; i++) {
    const char = text.charCodeAt(i)
    if (IS_BASE64URL[char] === 0) return undefined
    crc = crcStep(crc, char)
  }
  return ~crc >>> 0
}

/** A checksum as it stands in a token: base62, most significant digit first. */
function digitsOf (checksum: number): string {
  let digits = ''
  for (let rest = checksum; digits.length < CHECKSUM_LENGTH; rest = Math.floor(rest / 62)) digits = BASE62[rest % 62]! + digits
  return digits
}

/** Draws from a pool that is filled in one call: one system call per 4 KiB instead of one per token. Drawn bytes are wiped. */
export function pooledRandomBytes (poolSize = 4096): RandomBytes {
  const pool = Buffer.allocUnsafeSlow(poolSize)
  let used = poolSize
  return size => {
    if (used + size > poolSize) {
      crypto.randomFillSync(pool)
      used = 0
    }
    const bytes = Buffer.from(pool.subarray(used, used + size))
    pool.fill(0, used, used + size)
    used += size
    return bytes
  }
}

/** A new token. */
export function createToken (random: RandomBytes): string {
  const text = PREFIX + random(SECRET_BYTES).toString('base64url')
  return text + digitsOf(checksum(text)!)
}

/** Crockford's base32, in lower case: texts of it sort like the numbers they are. */
const BASE32 = '0123456789abcdefghjkmnpqrstvwxyz'

/**
 * A new public session id: `s_` and a ULID in lower case, which is the time in ms (48 bits) and 80 random ones. Ids of one time are neighbours
 * in an index, so that many logins change few of its pages.
 */
export function createSessionId (random: RandomBytes, now: number): string {
  let time = ''
  for (let rest = now; time.length < 10; rest = Math.floor(rest / 32)) time = BASE32[rest % 32]! + time
  let secret = ''
  for (const byte of random(16)) secret += BASE32[byte & 31]!
  return `s_${time}${secret}`
}

/** Whether `value` has the shape of a token: length, prefix, alphabet, checksum. Well below 1 µs for junk of any size. */
export function isToken (value: unknown): value is string {
  if (typeof value !== 'string' || value.length !== TOKEN_LENGTH || !value.startsWith(PREFIX)) return false
  let rest = checksum(value)
  if (rest === undefined) return false
  // From the last digit on, without making a string of them: this runs in every request.
  for (let i = TOKEN_LENGTH - 1; i >= SECRET_END; i--) {
    if (value.charCodeAt(i) !== BASE62_CODES[rest % 62]) return false
    rest = Math.floor(rest / 62)
  }
  return true
}

/** Whether a credential claims to be one of our tokens, in whatever condition it is. */
export function looksLikeToken (value: string): boolean {
  return value.startsWith(PREFIX)
}

const TOKENS = /dm_[A-Za-z0-9_-]{49}/g

/** The text with every token in it hidden: for what is logged, stored or said of a request, wherever a client has put its token. */
export function hideTokens (text: string): string {
  // Nearly every text has none.
  return text.includes(PREFIX) ? text.replace(TOKENS, `${PREFIX}***`) : text
}

type OneShotHash = (algorithm: string, data: string) => string

/** SHA-256 by the one-shot function where Node has it (20.12 and newer, a fifth of the time), else by the older one. */
export function createTokenHash (oneShot: OneShotHash | undefined): (token: string) => TokenHash {
  return oneShot !== undefined
    ? token => oneShot('sha256', token)
    : token => crypto.createHash('sha256').update(token).digest('hex')
}

/** SHA-256 of a token: what is stored, and what a token is looked up by (so that no secret is ever compared). */
export const hashToken = createTokenHash(crypto.hash)
