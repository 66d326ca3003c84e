/** What is broken for good, as far as this storage knows: a reason in the health, and an end that is told to the host, once. */
import type { DoormanError } from '../../errors.js'
import type { StorageOptions } from '../storage.js'

export class Failures {
  /** Why nothing can be written any more. */
  fatal: DoormanError | undefined
  #damage: DoormanError | undefined
  #log: StorageOptions['log']
  #onFatal: StorageOptions['onFatal']

  constructor (log: StorageOptions['log'], onFatal: StorageOptions['onFatal']) {
    this.#log = log
    this.#onFatal = onFatal
  }

  /** To be told of each operation that failed. Damage does not go away by itself, and the next operation may not meet it. */
  note (error: DoormanError): void {
    if (error.code !== 'DOORMAN_STORAGE_CORRUPT' || this.#damage !== undefined) return
    this.#damage = error
    this.#log.error({ err: error }, 'the database is damaged: stop the service, run "doorman doctor", restore a backup')
  }

  /** To be called when the writer is given up, which happens once. */
  end (error: DoormanError): void {
    this.fatal = error
    this.#onFatal?.(error)
  }

  /** Why nothing can be read either: what is open is not the database any more. */
  get replaced (): DoormanError | undefined {
    return this.fatal?.code === 'DOORMAN_STORAGE_REPLACED' ? this.fatal : undefined
  }

  reasons (): string[] {
    return this.#damage === undefined ? [] : ['a damaged part of the database was met']
  }
}
