/** Looks for planted values in every byte of a database's files, in every form that they might be stored in. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { dirname, join } from 'node:path'

export type Needles = Record<string, Buffer>

const text = (value: string): Needles => ({
  'as text': Buffer.from(value),
  'as UTF-16': Buffer.from(value, 'utf16le'),
  'as hexadecimal digits': Buffer.from(Buffer.from(value).toString('hex')),
  'as base64': Buffer.from(Buffer.from(value).toString('base64').replace(/.?=*$/, ''))
})

/** A user id, a session id. */
export const textForms = text

/** An IPv4 address also as the four bytes that the log stores. */
export function addressForms (address: string): Needles {
  return isIPv4(address) ? { ...text(address), 'as four bytes': Buffer.from(address.split('.').map(Number)) } : text(address)
}

/** A token, and the 32 random bytes in it. */
export function tokenForms (token: string): Needles {
  const secret = Buffer.from(token.slice(3, 46), 'base64url')
  return {
    ...text(token),
    'its secret in base64url': Buffer.from(secret.toString('base64url')),
    'its secret in base64': Buffer.from(secret.toString('base64').replace('=', '')),
    'its secret in hexadecimal digits': Buffer.from(secret.toString('hex')),
    'its secret as bytes': secret
  }
}

/** What is stored instead of a token. */
export const hashForms = (token: string): Needles => ({ 'its hash': createHash('sha256').update(token).digest(), 'its hash in hexadecimal digits': Buffer.from(createHash('sha256').update(token).digest('hex')) })

/** How often each is in the files of a `file:` URL: both databases, their WAL and its index, pages in use and free ones. Those found nowhere are left out. */
export function found (url: string, needles: Needles): Record<string, number> {
  const folder = dirname(url.slice('file:'.length))
  const files = readdirSync(folder).map(name => readFileSync(join(folder, name)))
  const counts = Object.entries(needles).map(([name, needle]) => [name, files.reduce((sum, bytes) => sum + count(bytes, needle), 0)] as const)
  return Object.fromEntries(counts.filter(([, n]) => n > 0))
}

function count (bytes: Buffer, needle: Buffer): number {
  let n = 0
  for (let at = bytes.indexOf(needle); at !== -1; at = bytes.indexOf(needle, at + 1)) n++
  return n
}
