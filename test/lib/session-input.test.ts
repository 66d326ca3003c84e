/** What hosts and clients give the session service: taken, put in one form, or refused. */
import t from 'tap'
import { readAddress, readAfter, readData, readExceptId, readGrace, readId, readIp, readLimit, readUserAgent, readUserId } from '../../lib/session-input.js'

const refused = (message: RegExp) => ({ code: 'DOORMAN_VALUE_INVALID', statusCode: 400, message })

t.test('user ids: 1 to 255 characters without control characters', async t => {
  for (const id of ['a', '42', 'ada@example.com', ' ', 'x'.repeat(255), '\u{1F600}'.repeat(255), "' OR 1=1--", '\u202e']) t.equal(readUserId(id), id)
  for (const id of ['', 'x'.repeat(256), '\u{1F600}'.repeat(256), 'x'.repeat(1_000_000), 'a\nb', 'a\0', '\x7f', '\x85', '\ud800', 42, null, undefined, {}, ['a']]) {
    t.throws(() => readUserId(id), refused(/"userId" must be a string of 1 to 255 characters/), JSON.stringify(id)?.slice(0, 20))
  }
})

t.test('addresses are stored in one form, or refused', async t => {
  t.equal(readIp('::ffff:192.0.2.1'), '192.0.2.1')
  t.equal(readIp('2001:DB8::1'), '2001:db8::1')
  t.equal(readIp(null), null)
  t.equal(readIp(undefined), null)
  for (const ip of ['', 'localhost', '1.2.3', 42, {}]) t.throws(() => readIp(ip), refused(/"ip" must be an IP address/))
  t.equal(readAddress('::ffff:192.0.2.1'), '192.0.2.1')
  for (const ip of ['', null, undefined]) t.throws(() => readAddress(ip), refused(/"ip" must be an IP address/))
})

t.test('ids and positions', async t => {
  for (const id of ['', 's_none']) t.equal(readId(id), id)
  for (const id of [undefined, null, 42, ['s_x'], {}]) t.throws(() => readId(id), refused(/"id" must be the id of a session/))
  t.equal(readExceptId('s_x'), 's_x')
  for (const id of ['', undefined, null, 42]) t.throws(() => readExceptId(id), refused(/"exceptId" must be the id of a session/))
  t.same(readAfter([1, 's_x']), [1, 's_x'])
  for (const key of [[], [1], [1, 2], ['1', 's_x'], [NaN, 's_x'], [1, 's_x', 2], 'x', null, {}]) t.throws(() => readAfter(key), refused(/"after" must be "next" of the page before/))
})

t.test('R36: user agents are cleaned and bounded', async t => {
  t.equal(readUserAgent('a\u001b[31m\nb', 500), 'a[31mb')
  t.equal(readUserAgent('x'.repeat(20_000), 500), 'x'.repeat(500))
  for (const none of [null, undefined, '', '\u0007']) t.equal(readUserAgent(none, 500), null)
  t.throws(() => readUserAgent(['x'], 500), refused(/"userAgent" must be a string; got an array of 1/))
})

t.test('limits and grace', async t => {
  t.equal(readLimit(1), 1)
  t.equal(readLimit(500), 500)
  for (const limit of [0, 501, 1.5, '10', null]) t.throws(() => readLimit(limit), refused(/"limit" must be an integer from 1 to 500/))
  t.equal(readGrace(0), 0)
  for (const grace of [-1, 1.5, '30s', Infinity]) t.throws(() => readGrace(grace), refused(/"grace"/))
})

t.test('data is a plain JSON object within its limit', async t => {
  const data = { a: 1, b: [true, null, 'x', { c: -1.5 }], d: undefined, e: Object.create(null) as object, constructor: 'text' }
  t.equal(readData(data, 1000), '{"a":1,"b":[true,null,"x",{"c":-1.5}],"e":{},"constructor":"text"}')
  t.equal(readData({}, 2), '{}')
  const text = '{"a":"\u00e9"}'
  t.equal(readData({ a: '\u00e9' }, Buffer.byteLength(text)), text)
  t.throws(() => readData({ a: '\u00e9' }, Buffer.byteLength(text) - 1), refused(/"data" must be at most 9 bytes as JSON; got 10 bytes/))
  for (const value of [null, undefined, [], 'x', 1, new Date(), new Map(), new (class A {})()]) t.throws(() => readData(value, 1000), refused(/"data" must be a plain object/))
})

t.test('what JSON would change or lose is refused, with its place', async t => {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const wrong: [object, RegExp][] = [
    [{ a: { b: NaN } }, /"data\.a\.b"/],
    [{ a: Infinity }, /"data\.a"/],
    [{ a: [1, undefined] }, /"data\.a\.1"/],
    [{ a: 1n }, /"data\.a"/],
    [{ a: () => 1 }, /"data\.a"/],
    [{ a: Symbol('x') }, /"data\.a"/],
    [{ a: new Date() }, /"data\.a"/],
    [{ a: Buffer.from('x') }, /"data\.a"/],
    [{ toJSON () { return {} } }, /"data\.toJSON"/],
    [cycle, /nested at most 32 levels/]
  ]
  for (const [value, message] of wrong) t.throws(() => readData(value, 1000), refused(message))
})

t.test('no prototype pollution by way of data', async t => {
  t.throws(() => readData(JSON.parse('{"__proto__":{"admin":true}}'), 1000), refused(/"data" must be without a key "__proto__"/))
  t.throws(() => readData(JSON.parse('{"a":[{"constructor":{"prototype":{"admin":true}}}]}'), 1000), refused(/"data\.a\.0" must be without a key "constructor"/))
  t.notOk('admin' in {})
})
