/** Bytes that are no proper HTTP, or that HTTP allows and few have tried. Each on a connection of its own, which ends. */
import type { Ground } from './build.js'
import type { Random } from './random.js'
import type { Request } from './request.js'

interface Malformed {
  kind: string
  text: string
  /** Replies where that is certain. */
  expected?: number
  method?: string
}

const CLOSE = 'Host: x\r\nConnection: close\r\n'

export function malformed ({ payloads, world, key }: Ground, random: Random): Request {
  const token = world.live.length === 0 ? 'dm_none' : random.pick(world.live).token
  const withToken = `Authorization: Bearer ${token}\r\n`
  const withKey = `Authorization: Bearer ${key}\r\n`
  const json = `Content-Type: application/json\r\n${withKey}`
  const post = `POST /admin/activity HTTP/1.1\r\n${CLOSE}${json}`
  const get = `GET /session HTTP/1.1\r\nHost: x\r\n${withToken}`
  const body = '{"userId":"user-1","action":"a"}'
  const cut = random.below(body.length)
  const { kind, text, expected = null, method = 'GET' } = random.pick<Malformed>([
    { kind: 'payload instead of a request', text: `${random.pick(payloads).toString('latin1')}\r\n\r\n` },
    { kind: 'nothing at all', text: '' },
    { kind: 'empty lines', text: '\r\n\r\n' },
    { kind: 'no version', text: `GET /session\r\n${withToken}\r\n` },
    { kind: 'version 1.0', text: `GET /session HTTP/1.0\r\n${withToken}\r\n`, expected: 1 },
    { kind: 'version 3.0', text: `GET /session HTTP/3.0\r\n${CLOSE}${withToken}\r\n` },
    { kind: 'HTTP/2 preface', text: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' },
    { kind: 'TLS', text: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' },
    { kind: 'no Host', text: `GET /session HTTP/1.1\r\nConnection: close\r\n${withToken}\r\n`, expected: 1 },
    { kind: 'two Hosts', text: `GET /session HTTP/1.1\r\nHost: y\r\n${CLOSE}${withToken}\r\n` },
    { kind: 'whole URL as target', text: `GET http://127.0.0.1/session?token=${token} HTTP/1.1\r\n${CLOSE}${withToken}\r\n`, expected: 1 },
    { kind: 'asterisk', text: `OPTIONS * HTTP/1.1\r\n${CLOSE}\r\n`, expected: 1 },
    { kind: 'CONNECT', text: `CONNECT example.com:443 HTTP/1.1\r\n${CLOSE}\r\n` },
    { kind: 'upgrade', text: `GET /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${withToken}\r\n` },
    { kind: 'truncated head', text: get.slice(0, random.below(get.length)) },
    { kind: 'truncated body', text: `${post}Content-Length: ${body.length}\r\n\r\n${body.slice(0, cut)}` },
    { kind: 'body longer than said', text: `${post}Content-Length: ${cut}\r\n\r\n${body}` },
    { kind: 'chunked', text: `${post}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`, expected: 1 },
    { kind: 'chunk of an odd size', text: `${post}Transfer-Encoding: chunked\r\n\r\n${random.pick(['zz', '-1', 'ffffffffffffffff', '1;x=y', '+3', ' 3'])}\r\n${body}\r\n0\r\n\r\n` },
    { kind: 'chunks without an end', text: `${post}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n` },
    { kind: 'trailer', text: `${post}Transfer-Encoding: chunked\r\nTrailer: X-Token\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\nX-Token: ${token}\r\n\r\n`, expected: 1 },
    { kind: 'length and chunks', text: `${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n` },
    { kind: 'two lengths', text: `${post}Content-Length: ${body.length}\r\nContent-Length: 1\r\n\r\n${body}` },
    { kind: 'odd length', text: `${post}Content-Length: ${random.pick(['-1', '1e3', '0x10', '99999999999999999999', ' ', '5, 5'])}\r\n\r\n${body}` },
    { kind: 'body too large', text: `${post}Content-Length: 5000000\r\n\r\n${body}` },
    { kind: 'other transfer encoding', text: `${post}Transfer-Encoding: ${random.pick(['gzip', 'chunked, identity', 'xchunked', 'identity'])}\r\n\r\n${body}` },
    { kind: 'folded header', text: `GET /session HTTP/1.1\r\n${CLOSE}Authorization: Bearer\r\n ${token}\r\n\r\n` },
    { kind: 'blank before the colon', text: `GET /session HTTP/1.1\r\n${CLOSE}Authorization : Bearer ${token}\r\n\r\n` },
    { kind: 'bare line feeds', text: `GET /session HTTP/1.1\nHost: x\nConnection: close\nAuthorization: Bearer ${token}\n\n` },
    { kind: 'control character in a header', text: `GET /session HTTP/1.1\r\n${CLOSE}${withToken}X: a\x01\x00b\r\n\r\n` },
    { kind: 'too many bytes of headers', text: `GET /session HTTP/1.1\r\n${CLOSE}${withToken}${`X-Filler: ${'x'.repeat(500)}\r\n`.repeat(40)}\r\n` },
    { kind: 'very long cookie', text: `GET /session HTTP/1.1\r\n${CLOSE}Cookie: sid=${'x'.repeat(100_000)}\r\n\r\n` },
    { kind: 'very many headers', text: `GET /session HTTP/1.1\r\n${CLOSE}${'X: y\r\n'.repeat(2500)}\r\n` },
    { kind: 'expects to continue', text: `${post}Expect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n${body}`, expected: 1 },
    { kind: 'expects something else', text: `GET /session HTTP/1.1\r\n${CLOSE}${withToken}Expect: the-worst\r\n\r\n`, expected: 1 },
    { kind: 'pipelined', text: `${get}\r\n`.repeat(4) + `GET /session HTTP/1.1\r\n${CLOSE}${withToken}\r\n`, expected: 5 },
    { kind: 'pipelined, with bodies', text: `POST /admin/activity HTTP/1.1\r\nHost: x\r\n${json}Content-Length: ${body.length}\r\n\r\n${body}`.repeat(3) + `GET /nothing HTTP/1.1\r\n${CLOSE}\r\n`, expected: 4 },
    { kind: 'pipelined, the last one broken', text: `${get}\r\n${get}\r\nGET /${'\x00'} HTTP/1.1\r\n\r\n` },
    { kind: 'method of many letters', text: `${'X'.repeat(5000)} / HTTP/1.1\r\n${CLOSE}\r\n` },
    { kind: 'HEAD with a body', text: `HEAD /health/live HTTP/1.1\r\n${CLOSE}Content-Length: 2\r\n\r\n{}`, method: 'HEAD', expected: 1 }
  ])
  // Node ends a connection that its client has half closed, whether or not the reply is there: who wants one keeps it open.
  return { label: 'raw bytes', kind, method, path: '/', bytes: Buffer.from(text, 'latin1'), replies: null, expected, end: expected === null, session: null }
}
