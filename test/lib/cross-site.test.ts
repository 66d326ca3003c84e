/** Requests that another site had a browser send. */
import t from 'tap'
import { checkRouteCrossSite, isCrossSite, mayChange } from '../../lib/cross-site.js'

const request = (headers: Record<string, string>, method = 'POST', host = 'app.example') => ({ method, host, headers })

t.test('R32: what may change something', async t => {
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'TRACE']) t.notOk(mayChange(request({}, method)), method)
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'CONNECT', 'QUERY']) t.ok(mayChange(request({}, method)), method)
  t.ok(mayChange(request({ upgrade: 'websocket' }, 'GET')))
})

t.test('R32: who says to come from another site, or is said to', async t => {
  const foreign = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': '' },
    { 'sec-fetch-site': 'same-origin, cross-site' },
    { 'sec-fetch-site': 'cross-site', origin: 'https://app.example' },
    { origin: 'https://evil.example' },
    { origin: 'https://app.example.evil.example' },
    { origin: 'https://app.example:444' },
    { origin: 'https://sub.app.example' },
    { origin: 'null' },
    { origin: '' },
    { origin: 'app.example' }
  ]
  for (const headers of foreign) t.ok(isCrossSite(request(headers), new Set()), JSON.stringify(headers))
  const own = [
    {},
    { 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'none' },
    { 'sec-fetch-site': 'same-origin', origin: 'https://behind.a.proxy' },
    { origin: 'https://app.example' },
    { origin: 'http://app.example' }
  ]
  for (const headers of own) t.notOk(isCrossSite(request(headers), new Set()), JSON.stringify(headers))
  t.notOk(isCrossSite(request({ origin: 'http://[::1]:3000' }, 'POST', '[::1]:3000'), new Set()))
})

t.test('origins that are trusted, exactly', async t => {
  const trusted = new Set(['https://other.example'])
  t.notOk(isCrossSite(request({ origin: 'https://other.example' }), trusted))
  t.notOk(isCrossSite(request({ origin: 'https://other.example', 'sec-fetch-site': 'cross-site' }), trusted))
  for (const origin of ['http://other.example', 'https://other.example:8443', 'https://other.example.evil', 'https://OTHER.example', 'null']) {
    t.ok(isCrossSite(request({ origin, 'sec-fetch-site': 'cross-site' }), trusted), origin)
  }
})

t.test('config.crossSite', async t => {
  checkRouteCrossSite('POST /x', undefined)
  checkRouteCrossSite('POST /x', 'allow')
  t.throws(() => checkRouteCrossSite('POST /x', false), { code: 'DOORMAN_OPTION_INVALID', message: 'Option "config.crossSite of POST /x" must be "allow", or left out; got false' })
})
