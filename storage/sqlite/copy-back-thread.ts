/** The thread that copies a large WAL back (see copy-back.ts): PASSIVE checkpoints, which wait for nobody, until it is told to end. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { walState } from './checkpoint.js'
import { Connection } from './connection.js'
import type { CopyBackSettings } from './copy-back.js'

/** What was written while so many frames were copied is worth copying at once; else everybody shall have the disk for a while. */
const WORTH_IT = 1000

const { path, file, everyMs } = workerData as CopyBackSettings
const told = new AbortController()
const { signal } = told
parentPort!.once('message', () => { told.abort() })

try {
  const connection = new Connection({ path, role: 'writer', file })
  for (let copied = 0; !signal.aborted;) {
    const before = copied
    copied = walState(connection, 'PASSIVE').copied
    await sleep(copied - before >= WORTH_IT ? 0 : everyMs, undefined, { signal }).catch(() => {})
  }
  connection.close()
} catch {
  // No space, say. Whoever writes is told, and the next look starts another thread; the connection goes with this one.
}
parentPort!.close()
