/** Text from outside, made harmless. */
import fc from 'fast-check'
import t from 'tap'
import { clean, cleanHeader, escapeJson, originOf, pathOf } from '../../lib/text.js'

t.test('clean: removes what breaks logs and misleads readers', async t => {
  t.equal(clean('plain text', 100), 'plain text')
  t.equal(clean('a\0b\nc\x1b[31md\x7fe\x85f\tg', 100), 'abc[31mdefg')
  t.equal(clean('abc\u202ecod.exe\u202c\u2066x\u2069', 100), 'abccod.exex')
  t.equal(clean('a\ud800b\udc00c', 100), 'abc')
  t.equal(clean('\ud83d\x07\ude00', 100), '', 'removing must not join what was apart')
  t.equal(clean('héllo 😀 日本', 100), 'héllo 😀 日本')
  t.equal(clean('', 10), '')
})

t.test('clean: counts code points', async t => {
  t.equal(clean('x'.repeat(20), 5), 'xxxxx')
  t.equal(clean('😀😀😀😀', 3), '😀😀😀')
  t.equal(clean('é😀é😀é😀', 4), 'é😀é😀')
  t.equal(clean('😀😀', 3), '😀😀')
  t.equal(clean('\x07é1234', 4), 'é123', 'removed characters do not count')
})

t.test('clean: bounded, well-formed, idempotent', async () => {
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.array(fc.integer({ min: 0, max: 0xffff }).map(code => String.fromCharCode(code))).map(units => units.join(''))), fc.nat(20), (text, max) => {
    const once = clean(text, max)
    // eslint-disable-next-line no-control-regex -- what must not be there
    return [...once].length <= max && clean(once, max) === once && !/[\0-\x1f\x7f-\x9f]/.test(once) && Buffer.from(once).toString() === once
  }), { numRuns: 1000 })
})

t.test('cleanHeader: UTF-8 that Node reads as Latin-1 is read back', async t => {
  const asNodeReads = (text: string) => Buffer.from(text).toString('latin1')
  t.equal(cleanHeader('curl/8.5.0', 100), 'curl/8.5.0')
  t.equal(cleanHeader('x'.repeat(20), 5), 'xxxxx')
  t.equal(cleanHeader(asNodeReads('Браузер 😀'), 100), 'Браузер 😀')
  t.equal(cleanHeader(asNodeReads('😀'.repeat(10)), 3), '😀😀😀')
  t.equal(cleanHeader('caf\xe9', 100), 'café', 'Latin-1 stays Latin-1')
  t.equal(cleanHeader('日本', 100), '日本', 'and what an injected request holds as text stays text')
  t.equal(cleanHeader('a\tb\x85', 100), 'ab')
})

t.test('pathOf: never the query', async t => {
  const targets: Record<string, string> = {
    '/': '/',
    '/a/b': '/a/b',
    '/a?token=secret': '/a',
    '/a#fragment': '/a',
    '/a#b?c': '/a',
    '/?x': '/',
    '?x': '/',
    '*': '*',
    'http://example.com/a?b': '/a',
    'HTTP://example.com': '/',
    'http://example.com?x=1': '/',
    'http://user:pw@example.com/a': '/a',
    'example.com:443': 'example.com:443',
    '//evil.example/x': '//evil.example/x',
    '/%zz': '/%zz',
    '': ''
  }
  for (const [target, path] of Object.entries(targets)) t.equal(pathOf(target), path, target)
})

t.test('originOf: where from, not what was read there', async t => {
  const referers: Record<string, string | null> = {
    'https://example.com/secret?token=1': 'https://example.com',
    'https://example.com': 'https://example.com',
    'http://example.com:8080/x': 'http://example.com:8080',
    'https://example.com:443/x': 'https://example.com',
    'http://example.com:80': 'http://example.com',
    'http://example.com:8000/': 'http://example.com:8000',
    'HTTPS://Example.COM/x': 'https://example.com',
    'https://user:password@example.com/': 'https://example.com',
    'https://[2001:db8::1]:8443/x': 'https://[2001:db8::1]:8443',
    'https://münchen.example/': 'https://xn--mnchen-3ya.example',
    'android-app://com.example/': null,
    'about:blank': null,
    'https://exa mple.com/': null,
    'https://example.com:99999/': null,
    '/relative': null,
    '': null,
    '-': null
  }
  for (const [referer, origin] of Object.entries(referers)) t.equal(originOf(referer, 300), origin, referer)
  t.equal(originOf(`https://${'a'.repeat(50)}.example/`, 20)?.length, 20)
  t.equal(originOf(`https://USER@${'a'.repeat(50)}.example/`, 20)?.length, 20)
})

t.test('JSON means the same, and holds nothing that clean would remove', async t => {
  t.equal(escapeJson(JSON.stringify({ 'a\x7f': '\x85\u202eé' })), '{"a\\u007f":"\\u0085\\u202eé"}')
  fc.assert(fc.property(fc.jsonValue({ stringUnit: 'binary' }), value => {
    const json = escapeJson(JSON.stringify(value))
    return clean(json, Infinity) === json && JSON.stringify(JSON.parse(json)) === JSON.stringify(value)
  }))
})
