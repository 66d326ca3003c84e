/** One request of the fuzzer, and how people can send it again. */
import type { Session } from './world.js'

export interface Request {
  /** Operation it is made from, or what else it is. */
  label: string
  /** What is odd about it. */
  kind: string
  method: string
  /** Of the operation; `/` where there is none. */
  path: string
  bytes: Buffer
  /** Replies it must get on a connection that is kept; null: on one of its own, until the server closes that. */
  replies: number | null
  /** On a connection of its own: the replies there are, where the server reads all of it; null where that depends on when what arrives. */
  expected: number | null
  end?: boolean
  /** Whose token it was sent with, or null. */
  session: Session | null
}

export interface Parts {
  method: string
  /** Request target as it is sent. */
  target: string
  /** Latin-1, as they are sent; no host, no length. */
  headers: [string, string][]
  body: Buffer | null
}

/** A whole request, as any client would frame it. */
export function frame ({ method, target, headers, body }: Parts): Buffer {
  const length: [string, string][] = body === null ? [] : [['Content-Length', `${body.length}`]]
  const lines = [['Host', 'localhost'] as const, ...headers, ...length].map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1'), body ?? Buffer.alloc(0)])
}

const quote = (text: string) => /^[ -&(-~]*$/.test(text)
  ? `'${text}'`
  // Bash reads these as bytes.
  : `$'${Array.from(Buffer.from(text, 'latin1'), byte => byte >= 32 && byte < 127 && byte !== 39 && byte !== 92 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`).join('')}'`

/** The request as a line for the shell: with curl where it is one that curl can make, else as bytes for a socket. */
export function shellLine ({ bytes, replies }: Request, port: number): string {
  const text = bytes.toString('latin1')
  const parts = /^(\S+) (\/\S*) HTTP\/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n([^]*)$/.exec(text)
  if (replies === null || parts === null) return `printf %s ${quote(text)} | nc 127.0.0.1 ${port}`
  const [, method, target, headers, body] = parts as unknown as [string, string, string, string, string]
  const named = headers.trimEnd().split('\r\n').filter(line => !/^content-length:/i.test(line)).map(line => `-H ${quote(line)}`)
  return ['curl -gi --path-as-is -X', quote(method), ...named, ...(body === '' ? [] : ['--data-binary', quote(body)]), quote(`http://127.0.0.1:${port}${target}`)].join(' ')
}
