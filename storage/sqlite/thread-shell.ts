/** What both threads do alike: say when they are ready, pass requests on, answer in groups, and end by themselves when asked. */
import { parentPort, workerData } from 'node:worker_threads'
import type { DoormanError } from '../../errors.js'
import { encodeError, toDoormanError } from './errors.js'
import type { FromThread, Notice, ThreadSettings, ToThread, WireReply, WireRequest } from './protocol.js'

/** One thread's work. */
export interface ThreadService {
  /** Answers through `reply`, now or later. Must not throw. */
  handle (request: WireRequest): void
  /** Finishes what waits (until the deadline, ms from now) and closes the connections. */
  stop (deadline: number): Promise<void>
}

/** Ways of a thread to the main thread. */
export interface Post {
  reply (replies: WireReply[]): void
  notify (notice: Notice): void
  /** The last thing a thread says: nothing more can be done here, and it is not worth trying with another thread. */
  fail (error: DoormanError): void
}

/** Runs a service in this thread. An error nobody caught ends the thread, and the main thread learns which. */
export async function runThread (start: (settings: ThreadSettings, post: Post) => Promise<ThreadService>): Promise<void> {
  const port = parentPort!
  const post = (message: FromThread) => { port.postMessage(message) }
  let service: ThreadService
  try {
    service = await start(workerData as ThreadSettings, {
      reply: replies => { post({ type: 'replies', replies }) },
      notify: notice => { post({ type: 'notice', notice }) },
      fail (error) {
        post({ type: 'failed', error: encodeError(error) })
        port.close()
      }
    })
  } catch (error) {
    post({ type: 'failed', error: encodeError(toDoormanError(error)) })
    return
  }
  port.on('message', (message: ToThread) => {
    if (message.type === 'requests') {
      for (const request of message.requests) service.handle(request)
    } else {
      // Closing the port lets the thread end by itself; terminate() would drop what is under way, and hide its coverage.
      service.stop(message.deadline).then(() => { port.close() })
    }
  })
  post({ type: 'ready' })
}

/** Runs one request at once and answers it. `busyTimeout`: how long a lock is waited for here, ms, for the message. */
export function answer (reply: Post['reply'], id: number, run: () => unknown, busyTimeout: number): void {
  let message: WireReply
  try {
    message = { id, ok: true, value: run() }
  } catch (error) {
    message = { id, ok: false, error: encodeError(toDoormanError(error, busyTimeout)) }
  }
  reply([message])
}
