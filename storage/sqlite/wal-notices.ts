/** What the main thread makes of the writer's notices: one log line per change, and a reason in the health. */
import type { StorageLogger } from '../storage.js'
import type { FileName } from './connection.js'
import type { Notice } from './protocol.js'

export class WalNotices {
  #log: StorageLogger
  #stuck = new Set<FileName>()

  constructor (log: StorageLogger) {
    this.#log = log
  }

  add ({ file, walBacklog, stuck }: Notice): void {
    if (stuck) {
      this.#stuck.add(file)
      this.#log.warn({ file, walBacklog }, 'the WAL grows because a reader stays on an old snapshot: look for a long query or an open transaction, in any process that has the file open')
    } else {
      this.#stuck.delete(file)
      this.#log.info({ file, walBacklog }, 'the reader is gone: the WAL is being copied back again')
    }
  }

  reasons (): string[] {
    return [...this.#stuck].map(file => `a pinned reader makes the WAL of the ${file} file grow`)
  }
}
