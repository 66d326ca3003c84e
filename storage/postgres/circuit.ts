/**
 * Whether the server can be reached: open (broken) from the first failure with no connection left, closed with the first connection. One log
 * line at each change, a reason in the health between them.
 */
import type { StorageLogger } from '../storage.js'
import { asCause } from './errors.js'

export interface CircuitOptions {
  log: StorageLogger
  /** Milliseconds, monotonic. */
  monotonic (): number
  /** For the lines: database and hosts. */
  name: string
  where: string
}

export class Circuit {
  /** Why the latest attempt to connect failed; undefined while connections work. */
  lastError: Error | undefined
  #options: CircuitOptions
  #openSince: number | null = null

  constructor (options: CircuitOptions) {
    this.#options = options
  }

  /** For how long nothing could be reached, ms; 0 while it can. */
  get openFor (): number {
    return this.#openSince === null ? 0 : this.#options.monotonic() - this.#openSince
  }

  failed (error: unknown): void {
    this.lastError = asCause(error)
    if (this.#openSince !== null) return
    const { log, monotonic, name, where } = this.#options
    this.#openSince = monotonic()
    log.warn({ database: name, hosts: where, err: this.lastError }, 'the database cannot be reached: changes wait, and are tried again')
  }

  worked (): void {
    if (this.#openSince === null) return
    const { log, name, where } = this.#options
    log.info({ database: name, hosts: where, ms: Math.round(this.openFor) }, 'the database can be reached again')
    this.#openSince = null
    this.lastError = undefined
  }

  reasons (): string[] {
    return this.lastError === undefined ? [] : [`the database cannot be reached: ${this.lastError.message}`]
  }
}
