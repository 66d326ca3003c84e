/** Errors of the API: their shape, and what they keep to themselves. */
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import t from 'tap'
import type { FastifyError, FastifyInstance } from 'fastify'
import type { Socket } from 'node:net'
import { refusedByFramework, refusedByParser } from '../../routes/errors.js'

const refused = (code: string, statusCode: number) =>
  refusedByFramework(Object.assign(new Error('\'/?token=SECRET\' is wrong'), { code, statusCode, name: 'FastifyError' }) as FastifyError)

t.test('what Fastify refuses is told in words of our own, with its status', async t => {
  for (const [code, status, message] of [['FST_ERR_BAD_URL', 400, 'The URL cannot be decoded'], ['FST_ERR_MAX_PARAM_LENGTH', 414, 'A part of the URL is too long']] as const) {
    const error = refused(code, status)
    t.match(error, { code: 'DOORMAN_REQUEST_REFUSED', statusCode: status, message })
    t.equal(error.cause, undefined, 'its text has the URL')
  }
})

t.test('a fault of the server keeps its cause for the log, but not its text', async t => {
  const error = refused('FST_ERR_ASYNC_CONSTRAINT', 500)
  t.match(error, { code: 'DOORMAN_REQUEST_REFUSED', statusCode: 500, message: 'The request cannot be routed' })
  t.match(error.cause, { code: 'FST_ERR_ASYNC_CONSTRAINT' })
})

/** What comes out of a socket, and what is logged, for an error of the parser. */
async function unparsed (code: string, socket = new PassThrough()) {
  const lines: unknown[] = []
  const app = { log: { debug: (...line: unknown[]) => { lines.push(line) } } } as unknown as FastifyInstance
  const error = Object.assign(new Error('Parse Error'), { code, rawPacket: Buffer.from('SECRET') })
  let text = ''
  socket.on('data', chunk => { text += String(chunk) })
  const failed = once(socket, 'error').catch(() => {})
  refusedByParser.call(app, error, socket as unknown as Socket)
  await failed
  return { text, lines, destroyed: socket.destroyed }
}

t.test('what the parser refuses is answered in the shape of every error, and its bytes are not logged', async t => {
  for (const [code, status, error] of [['HPE_INVALID_METHOD', 400, 'Bad Request'], ['HPE_HEADER_OVERFLOW', 431, 'Request Header Fields Too Large'], ['ERR_HTTP_REQUEST_TIMEOUT', 408, 'Request Timeout']] as const) {
    const { text, lines, destroyed } = await unparsed(code)
    const [head = '', body = ''] = text.split('\r\n\r\n')
    t.match(head, `HTTP/1.1 ${status} ${error}\r\nContent-Length: ${body.length}\r\n`)
    t.match(JSON.parse(body), { statusCode: status, code: 'DOORMAN_REQUEST_REFUSED', error })
    t.strictSame(lines, [[{ reason: code, status }, 'request refused by the parser']])
    t.ok(destroyed)
  }
})

t.test('who is gone, or broke off, is not answered', async t => {
  t.match(await unparsed('ECONNRESET'), { text: '', lines: [], destroyed: true })
  const ended = new PassThrough()
  ended.end()
  t.match(await unparsed('HPE_INVALID_METHOD', ended), { text: '', lines: [], destroyed: true })
})
