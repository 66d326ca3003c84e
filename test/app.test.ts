/** The standalone API as a whole: its route table, its start and its end, its health, its documentation. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildApp, loadConfig, type Config } from '../app.js'
import { doormanError } from '../errors.js'
import { KEY, startApi } from './routes/helper.js'
import { databaseUrl, onlySqlite } from './engine.js'

const PUBLIC = [
  'GET /docs/*', 'GET /docs/', 'GET /docs', 'GET /docs/json', 'GET /docs/yaml', 'GET /docs/static/*', 'GET /docs/static/index.html', 'GET /docs/static/swagger-initializer.js',
  'GET /health/live', 'GET /health/ready'
]
const SESSION = ['GET /session', 'PATCH /session', 'DELETE /session', 'POST /session/rotate', 'GET /sessions', 'DELETE /sessions', 'DELETE /sessions/:id']
const API_KEY = [
  'POST /sessions', 'POST /admin/sessions/introspect', 'GET /admin/sessions', 'DELETE /admin/sessions/:id', 'DELETE /admin/users/:userId/sessions',
  'POST /admin/ip-logs', 'GET /admin/ip-logs', 'GET /admin/ip-logs/top', 'GET /admin/ip-logs/series', 'GET /admin/activity', 'POST /admin/activity',
  'GET /admin/abuse', 'GET /admin/blocks', 'POST /admin/blocks', 'DELETE /admin/blocks/:id', 'GET /admin/cleanup', 'POST /admin/cleanup',
  'GET /admin/users/:userId/devices', 'GET /admin/users/:userId/export', 'DELETE /admin/users/:userId', 'GET /admin/addresses/:ip/export', 'DELETE /admin/addresses/:ip', 'GET /metrics'
]

/** Routes as Fastify's own tree shows them: `METHOD /path`, without the HEAD that stands beside every GET. */
function routesOf (tree: string): string[] {
  const path: string[] = []
  return tree.split('\n').flatMap(line => {
    const match = /^(?<indent>[│ ]*)[├└]── (?<part>\S*)(?: \((?<methods>[^)]*)\))?/.exec(line)
    if (match?.groups === undefined) return []
    const depth = match.groups.indent!.length / 4
    path.splice(depth, path.length, match.groups.part!)
    const url = path.join('')
    return (match.groups.methods ?? '').split(', ').filter(method => method !== '' && method !== 'HEAD').map(method => `${method} ${url}`)
  })
}

/** The API with all it logs. */
async function logged (t: Test, env: Record<string, string>) {
  const lines: string[] = []
  const config = loadConfig({ DATABASE_URL: await databaseUrl(), API_KEYS: KEY, LOG_LEVEL: 'trace', ...env }, { file: null })
  const app = await buildApp(config, { logStream: { write: line => { lines.push(line) } } })
  t.teardown(() => app.close())
  return { app, text: () => lines.join('') }
}

t.test('the route table: each route is public, for sessions or for keys by an explicit list', async t => {
  const { app, send } = await startApi(t)
  await app.ready()
  const routes = routesOf(app.printRoutes({ commonPrefix: false }))
  t.strictSame(routes.filter(route => !PUBLIC.includes(route)).sort(), [...SESSION, ...API_KEY].sort(), 'nothing is missing, nothing is new')

  for (const [i, route] of [...SESSION, ...API_KEY].entries()) {
    const [method, url] = route.split(' ') as [string, string]
    const { status, body } = await send(method, url.replace(/:\w+/, 'x'), undefined, {}, { remoteAddress: `10.0.${i}.1` }) // more than 20 failures from one network are too many
    t.equal(status, 401, `${route} without anything`)
    t.equal(body.code, SESSION.includes(route) ? 'DOORMAN_SESSION_INVALID' : 'DOORMAN_API_KEY_INVALID', route)
  }
})

t.test('a route that does not say who may use it stops the start', async t => {
  const { app } = await startApi(t)
  t.throws(() => app.get('/mine', async () => 'x'), { code: 'DOORMAN_ROUTE_UNGUARDED', message: /^Route GET \/mine / })
  t.throws(() => app.get('/mine', { config: { access: 'everybody' as 'public' } }, async () => 'x'), { code: 'DOORMAN_ROUTE_UNGUARDED' })
  app.get('/open', { config: { access: 'public' } }, async () => 'hello')
  t.equal((await app.inject('/open')).body, 'hello')
})

t.test('a start that fails closes what it had opened', onlySqlite(), async t => {
  const dir = t.testdir({ file: 'no folder' })
  const config = (url: string): Config => loadConfig({ DATABASE_URL: url, API_KEYS: KEY, LOG_LEVEL: 'silent' }, { file: null })
  await t.rejects(buildApp(config(`file:${join(dir, 'file', 'x.db')}`)), { code: /^DOORMAN_/ })
  const file = join(dir, 'doorman.db')
  // The database opens, then the sessions refuse their options.
  await t.rejects(buildApp({ ...config(`file:${file}`), sessionIdleTimeout: -1 }), { code: 'DOORMAN_OPTION_INVALID' })
  t.ok(existsSync(file))
  t.notOk(existsSync(`${file}-wal`), 'the last connection has taken the WAL away')
})

t.test('documentation', async t => {
  const { send } = await startApi(t)
  const page = await send('GET', '/docs')
  t.equal(page.status, 200)
  t.match(page.headers['content-security-policy'], "script-src 'self'")
  t.equal((await send('GET', '/docs/static/swagger-ui-bundle.js')).status, 200)
  const { body } = await send('GET', '/docs/json')
  t.strictSame(Object.keys(body.paths['/sessions']).sort(), ['delete', 'get', 'post'])
  t.strictSame(body.paths['/sessions'].post.security, [{ apiKey: [] }])
  t.strictSame(body.paths['/session'].get.security, [{ session: [] }])
  t.notOk(body.paths['/health/live'].get.security)
  for (const [url, methods] of Object.entries<Record<string, { summary?: string }>>(body.paths)) {
    for (const [method, { summary }] of Object.entries(methods)) t.ok(summary, `${method} ${url} has a summary`)
  }
})

t.test('security headers', async t => {
  const { send, admin } = await startApi(t)
  const { headers } = await send('GET', '/health/live')
  t.match(headers, { 'content-security-policy': "default-src 'none';frame-ancestors 'none'", 'x-content-type-options': 'nosniff' })
  t.equal((await admin('GET', '/admin/sessions')).headers['cache-control'], 'no-store')
})

t.test('errors have one shape and say nothing about the inside', async t => {
  const { app, send, admin } = await startApi(t)
  app.get('/broken', { config: { access: 'public' } }, async () => { throw new Error('SELECT * FROM secrets') })
  app.get('/odd', { config: { access: 'public' } }, async () => { throw Object.assign(new Error('x'), { statusCode: 799 }) })

  const shapes = async (url: string) => (await send('GET', url)).body
  t.strictSame(await shapes('/broken'), { statusCode: 500, code: 'DOORMAN_INTERNAL', error: 'Internal Server Error', message: 'Internal error' })
  t.match(await shapes('/odd'), { statusCode: 500, code: 'DOORMAN_INTERNAL' })
  t.strictSame(await shapes('/nowhere'), { statusCode: 404, code: 'DOORMAN_NOT_FOUND', error: 'Not Found', message: 'No such route' })
  t.match(await shapes('/%zz'), { statusCode: 400, code: 'DOORMAN_REQUEST_REFUSED', error: 'Bad Request', message: 'The URL cannot be decoded' })

  t.match((await admin('POST', '/sessions', { userId: 'a', colour: 'red' })).body,
    { statusCode: 400, code: 'DOORMAN_REQUEST_INVALID', message: 'body must not have additional properties: colour' })
  t.match((await admin('POST', '/sessions', { userId: 5 })).body, { statusCode: 400, message: 'body.userId must be string' }, 'nothing is coerced in a body')
  t.match((await admin('POST', '/sessions', {})).body, { statusCode: 400, message: /body must have required propert.* userId/ })
  t.match((await admin('GET', '/admin/sessions?limit=501')).body, { statusCode: 400, message: /^querystring\.limit must be <= 500/ })
  t.match((await admin('GET', '/admin/sessions?colour=red')).body, { statusCode: 400, message: 'querystring must not have additional properties: colour' })
  t.equal((await admin('GET', '/admin/sessions?limit=5')).status, 200, 'a query string is text, so numbers are read from it')

  const authorization = `Bearer ${KEY}`
  t.match((await send('POST', '/sessions', 'x', { authorization, 'content-type': 'text/csv' })).body, { statusCode: 415, code: 'DOORMAN_REQUEST_INVALID' })
  t.match((await send('POST', '/sessions', '{"userId":', { authorization, 'content-type': 'application/json' })).body, { statusCode: 400, code: 'DOORMAN_REQUEST_INVALID' })
  t.match((await send('POST', '/sessions', '{"userId":"a","__proto__":{}}', { authorization, 'content-type': 'application/json' })).body, { statusCode: 400, code: 'DOORMAN_REQUEST_INVALID' })
})

t.test('503 says when to try again', async t => {
  const { app, send } = await startApi(t)
  app.get('/busy', { config: { access: 'public' } }, async () => { throw doormanError('DOORMAN_STORAGE_IO', ['SQLITE_IOERR_WRITE']) })
  const { status, headers, body } = await send('GET', '/busy')
  t.equal(status, 503)
  t.equal(headers['retry-after'], '1')
  t.strictSame(body, { statusCode: 503, code: 'DOORMAN_STORAGE_IO', error: 'Service Unavailable', message: 'The service cannot do this at the moment: try again later' })
})

t.test('API keys', async t => {
  const { send, advance } = await startApi(t, { API_KEYS: `${KEY},${KEY}-second` })
  const get = (authorization?: string, remoteAddress = '192.0.2.1') =>
    send('GET', '/admin/blocks', undefined, authorization === undefined ? {} : { authorization }, { remoteAddress })

  t.equal((await get(`Bearer ${KEY}`)).status, 200)
  t.equal((await get(`bearer   ${KEY}-second`)).status, 200)
  for (const authorization of [undefined, KEY, `Basic ${KEY}`, 'Bearer', `Bearer ${KEY}x`, `Bearer ${KEY} x`]) {
    const { status, headers, body } = await get(authorization)
    t.equal(status, 401, authorization ?? 'none')
    t.match(headers, { 'www-authenticate': 'Bearer', 'cache-control': 'no-store' })
    t.equal(body.code, 'DOORMAN_API_KEY_INVALID')
    t.notMatch(JSON.stringify(body), KEY)
  }

  for (let i = 6; i < 20; i++) await get('Bearer wrong')
  advance(1500)
  const limited = await get('Bearer wrong', '192.0.2.99')
  t.equal(limited.status, 429, 'the network is what counts')
  t.equal(limited.headers['retry-after'], '59')
  t.match(limited.body, { code: 'DOORMAN_RATE_LIMITED', error: 'Too Many Requests', message: 'Too many failed attempts: try again in 59 s' })
  t.equal((await get(`Bearer ${KEY}`)).status, 200, 'a right key always passes')
  t.equal((await get('Bearer wrong', '198.51.100.1')).status, 401, 'others are not held back')
  advance(60_000)
  t.equal((await get('Bearer wrong')).status, 401)
})

t.test('the failures of clients without a valid address are counted together', async t => {
  const { send } = await startApi(t, { TRUST_PROXY: 'loopback' })
  const statuses: number[] = []
  for (let i = 0; i < 21; i++) statuses.push((await send('GET', '/metrics', undefined, { 'x-forwarded-for': `garbage-${i}` })).status)
  t.strictSame([statuses[0], statuses[19], statuses[20]], [401, 401, 429])
  t.equal((await send('GET', '/metrics', undefined, { 'x-forwarded-for': '192.0.2.1' })).status, 401)
})

t.test('a change that another site sends along with the cookie is refused', async t => {
  const { send, login, as } = await startApi(t)
  const { token } = await login()
  const patch = (headers: Record<string, string>) => send('PATCH', '/session', { data: { a: 1 } }, { cookie: `sid=${token}`, host: 'app.example', ...headers })
  for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'https://evil.example' }, { origin: 'null' }, { origin: 'https://app.example:444' }]) {
    t.match((await patch(headers)).body, { statusCode: 403, code: 'DOORMAN_CROSS_SITE' }, JSON.stringify(headers))
  }
  for (const headers of [{}, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-site': 'none' }, { origin: 'https://app.example' }, { origin: 'http://app.example' }]) {
    t.equal((await patch(headers)).status, 200, JSON.stringify(headers))
  }
  t.equal((await send('GET', '/session', undefined, { cookie: `sid=${token}`, 'sec-fetch-site': 'cross-site' })).status, 200, 'looking is no change')
  t.equal((await send('PATCH', '/session', { data: {} }, { authorization: `Bearer ${token}`, 'sec-fetch-site': 'cross-site' })).status, 200, 'no browser adds a bearer token by itself')
  t.equal((await as(token, 'GET', '/session')).status, 200)
})

t.test('what proves a right is never logged', async t => {
  const { app, text } = await logged(t, {})
  const { token } = (await app.inject({ method: 'POST', url: '/sessions?', headers: { authorization: `Bearer ${KEY}` }, payload: { userId: 'a' } })).json()
  await app.inject({ url: '/session?secret=in-query', headers: { cookie: `sid=${token}` } })
  await app.inject({ url: '/admin/blocks', headers: { authorization: `Bearer ${token}` } })
  app.log.info({ headers: { authorization: KEY, cookie: token }, upstream: { headers: { authorization: KEY, 'set-cookie': token } } }, 'by mistake')
  t.match(text(), '"path":"/session"')
  t.match(text(), '"authorization":"[Redacted]"')
  for (const secret of [KEY, token, 'in-query']) t.notMatch(text(), secret)
})

t.test('a route for sessions demands one, also where it says no more than that', async t => {
  const { app, send, login } = await startApi(t)
  app.route({ method: ['GET', 'POST'], url: '/mine', config: { access: 'session' }, handler: async request => ({ user: request.session?.userId }) })
  app.get('/unseen', { config: { access: 'session', session: false } }, async request => ({ user: request.session?.userId }))
  const { token } = await login()
  for (const url of ['/mine', '/unseen']) {
    const { status, headers, body } = await send('GET', url)
    t.equal(status, 401, url)
    t.equal(body.code, 'DOORMAN_SESSION_INVALID')
    t.equal(headers['cache-control'], 'no-store')
    t.equal((await send('GET', url, undefined, { authorization: `Bearer ${KEY}` })).status, 401, 'a key is no session')
    t.strictSame((await send('GET', url, undefined, { authorization: `Bearer ${token}` })).body, { user: 'alice' })
  }
  const cookie = `sid=${token}`
  t.equal((await send('POST', '/mine', undefined, { cookie })).status, 200)
  t.match((await send('POST', '/mine', undefined, { cookie, 'sec-fetch-site': 'cross-site' })).body, { statusCode: 403, code: 'DOORMAN_CROSS_SITE' })
})

t.test('a route below the documentation is as open as it says itself', async t => {
  const { app, send, admin } = await startApi(t)
  t.throws(() => app.get('/docs/typo', { config: { access: 'everybody' as 'public' } }, async () => 'x'), { code: 'DOORMAN_ROUTE_UNGUARDED' })
  app.get('/docs/internal', { config: { access: 'apiKey' } }, async () => 'secret')
  t.equal((await send('GET', '/docs/internal')).status, 401)
  t.equal((await admin('GET', '/docs/internal')).body, 'secret')
})

t.test('an address that is not stored in full is not logged either', async t => {
  for (const [mode, shown] of [['none', true], ['truncate', false], ['hash', false]] as const) {
    await t.test(mode, async t => {
      const { app, text } = await logged(t, { IP_ANONYMIZATION: mode })
      for (const url of ['/session', '/nowhere', '/%zz', '/health/live']) await app.inject({ url, remoteAddress: '198.51.100.77' })
      t.match(text(), '"path":"/session"')
      t.equal(text().includes('198.51.100.77'), shown)
    })
  }
})

t.test('the query of a URL that Fastify refuses is neither repeated nor logged', async t => {
  const { app, text } = await logged(t, {})
  const undecodable = await app.inject('/%zz?token=SECRET')
  t.strictSame(undecodable.json(), { statusCode: 400, code: 'DOORMAN_REQUEST_REFUSED', error: 'Bad Request', message: 'The URL cannot be decoded' })
  const long = await app.inject({ method: 'DELETE', url: `/sessions/${'x'.repeat(3073)}?token=SECRET` })
  t.strictSame(long.json(), { statusCode: 414, code: 'DOORMAN_REQUEST_REFUSED', error: 'URI Too Long', message: 'A part of the URL is too long' })
  t.match(text(), 'The URL cannot be decoded')
  t.notMatch(text(), 'SECRET')
})
