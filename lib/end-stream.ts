/** Ends a response from outside, whoever writes to it. */
import type { Readable } from 'node:stream'

/** A response of Node's, of either version of HTTP. */
export interface Response {
  readonly destroyed: boolean
  readonly headersSent: boolean
  on (event: 'error', listener: () => void): unknown
  once (event: 'close', listener: () => void): unknown
  once (event: 'pipe', listener: (source: Readable) => void): unknown
  end (): unknown
  destroy (): unknown
}

/** @param subscribe is given what ends the response, and gives back what stops listening: called when the response is over */
export function endStream (raw: Response, subscribe: (end: () => void) => () => void): void {
  let source: Readable | undefined
  const stop = subscribe(() => {
    // An empty reply would look like one that went well.
    if (!raw.headersSent) return raw.destroy()
    // Who goes on writing must neither get through nor bring the process down.
    raw.on('error', () => {})
    source?.unpipe(raw as never)
    raw.end()
  })
  // Over already: it will say so no more.
  if (raw.destroyed) return stop()
  raw.once('pipe', from => { source = from })
  raw.once('close', stop)
}
