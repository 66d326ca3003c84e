/**
 * Finds secrets in texts, in whatever form they may have got there: a token, its 32 bytes or its hash in hex, base64 and base64url, also as
 * the list of numbers that a Buffer becomes in JSON; keys and passwords as they are, in base64, and as their hash.
 */
import { createHash } from 'node:crypto'

/** 32 bytes are 64 digits of hex, and 43 characters of base64 without its padding. */
const HEX = 64
const BASE64 = 43
const RUNS = /[A-Za-z0-9+/_-]{43,}/g
/** At least 40 numbers: a buffer in JSON. */
const NUMBERS = /\d{1,3}(?:,\s*\d{1,3}){40,}/g

export class Secrets {
  readonly #forms = new Map<string, string>()
  readonly #texts = new Map<string, string>()

  /** Something of a length of its own, such as an API key. */
  addText (name: string, text: string): void {
    const hash = createHash('sha256').update(text).digest()
    this.#texts.set(text, name).set(Buffer.from(text).toString('base64').replace(/=+$/, ''), `${name} in base64`).set(Buffer.from(text).toString('hex'), `${name} in hex`)
    this.#addBytes(`hash of ${name}`, hash)
  }

  addToken (token: string): void {
    // What is in front of the checksum. As base64url it is part of the token, so the token is found by it.
    this.#addBytes('token', Buffer.from(token.slice(3, 3 + BASE64), 'base64url'))
    this.#addBytes('hash of a token', createHash('sha256').update(token).digest())
  }

  #addBytes (name: string, bytes: Buffer): void {
    this.#forms.set(bytes.toString('hex'), `${name} (hex)`).set(bytes.toString('base64url'), `${name} (base64url)`).set(bytes.toString('base64').slice(0, BASE64), `${name} (base64)`)
  }

  /** How many forms are looked for. */
  get size (): number {
    return this.#forms.size + this.#texts.size
  }

  /** Names of the secrets in a text, each once. */
  find (text: string): string[] {
    const found = new Set<string>()
    for (const [secret, name] of this.#texts) if (text.includes(secret)) found.add(name)
    for (const [run] of text.matchAll(RUNS)) {
      this.#windows(run, BASE64, found)
      if (run.length >= HEX) this.#windows(run.toLowerCase(), HEX, found)
    }
    for (const [numbers] of text.matchAll(NUMBERS)) {
      const bytes = Buffer.from(numbers.split(',').map(Number))
      for (const name of [...this.find(bytes.toString('latin1')), ...this.find(bytes.toString('hex'))]) found.add(`${name}, as numbers`)
    }
    return [...found]
  }

  #windows (run: string, length: number, found: Set<string>): void {
    for (let i = 0; i + length <= run.length; i++) {
      const name = this.#forms.get(run.slice(i, i + length))
      if (name !== undefined) found.add(name)
    }
  }
}
