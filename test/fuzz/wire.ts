/** Bytes to the server and replies back, read as they are: on a connection that is kept, or on one of its own until that ends. */
import { once } from 'node:events'
import net from 'node:net'

export interface Reply {
  status: number
  /** Status line and headers, as they came. */
  head: string
  /** UTF-8. */
  body: string
}

export interface Exchange {
  replies: Reply[]
  end: 'kept' | 'closed' | 'reset' | 'timeout'
  /** Bytes that are no reply, or not all of one. */
  rest: string
  /** ms from the first byte out to the end of the last reply. */
  took: number
}

/** Value of a header of a reply; undefined where there is none, the first where there are several. */
export function header ({ head }: Reply, name: string): string | undefined {
  return new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1]?.trim()
}

export interface Sending {
  bytes: Buffer
  /** Replies to HEAD have no body, whatever they say of its length. */
  headOnly: boolean
  /** How long to wait for it all, ms. */
  limit: number
  /** Whether the client says that nothing more comes. */
  end?: boolean
}

/** On a connection of its own, until the server closes it. */
export function shoot (port: number, sending: Sending): Promise<Exchange> {
  return new Lane(port).exchange(sending, Infinity)
}

/** One connection after another, one request at a time. */
export class Lane {
  #socket: net.Socket | undefined

  constructor (readonly port: number) {}

  /** @param wanted replies after which it is over; Infinity: when the server closes the connection */
  async exchange ({ bytes, headOnly, limit, end = false }: Sending, wanted = 1): Promise<Exchange> {
    const kept = this.#socket?.destroyed === false ? this.#socket : undefined
    // A reset is an end like any other, also between two requests.
    const socket = kept ?? net.connect({ port: this.port, host: '127.0.0.1', noDelay: true }).on('error', () => {})
    this.#socket = undefined
    const started = performance.now()
    const exchange = await new Promise<Exchange>(resolve => {
      let received: Buffer = Buffer.alloc(0)
      let over = false
      const replies: Reply[] = []
      const finish = (how: Exchange['end']) => {
        if (over) return
        over = true
        clearTimeout(timer)
        socket.off('data', onData).off('error', onError).off('close', onClose)
        if (how === 'kept') this.#socket = socket
        else socket.destroy()
        resolve({ replies, end: how, rest: received.toString('latin1'), took: performance.now() - started })
      }
      const timer = setTimeout(finish, limit, 'timeout')
      const onData = (chunk: Buffer) => {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
        for (let read; (read = readReply(received, headOnly)) !== null;) {
          received = received.subarray(read.length)
          // 100 Continue is no answer yet.
          if (read.reply.status >= 200) replies.push(read.reply)
        }
        if (replies.length < wanted) return
        finish(/^connection: close/im.test(replies.at(-1)!.head) || received.length > 0 ? 'closed' : 'kept')
      }
      const onError = () => finish('reset')
      const onClose = () => finish('closed')
      socket.on('data', onData).on('error', onError).on('close', onClose)
      if (end) socket.end(bytes)
      else socket.write(bytes)
    })
    return exchange
  }

  async close (): Promise<void> {
    if (this.#socket === undefined || this.#socket.destroyed) return
    this.#socket.end()
    await once(this.#socket.resume(), 'close')
  }
}

const HEAD = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/

/** The first reply in what came; null where it is not all there. */
function readReply (bytes: Buffer, headOnly: boolean): { reply: Reply, length: number } | null {
  const end = bytes.indexOf('\r\n\r\n')
  if (end === -1) return null
  const head = bytes.toString('latin1', 0, end + 4)
  const status = Number(HEAD.exec(head)?.[1] ?? 0)
  if (status === 0) return null
  const start = head.length
  if (headOnly || status < 200 || status === 204 || status === 304) return { reply: { status, head, body: '' }, length: start }
  if (/^transfer-encoding: chunked/im.test(head)) {
    const chunks = readChunks(bytes, start)
    return chunks === null ? null : { reply: { status, head, body: chunks.body }, length: chunks.end }
  }
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0)
  if (bytes.length < start + length) return null
  return { reply: { status, head, body: bytes.toString('utf8', start, start + length) }, length: start + length }
}

function readChunks (bytes: Buffer, start: number): { body: string, end: number } | null {
  const parts: Buffer[] = []
  for (let at = start; ;) {
    const line = bytes.indexOf('\r\n', at)
    if (line === -1) return null
    const size = parseInt(bytes.toString('latin1', at, line), 16)
    if (bytes.length < line + 2 + size + 2) return null
    parts.push(bytes.subarray(line + 2, line + 2 + size))
    at = line + 2 + size + 2
    if (size === 0) return { body: Buffer.concat(parts).toString(), end: at }
  }
}
