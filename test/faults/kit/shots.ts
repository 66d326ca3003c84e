/** Bytes sent to a server on a connection of their own, and what comes back. */
import net from 'node:net'

export interface Shot {
  place: string
  bytes: Buffer
  /** Whether the client says that nothing more comes. */
  end?: boolean
}

export interface Outcome {
  shot: Shot
  /** Status of each complete reply. */
  replies: number[]
  /** How it ended: closed by the server, reset, or not at all within the limit. */
  end: 'closed' | 'reset' | 'timeout'
  /** Bytes that are no reply, or not all of one. */
  rest: string
}

export function shoot (port: number, shot: Shot, limit: number): Promise<Outcome> {
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    let end: Outcome['end'] = 'closed'
    const timer = setTimeout(() => {
      end = 'timeout'
      socket.destroy()
    }, limit)
    socket.on('connect', () => {
      if (shot.end === true) socket.end(shot.bytes)
      else socket.write(shot.bytes)
    })
    socket.on('data', chunk => { chunks.push(chunk) })
    socket.on('error', () => { end = 'reset' })
    socket.on('close', () => {
      clearTimeout(timer)
      resolve({ shot, end, ...readReplies(Buffer.concat(chunks).toString('latin1'), /^\s*HEAD /.test(shot.bytes.toString('latin1', 0, 100))) })
    })
  })
}

/** Sends shots, `width` at a time. */
export async function shootAll (port: number, shots: readonly Shot[], { width, limit }: { width: number, limit: number }): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  let next = 0
  const work = async () => {
    while (next < shots.length) outcomes.push(await shoot(port, shots[next++]!, limit))
  }
  await Promise.all(Array.from({ length: width }, work))
  return outcomes
}

const HEAD = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/

/** @param headOnly replies to HEAD say how long a body would be, and have none */
function readReplies (text: string, headOnly: boolean): { replies: number[], rest: string } {
  const replies: number[] = []
  for (let rest = text; ;) {
    const [head, status] = HEAD.exec(rest) ?? []
    if (head === undefined) return { replies, rest }
    const length = headOnly ? 0 : Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0)
    if (rest.length < head.length + length) return { replies, rest }
    // 100 Continue is no answer yet.
    if (Number(status) >= 200) replies.push(Number(status))
    rest = rest.slice(head.length + length)
  }
}
