/** What the main thread makes of the writer's notices: one log line per change, and a reason in the health. */
import type { StorageLogger } from '../storage.js'
import type { Notice } from './protocol.js'

const LINES: Readonly<Record<Notice['state'], readonly [level: 'warn' | 'info', message: string]>> = {
  pinned: ['warn', 'the WAL grows because a reader stays on an old snapshot: look for a long query or an open transaction, in any process that has the file open'],
  released: ['info', 'the reader is gone: the WAL is being copied back again'],
  cut: ['info', 'the WAL was cut: all of it is copied back'],
  locked: ['warn', 'somebody else holds the write lock, and changes wait for it: look for a long transaction, in any process that has the file open'],
  unlocked: ['info', 'the write lock is free again']
}

export class Notices {
  #log: StorageLogger
  #reasons = new Map<string, string>()

  constructor (log: StorageLogger) {
    this.#log = log
  }

  add ({ state, ...fields }: Notice): void {
    const { file } = fields
    if (state === 'pinned') this.#reasons.set(`reader of ${file}`, `a pinned reader makes the WAL of the ${file} file grow`)
    if (state === 'released') this.#reasons.delete(`reader of ${file}`)
    if (state === 'locked') this.#reasons.set(`lock of ${file}`, `somebody else holds the write lock of the ${file} file`)
    if (state === 'unlocked') this.#reasons.delete(`lock of ${file}`)
    const [level, message] = LINES[state]
    this.#log[level](fields, message)
  }

  reasons (): string[] {
    return [...this.#reasons.values()]
  }
}
