/**
 * Hostile input for scenario 12: what is on this machine of the public corpora (../shared/traffic/corpora), and always a small corpus of
 * our own. One payload is the bytes of one line.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

const FOLDER = resolve('../shared/traffic/corpora')
/** Not input, but about it. */
const ABOUT = /SOURCES|LICENSE|copyright/

const bytes = (...numbers: number[]) => Buffer.from(numbers)
const text = (value: string) => Buffer.from(value)

/** Written for this suite: each is something that has broken somebody's parser, log or database. */
const OWN: readonly Buffer[] = [
  // Every control character, alone and within a word; the whole upper half.
  ...Array.from({ length: 33 }, (_, i) => text(`a${String.fromCharCode(i === 32 ? 127 : i)}b`)),
  bytes(...Array.from({ length: 128 }, (_, i) => 128 + i)),
  text('\u0080\u0085\u009b31mred\u009c'),
  text('\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m'),
  // Invalid UTF-8: stray and missing continuations, overlong forms, halves of surrogate pairs, beyond the last code point.
  bytes(0x80), bytes(0xc3), bytes(0xc0, 0xaf), bytes(0xe0, 0x80, 0xaf), bytes(0xf8, 0x88, 0x80, 0x80, 0x80), bytes(0xff, 0xfe),
  bytes(0xed, 0xa0, 0x80), bytes(0xed, 0xbf, 0xbf), bytes(0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80), bytes(0xf4, 0x90, 0x80, 0x80), bytes(0xf0, 0x9f, 0x98),
  text('%ED%A0%80'), text('%C0%AF'), text('%FF'), text('%'), text('%2'), text('%zz'), text('%00'), text('%0d%0aSet-Cookie:%20a=b'), text('%252e%252e%252f'),
  // Lines that are not to become headers or requests.
  text('x\r\nX-Injected: yes'), text('x\nX-Injected: yes'), text('x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'), text('\r\n'), text('\n\n\n'), text('x\r\n continued'),
  text('Transfer-Encoding: chunked'), text('Content-Length: 0\r\nContent-Length: 5'), text('chunked, identity'),
  // SQL, paths, templates, commands.
  text("'; DROP TABLE sessions; --"), text("' OR '1'='1"), text("1' UNION SELECT token_hash FROM sessions --"), text('"); ATTACH DATABASE \'/tmp/x\' AS x; --'), text("x' || load_extension('x') || '"),
  text('../../../../etc/passwd'), text('..%2f..%2f..%2fetc%2fpasswd'), text('/..\\..\\windows\\win.ini'), text('//evil.example/%2e%2e'), text('file:///etc/passwd'), text('http://[::1]:22/'),
  // Looks like `${...}` of JavaScript, which it must not be here.
  text(['$', '{jndi:ldap://x/a}'].join('')), text('{{7*7}}'), text('$(id)'), text('`id`'), text('<script>alert(1)</script>'), text('%s%s%s%n%d'),
  // Unicode that shows other than it is, or is compared other than it looks.
  text('\u202egnp.exe'), text('\u2066user\u2069'), text('\ufeffbom'), text('\u200bzero\u200dwidth'), text('ﬁ\u0301\u0301\u0301\u0301'), text('İstanbul ıI'), text('\u{1f468}\u200d\u{1f469}\u200d\u{1f467}'),
  text('ａｄｍｉｎ'), text('\u2028\u2029'), text('\ufffe\uffff'), text(`${'e'}${'\u0301'.repeat(500)}`), text('\u{10ffff}'),
  // Addresses that are none, or are another.
  ...['0177.0.0.1', '2130706433', '0x7f.1', '127.1', '::ffff:127.0.0.1', '::ffff:7f00:1%lo', '[::1]:99999', '1.2.3.4, 5.6.7.8', '999.1.1.1', '1.2.3.4/33', 'fe80::1%\u0000', '::', ':::', '1:2:3:4:5:6:7:8:9'].map(text),
  // Numbers at the ends of what numbers can be.
  ...['-1', '0', '-0', '9007199254740993', '18446744073709551616', '1e309', '-1e309', 'NaN', 'Infinity', '0x10', '1_000', '٣', '1e-400', '00000000000000000001'].map(text),
  // Times.
  ...['+275760-09-13T00:00:00.001Z', '-000001-01-01T00:00:00Z', '2026-02-30T00:00:00Z', '0000-00-00T00:00:00Z', '2026-13-01'].map(text),
  // Names that objects have already.
  ...['__proto__', 'constructor', 'prototype', 'hasOwnProperty', 'toString', '__proto__[polluted]=1', 'constructor.prototype.polluted'].map(text),
  // Tokens that nearly are one.
  text(`dm_${'A'.repeat(49)}`), text(`dm_${'A'.repeat(48)}`), text('dm_'), text('Bearer Bearer x'), text('null'), text('undefined'), text('[object Object]'), text(''), text(' '), text('\t'), text('"'), text('\\'), text(';'), text('=;=;='),
  // Long: below and above every bound there is.
  text('x'.repeat(1000)), text('€'.repeat(1001)), text('x'.repeat(8193)), text('x'.repeat(20_000)), text('%41'.repeat(4000)), text('\u{1f600}'.repeat(256)), text('a/'.repeat(3000)), text('a=b&'.repeat(2000))
]

/** Bodies that are JSON, or nearly. */
export const BODIES: readonly Buffer[] = [
  '{"__proto__":{"polluted":true},"userId":"a"}', '{"constructor":{"prototype":{"polluted":true}},"userId":"a"}', '{"userId":"a","data":{"__proto__":{"polluted":true}}}', '{"userId":"a","data":{"constructor":{"prototype":1}}}',
  '{"userId":"a","userId":"b"}', '{"userId":{"$ne":null}}', '{"userId":["a"]}', '{"userId":1e999}', '{"userId":"a","data":1e999}', '{"userId":"a","data":{"n":1e999,"m":-1e999,"z":-0}}', '{"userId":"\\ud800"}', '{"userId":"\\u0000"}', '{"userId":"a","data":{"\\u0000\\ud800\\u007f\\u0085":"\\u001b\\u007f\\u009b"}}',
  '{"items":[{"requestId":"\\u0007","method":"GET","path":"/\\u0000\\u0085","status":200,"durationMs":1e-320}]}', '{"items":[{"requestId":"n","method":"G\\u0000T","path":"\\ud800","status":999,"at":"+275760-09-13T00:00:00Z"}]}', '{"items":[{"requestId":"o","method":"GET","path":"/","status":1e400}]}',
  '{"token":"\\u0000"}', 'null', 'true', '0', '""', '[]', '{}', '{', '"', '\ufeff{"userId":"a"}', '{"userId":"a"}{"userId":"b"}', '{"userId":"a",}', "{'userId':'a'}", '', 'NaN', '{"userId":undefined}',
  `{"userId":"a","data":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`, '['.repeat(100_000), `{"items":${'['.repeat(50_000)}${']'.repeat(50_000)}}`, `{"userId":"${'x'.repeat(100_000)}"}`, `{"userId":"a","data":{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":${i}`).join()}}}`, `{"userId":"a","data":{"n":${'9'.repeat(100_000)}}}`
].map(text)

export interface Corpus {
  /** For every place. */
  payloads: readonly Buffer[]
  /** Lists of user agents, most of them harmless: thousands, for one place each, in turn. */
  agents: readonly Buffer[]
  /** What was used, for the report. */
  name: string
}

/** All payloads, each once. */
export function hostileCorpus (): Corpus {
  const folders = existsSync(FOLDER) ? filesBelow(FOLDER) : []
  const isAgents = (file: string) => /user-?agents/i.test(file)
  const payloads = unique([...OWN, ...folders.filter(file => !isAgents(file)).flatMap(payloadsOf)])
  const agents = unique(folders.filter(isAgents).flatMap(payloadsOf))
  const count = `${payloads.length + agents.length} payloads`
  return { payloads, agents, name: folders.length === 0 ? `our own corpus only (${count}): the public ones are not on this machine` : `${folders.length} public corpora and our own, ${count}` }
}

const unique = (payloads: readonly Buffer[]) => [...new Map(payloads.map(payload => [payload.toString('latin1'), payload])).values()]

function filesBelow (folder: string): string[] {
  return readdirSync(folder).sort().map(name => join(folder, name)).flatMap(path => statSync(path).isDirectory() ? filesBelow(path) : ABOUT.test(path) ? [] : [path])
}

function payloadsOf (file: string): Buffer[] {
  if (file.endsWith('.json')) return textsIn(JSON.parse(readFileSync(file, 'utf8'))).map(text)
  // Latin-1 keeps bytes as they are.
  return readFileSync(file, 'latin1').split('\n').map(line => Buffer.from(line, 'latin1'))
}

function textsIn (value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}
