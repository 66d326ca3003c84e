/** The short form of `npm run fuzz`, and proof that it would see what it looks for. */
import { createHash } from 'node:crypto'
import t from 'tap'
import { createToken } from '../../lib/token.js'
import { makeRequest, type Ground } from './build.js'
import { campaign } from './campaign.js'
import { createChecks } from './checks.js'
import { write } from './json.js'
import { operationsOf } from './openapi.js'
import { Random } from './random.js'
import { printReport } from './report.js'
import { frame, shellLine, type Request } from './request.js'
import { Secrets } from './secrets.js'
import { World } from './world.js'

t.test('generated and hostile requests for some seconds: nothing breaks, nothing leaks', async t => {
  const report = await campaign({ seed: 1, duration: 8000, note: text => { t.comment(text) } })
  printReport(report, text => { t.comment(text) })
  t.strictSame([...report.problems], [])
  t.ok(report.replies > 100, 'it did send them')
})

const TOKEN = createToken(size => Buffer.alloc(size, 201))
const HASH = createHash('sha256').update(TOKEN).digest()
const BYTES = Buffer.from(TOKEN.slice(3, 46), 'base64url')
const KEY = 'planted-key-planted-key-planted-key'

function planted (): Secrets {
  const secrets = new Secrets()
  secrets.addToken(TOKEN)
  secrets.addText('API key', KEY)
  return secrets
}

t.test('a secret is found in whatever form it is', async t => {
  const secrets = planted()
  for (const text of [
    TOKEN, `${TOKEN}%00`, BYTES.toString('hex'), BYTES.toString('hex').toUpperCase(), BYTES.toString('base64'), BYTES.toString('base64url'), HASH.toString('hex'), HASH.toString('base64'), HASH.toString('base64url'),
    KEY, Buffer.from(KEY).toString('base64'), Buffer.from(KEY).toString('hex'), createHash('sha256').update(KEY).digest('hex'), JSON.stringify(Buffer.from(`GET / HTTP/1.1\r\nCookie: sid=${TOKEN}\r\n\r\n`)), JSON.stringify(Buffer.concat([HASH, HASH]))
  ]) {
    t.not(secrets.find(`{"x":"a ${text} b"}`).length, 0, text.slice(0, 80))
  }
  t.strictSame(secrets.find(`${createToken(size => Buffer.alloc(size, 9))} ${'a'.repeat(200)} ${'f'.repeat(64)}`), [], 'and nothing else is taken for one')
})

const REQUEST: Request = { label: 'GET /x', kind: 'valid', method: 'GET', path: '/x', bytes: Buffer.from('GET /x?q=%27%20SELECT%20a%20FROM%20sessions HTTP/1.1\r\n\r\n'), replies: 1, expected: 1, session: null }
const json = (status: number, body: object) => ({ status, head: `HTTP/1.1 ${status} X\r\ncontent-type: application/json\r\n\r\n`, body: JSON.stringify(body) })
const error = (status: number, message: string) => json(status, { statusCode: status, code: 'DOORMAN_REQUEST_INVALID', error: 'Bad Request', message })

t.test('what a reply must not be is noticed', async t => {
  const checks = createChecks(planted(), ['/srv/secret-folder'])
  const problems = (reply: ReturnType<typeof json>, allowed: string[] = []) => checks.reply(REQUEST, reply, allowed).length
  for (const good of [error(400, 'No'), error(400, 'got "\' SELECT a FROM sessions"'), json(200, {})]) t.equal(problems(good), 0, good.body)
  for (const bad of [
    error(500, 'Internal error'), json(400, { error: 'Bad Request', message: 'No', statusCode: 400 }), json(404, { statusCode: 400, code: 'DOORMAN_X', error: 'x', message: 'x' }), json(400, { statusCode: 400, code: 'EPERM', error: 'x', message: 'x' }), { ...error(400, 'No'), body: 'No' }, { ...error(400, 'No'), head: 'HTTP/1.1 400 X\r\n\r\n' },
    error(400, 'Error\n    at Object.<anonymous> (/srv/a.js:1:2)'), error(400, 'at file:///srv/a.ts:1:2'), error(400, 'SQLITE_BUSY'), error(400, 'SELECT data FROM sessions WHERE id = ?'), error(400, 'in node_modules'), json(200, { path: '/srv/secret-folder/x' }),
    json(200, { token: TOKEN }), json(200, { hash: HASH.toString('hex') }), error(401, KEY), { ...json(200, {}), head: 'HTTP/1.1 200 OK\r\nX-Injected: yes\r\n\r\n' }
  ]) t.not(problems(bad), 0, bad.body)

  const login = { ...json(201, { token: TOKEN }), head: `HTTP/1.1 201 Created\r\nset-cookie: sid=${TOKEN}; HttpOnly\r\n\r\n` }
  t.equal(problems(login, [TOKEN]), 0, 'the reply that made a token shows it, once in the body and once in the cookie')
  t.not(problems({ ...login, body: JSON.stringify({ token: TOKEN, again: TOKEN }) }, [TOKEN]), 0)
  t.not(problems(login), 0)
})

t.test('what a log line or an exchange must not be is noticed', async t => {
  const checks = createChecks(planted(), [])
  const line = (level: number, more: object) => checks.line(JSON.stringify({ level, msg: 'x', ...more })).length
  t.equal(line(20, { err: { stack: 'Error\n    at f (/srv/a.js:1:2)' } }), 0, 'a refusal that is explained at debug')
  for (const bad of [line(50, {}), line(40, { err: { stack: 'Error\n    at f (/srv/a.js:1:2)' } }), line(10, { path: `/${TOKEN}` }), checks.line('Segmentation fault').length]) t.not(bad, 0)
  t.equal(checks.line('fastify-doorman listens on http://x').length, 0)

  const exchange = (replies: number, end: 'kept' | 'reset' | 'timeout', rest = '') => checks.exchange(REQUEST, { replies: Array.from({ length: replies }, () => json(200, {})), end, rest, took: 1 }).length
  t.equal(exchange(1, 'kept'), 0)
  for (const bad of [exchange(0, 'kept'), exchange(2, 'kept'), exchange(0, 'reset'), exchange(1, 'timeout'), exchange(1, 'kept', 'HTTP/9')]) t.not(bad, 0)
})

t.test('the same seed gives the same requests', async t => {
  const document = {
    paths: {
      '/sessions': { post: { security: [{ apiKey: [] }], requestBody: { content: { 'application/json': { schema: { type: 'object', required: ['userId'], properties: { userId: { type: 'string', maxLength: 9 }, n: { type: 'integer', minimum: 1 }, at: { type: 'string', format: 'date-time' } } } } } } } },
      '/sessions/{id}': { delete: { security: [{ session: [] }], parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }] } }
    }
  }
  const sequence = (seed: number) => {
    const world = new World(new Secrets())
    world.live.push(...Array.from({ length: 50 }, (_, i) => ({ token: TOKEN, id: `s_${i}`, userId: 'a' })))
    const ground: Ground = { operations: operationsOf(document), payloads: [Buffer.from('\0'), Buffer.from('ü')], world, key: KEY }
    return Array.from({ length: 500 }, (_, index) => makeRequest(ground, new Random(seed, index)).bytes.toString('latin1'))
  }
  t.strictSame(sequence(1), sequence(1))
  t.not(new Set([...sequence(1), ...sequence(2)]).size < 400, true, 'and another seed others')
})

t.test('a request can be sent again by hand', async t => {
  const bytes = frame({ method: 'POST', target: '/a?b=c', headers: [['X-Any', 'it\'s \x01']], body: Buffer.from('{}') })
  t.equal(shellLine({ ...REQUEST, bytes }, 1), "curl -gi --path-as-is -X 'POST' -H 'Host: localhost' -H $'X-Any: it\\x27s \\x01' --data-binary '{}' 'http://127.0.0.1:1/a?b=c'")
  t.equal(shellLine({ ...REQUEST, bytes: Buffer.from('x\r\n\r\n'), replies: null }, 1), "printf %s $'x\\x0d\\x0a\\x0d\\x0a' | nc 127.0.0.1 1")
  t.equal(write([null, 1, 'a']), '[null,1,"a"]')
})
