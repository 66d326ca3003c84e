/** What both threads do alike: say when they are ready, pass requests on, answer in groups, and end by themselves when asked. */
import { parentPort, workerData } from 'node:worker_threads'
import { encodeError, toDoormanError } from './errors.js'
import type { FromThread, ThreadSettings, ToThread, WireReply, WireRequest } from './protocol.js'

/** One thread's work. */
export interface ThreadService {
  /** Answers through `reply`, now or later. Must not throw. */
  handle (request: WireRequest): void
  /** Finishes what waits (until the deadline, ms from now) and closes the connections. */
  stop (deadline: number): Promise<void>
}

export type Reply = (replies: WireReply[]) => void

/** Runs a service in this thread. An error nobody caught ends the thread, and the main thread learns which. */
export async function runThread (start: (settings: ThreadSettings, reply: Reply) => Promise<ThreadService>): Promise<void> {
  const port = parentPort!
  const post = (message: FromThread) => { port.postMessage(message) }
  let service: ThreadService
  try {
    service = await start(workerData as ThreadSettings, replies => { post({ type: 'replies', replies }) })
  } catch (error) {
    post({ type: 'failed', error: encodeError(toDoormanError(error)) })
    return
  }
  port.on('message', (message: ToThread) => {
    if (message.type === 'requests') {
      for (const request of message.requests) service.handle(request)
    } else {
      // Closing the port lets the thread end by itself; terminate() would drop what is under way, and hide its coverage.
      void service.stop(message.deadline).then(() => { port.close() })
    }
  })
  post({ type: 'ready' })
}

/** Runs one request at once and answers it. */
export function answer (reply: Reply, id: number, run: () => unknown): void {
  let message: WireReply
  try {
    message = { id, ok: true, value: run() }
  } catch (error) {
    message = { id, ok: false, error: encodeError(toDoormanError(error)) }
  }
  reply([message])
}
