/**
 * Replies of one turn of the event loop, sent together at its end.
 *
 * A server under load finds many requests when it looks at its sockets. Answered one by one, each reply wakes whoever waits for it (a proxy on the
 * same machine above all, which is asleep again before the next comes), and the code that reads, handles and writes takes turns in the processor's
 * caches. Sent together they cost much less: docs/benchmarks.md has the figures. An idle server finds one request at a time; its reply waits for
 * nothing.
 *
 * No reply waits long: the next one that is ready sends all, once the oldest has waited `LONGEST_WAIT` or there are `MOST`.
 */
import { AsyncResource } from 'node:async_hooks'

/** Ms. Where handlers compute for longer than this, replies leave one by one again. */
const LONGEST_WAIT = 1
/** Replies. More at a time gain nothing, and one look at the sockets may find thousands of requests. */
const MOST = 64

/** Sends the reply; with an error, an error's reply in its place. */
export type SendReply = (error?: Error) => void

class HeldReply extends AsyncResource {
  readonly #send: SendReply

  /** Goes on in the asynchronous context it is made in, as AsyncLocalStorage wants it: not in that of whoever sends them all. */
  constructor (send: SendReply) {
    super('doorman.reply', { requireManualDestroy: true })
    this.#send = send
  }

  go (): void {
    this.runInAsyncScope(this.#sendOrFail, this)
  }

  /** Sent at once, what is wrong with a reply (a line break in a header) would be thrown to Fastify, which replies with that error. So here. */
  #sendOrFail () {
    try {
      this.#send()
    } catch (error) {
      try {
        this.#send(error as Error)
      } catch (worse) {
        // Nobody's to catch, but not for the other replies to suffer from.
        queueMicrotask(() => { throw worse })
      }
    }
  }
}

// Kept from the start: the fake timers of a host's tests must not stop its replies.
const atEndOfTurn = setImmediate

/** @returns takes what sends a reply, and calls it at the end of this turn or earlier, perhaps at once */
export function createReplyBatch (now: () => number = () => performance.now()): (send: SendReply) => void {
  let held: HeldReply[] = []
  let since = 0
  let scheduled = false

  function sendAll () {
    const replies = held
    held = []
    for (const reply of replies) reply.go()
  }

  function endTurn () {
    scheduled = false
    sendAll()
  }

  return function hold (send) {
    if (held.length === 0) {
      since = now()
    } else if (held.length >= MOST || now() - since >= LONGEST_WAIT) {
      sendAll()
      return send()
    }
    held.push(new HeldReply(send))
    if (scheduled) return
    scheduled = true
    atEndOfTurn(endTurn)
  }
}
