/**
 * Copies a large WAL back in a thread of its own. Copying some hundred megabytes and syncing them takes seconds, and the commit that does it
 * would keep the writer's other operations waiting; readers and writers go on beside a PASSIVE checkpoint of another connection.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { FileName } from './connection.js'

export interface CopyBackSettings {
  path: string
  file: FileName
  /** Pause between two attempts, ms. */
  everyMs: number
}

const SCRIPT = new URL('./copy-back-thread.js', import.meta.url)

export class CopyBack {
  #settings: CopyBackSettings
  #worker: Worker | undefined
  #ended: Promise<unknown> = Promise.resolve()

  constructor (settings: CopyBackSettings) {
    this.#settings = settings
  }

  get running (): boolean {
    return this.#worker !== undefined
  }

  /** Does nothing while it is at work. */
  start (): void {
    if (this.#worker !== undefined) return
    const worker = new Worker(SCRIPT, { workerData: this.#settings, name: `doorman-copy-back-${this.#settings.file}` })
    this.#worker = worker
    worker.unref()
    // Should it fail, the WAL stays large for a while longer: the next look starts another.
    const ended = () => {
      if (this.#worker === worker) this.#worker = undefined
    }
    this.#ended = once(worker, 'exit').then(ended, ended)
  }

  /** Resolves when its connection is closed. */
  async stop (): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    worker?.ref()
    worker?.postMessage('end')
    await this.#ended
  }
}
