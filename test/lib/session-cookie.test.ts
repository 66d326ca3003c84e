/** The session cookie: its attributes, and how it is found in a header. */
import t from 'tap'
import { createSessionCookie, findCookie } from '../../lib/session-cookie.js'
import { TOKEN_LENGTH } from '../../lib/token.js'

const make = (options: object = {}) => createSessionCookie(options, 'sessions.cookie')
const DAY = 86_400_000

t.test('R27, R28: names and attributes by default', async t => {
  const cookie = make()
  t.equal(cookie.name(true), '__Host-sid')
  t.equal(cookie.name(false), 'sid')
  const attributes = { path: '/', domain: undefined, httpOnly: true, sameSite: 'lax', signed: false, partitioned: false, priority: undefined, encode: undefined, expires: undefined }
  t.strictSame(cookie.clearing(true), { ...attributes, secure: true })
  t.strictSame(cookie.clearing(false), { ...attributes, secure: false })
})

t.test('names follow what browsers demand', async t => {
  const names = (options: object) => [make(options).name(true), make(options).name(false)]
  t.same(names({ secure: true }), ['__Host-sid', '__Host-sid'])
  t.same(names({ secure: false }), ['sid', 'sid'])
  t.same(names({ domain: 'example.com' }), ['__Secure-sid', 'sid'])
  t.same(names({ path: '/app' }), ['__Secure-sid', 'sid'])
  t.same(names({ name: 'app' }), ['app', 'app'])
  t.same(names({ path: '/!~caf%C3%A9' }), ['__Secure-sid', 'sid'])
  t.same(names({ name: '__Host-app' }), ['__Host-app', 'app'])
  t.match(make({ secure: true, sameSite: 'none', domain: 'example.com' }).clearing(false), { path: '/', domain: 'example.com', secure: true, sameSite: 'none' })
})

t.test('R29: it lives as long as the session, in seconds, and 400 days at most', async t => {
  t.equal(make().attributes(true, 10_999, 1000).maxAge, 9)
  t.equal(make().attributes(true, 1000 * DAY, 0).maxAge, 400 * 86_400)
})

t.test('R30: the longest name and a token are far from what browsers take', async t => {
  const name = 'x'.repeat(100)
  t.ok(name.length + TOKEN_LENGTH <= 4096)
  const path = `/${'x'.repeat(1023)}`
  t.equal(make({ name, path }).attributes(true, 1000, 0).path, path)
})

t.test('R26: what a browser is told to forget', async t => {
  t.equal(make().clearSiteData, null)
  t.equal(make({ clearSiteData: false }).clearSiteData, null)
  t.equal(make({ clearSiteData: true }).clearSiteData, '"cookies", "storage", "cache"')
  t.equal(make({ clearSiteData: ['storage', 'executionContexts'] }).clearSiteData, '"storage", "executionContexts"')
})

t.test('options that browsers would punish are refused at registration', async t => {
  const wrong: [object, RegExp][] = [
    [{ name: '__Host-x', domain: 'example.com' }, /sessions\.cookie\.domain.*__Host-x.*"?example\.com/],
    [{ name: '__host-x', path: '/app' }, /sessions\.cookie\.path/],
    [{ name: '__Host-x', secure: false }, /sessions\.cookie\.secure/],
    [{ name: '__Secure-x', secure: false }, /sessions\.cookie\.secure/],
    [{ sameSite: 'none' }, /sessions\.cookie\.sameSite.*Secure/],
    [{ sameSite: 'none', secure: false }, /sessions\.cookie\.sameSite/],
    [{ sameSite: 'Lax' }, /sessions\.cookie\.sameSite/],
    [{ name: 'a b' }, /sessions\.cookie\.name/],
    [{ name: 'x'.repeat(101) }, /sessions\.cookie\.name/],
    [{ path: `/${'x'.repeat(1024)}` }, /sessions\.cookie\.path.*1024/],
    [{ domain: `${'x.'.repeat(126)}xx` }, /sessions\.cookie\.domain/],
    [{ clearSiteData: 'all' }, /sessions\.cookie\.clearSiteData.*true, false or a list of cookies, storage, cache, executionContexts/],
    [{ clearSiteData: [] }, /sessions\.cookie\.clearSiteData/],
    [{ clearSiteData: ['cookies', '*'] }, /sessions\.cookie\.clearSiteData/],
    [{ path: 'app' }, /sessions\.cookie\.path/],
    [{ path: '/a;b' }, /sessions\.cookie\.path/],
    [{ path: '/a b' }, /sessions\.cookie\.path/],
    [{ path: '/caf\u00e9' }, /sessions\.cookie\.path.*ASCII/],
    [{ path: '/a\n' }, /sessions\.cookie\.path/],
    [{ path: '/a\x7f' }, /sessions\.cookie\.path/],
    [{ name: '__Host-' }, /sessions\.cookie\.name.*more than a prefix/],
    [{ name: '__Secure-' }, /sessions\.cookie\.name/],
    [{ name: '__host-' }, /sessions\.cookie\.name/],
    [{ domain: 'https://example.com' }, /sessions\.cookie\.domain/],
    [{ secure: 'yes' }, /sessions\.cookie\.secure/],
    [{ httpOnly: false }, /sessions\.cookie\.httpOnly/]
  ]
  for (const [options, message] of wrong) t.throws(() => make(options), { message, code: /^DOORMAN_OPTION_/ }, JSON.stringify(options))
  t.throws(() => createSessionCookie('sid', 'sessions.cookie'), { code: 'DOORMAN_OPTION_INVALID', message: /sessions\.cookie.*an object/ })
})

t.test('one cookie is found without parsing the others', async t => {
  const cases: [string, string | undefined][] = [
    ['', undefined],
    ['sid=1', '1'],
    ['a=b; sid=1; c=d', '1'],
    ['a=b;sid=1;c=d', '1'],
    ['a=b; \t sid=1  ; c=d', '1'],
    ['xsid=1', undefined],
    ['xsid=1; sid=2', '2'],
    ['a=sid=1', undefined],
    ['a="x sid=1"', undefined],
    ['sid =1', undefined],
    ['SID=1', undefined],
    ['sid=', ''],
    ['sid=a=b', 'a=b'],
    ['sid=%41', '%41'],
    ['sid=1; sid=2', ''],
    ['sid=1; sid=1', ''],
    ['sid=1; xsid=2; a=sid=3', '1']
  ]
  for (const [header, value] of cases) t.equal(findCookie(header, 'sid'), value, header)
})

/** A header fifty times as long takes about fifty times as long, not 2500 times. The shortest of several times is free of what else the machine does. */
t.test('R6: long hostile headers take no time', async t => {
  const shortest = (header: string) => Math.min(...Array.from({ length: 7 }, () => {
    const start = performance.now()
    findCookie(header, 'sid')
    return performance.now() - start
  }))
  const headers: ((length: number) => string)[] = [n => ' '.repeat(n) + 'sid=1', n => ';'.repeat(n), n => 'xsid='.repeat(n / 5), n => 'sid=1;' + ' '.repeat(n), n => 'sid= '.repeat(n / 5)]
  for (const header of headers) {
    shortest(header(20_000)) // compiled
    const [short, long] = [shortest(header(20_000)), shortest(header(1_000_000))]
    t.ok(long < 500 * Math.max(short, 0.001), `${header(15)}: ${short} and ${long} ms`)
  }
})
