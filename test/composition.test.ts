/**
 * The plugins together and alone, in the ways a host puts them into a service: wiring, encapsulation, the host's own tables, what
 * is in the file when, what happens when the queue is full, and how everything ends.
 */
import t, { type Test } from 'tap'
import Database from 'better-sqlite3'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as suite from '../index.js'
import { databaseUrl, ENGINE, fileOf, newDatabase, onlySqlite, type TestDatabase } from './engine.js'
import { tempDir, until } from './helper.js'

// Injected requests have no sockets that keep the process alive while the database is locked; a server has.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const { doorman } = suite
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** An instance that the test closes; what it logs is kept. */
function instance (t: Test, options: object = {}) {
  const lines: Record<string, unknown>[] = []
  const app = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } }, ...options }) as unknown as FastifyInstance
  t.teardown(() => app.close().catch(() => {}))
  return Object.assign(app, { lines })
}

async function start (t: Test, options: suite.DoormanOptions = {}, routes: (app: FastifyInstance) => unknown = () => {}, given?: TestDatabase) {
  const app = instance(t)
  const db = given ?? await newDatabase(t)
  await app.register(doorman, { ...options, database: { url: db.url, ...options.database } })
  app.get('/', async request => request.session?.userId ?? 'nobody')
  await routes(app)
  await app.ready()
  return { app, db }
}

// ---------------------------------------------------------------- alone and together

const PARTS = ['ipTracking', 'sessions', 'activity', 'cleanup', 'metrics'] as const

t.test('each plugin works with the database alone', async t => {
  const uses: Record<typeof PARTS[number], (app: FastifyInstance) => unknown> = {
    ipTracking: async app => {
      await app.inject('/')
      await app.database.flush()
      t.match(await app.ipTracking.list({}, { limit: 10 }), { items: [{ path: '/', status: 200 }] })
    },
    sessions: async app => {
      const { token } = await app.sessions.create({ userId: 'ada' })
      t.equal((await app.inject({ url: '/', headers: bearer(token) })).body, 'ada')
    },
    activity: async app => {
      app.activity.record({ userId: 'ada', action: 'acted', ip: '192.0.2.1' })
      await app.database.flush()
      t.match(await app.activity.list({}, { limit: 10 }), { items: [{ userId: 'ada', action: 'acted', ip: '192.0.2.1' }] })
    },
    cleanup: async app => {
      t.match(await app.cleanup.run(), { complete: true, error: null })
    },
    metrics: async app => {
      t.match(await app.metrics.render(), /^doorman_/m)
    }
  }
  for (const name of PARTS) {
    await t.test(name, async t => {
      const app = instance(t)
      await app.register(suite.database, { url: await databaseUrl() })
      if (name === 'metrics') await app.register(suite.metrics, { path: null })
      else await app.register(suite[name])
      app.get('/', async request => request.session?.userId ?? 'nobody')
      await app.ready()
      t.strictSame(PARTS.filter(part => app.hasDecorator(part)), [name])
      await uses[name](app)
    })
  }
})

t.test('doorman: one options object, each part can be left out and the others work', async t => {
  for (const left of PARTS) {
    await t.test(`without ${left}`, async t => {
      const { app } = await start(t, { [left]: false })
      t.strictSame(PARTS.filter(part => !app.hasDecorator(part)), [left])
      const token = left === 'sessions' ? 'dm_none' : (await app.sessions.create({ userId: 'ada' })).token
      t.equal((await app.inject({ url: '/', headers: bearer(token) })).body, left === 'sessions' ? 'nobody' : 'ada')
      await app.database.flush()
      if (left !== 'ipTracking') t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 1)
      if (left !== 'activity') t.equal((await app.activity.list({}, { limit: 10 })).items.length, left === 'sessions' ? 0 : 1)
      if (left !== 'cleanup') t.match(await app.cleanup.run({ dryRun: true }), { error: null })
      if (left !== 'metrics') t.match(await app.metrics.render(), /doorman_/)
    })
  }
})

t.test('doorman: the options reach their parts, and the caller\'s object stays as it was', async t => {
  const options = {
    database: { url: await databaseUrl(), busyTimeout: '2s' },
    ipTracking: { anonymization: 'truncate' as const, ignore: { paths: ['/health'] } },
    sessions: { idleTimeout: '1h', cookie: { name: 'sid' } },
    cleanup: { enabled: false, ipLogRetention: '1d' },
    metrics: { path: '/m', guard: false as const }
  }
  const copy = structuredClone(options)
  const { app } = await start(t, options, app => app.get('/health', async () => 'up'))
  t.strictSame(options, copy)
  await app.inject({ url: '/', remoteAddress: '192.0.2.77' })
  await app.inject('/health')
  await app.database.flush()
  t.strictSame((await app.ipTracking.list({}, { limit: 10 })).items.map(row => row.ip), ['192.0.2.0'])
  t.equal(app.sessions.options.idleTimeout, 3_600_000)
  t.match(app.cleanup.options, { ipLogRetention: 86_400_000, sessionIdleTimeout: 3_600_000, enabled: false })
  t.equal((await app.inject('/m')).statusCode, 200)
  t.equal((await app.database.storage.connections()).find(connection => connection.role === 'writer')?.busyWaitMs, 2000)
})

// ---------------------------------------------------------------- wrong wiring

t.test('without the database, or before it: refused at boot, naming what is missing', async t => {
  for (const name of PARTS) {
    const app = instance(t)
    app.register(suite[name] as typeof suite.cleanup)
    app.register(suite.database, { url: await databaseUrl() })
    await t.rejects(async () => { await app.ready() }, { code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED', message: /'doorman-database'.*'doorman-(ip-tracking|sessions|activity|cleanup|metrics)' is not registered|dependency 'doorman-database'/ }, name)
  }
})

t.test('registered twice: refused at boot, naming the plugin and what to do', async t => {
  const options = async () => ({ url: await databaseUrl() })
  const names = { database: 'doorman-database', ipTracking: 'doorman-ip-tracking', sessions: 'doorman-sessions', activity: 'doorman-activity', cleanup: 'doorman-cleanup', metrics: 'doorman-metrics', replyBatching: 'doorman-reply-batching' }
  for (const [part, name] of Object.entries(names)) {
    const app = instance(t)
    await app.register(doorman, { database: await options() })
    app.register(suite[part as 'cleanup'], (part === 'database' ? await options() : {}) as suite.CleanupOptions)
    await t.rejects(async () => { await app.ready() }, { code: 'DOORMAN_ALREADY_REGISTERED', message: `Plugin "${name}" is already registered on this Fastify instance: register it once, or on a separate instance` })
  }
  const app = instance(t)
  app.register(doorman, { database: await options() })
  app.register(async child => { await child.register(doorman, { database: { url: await databaseUrl() } }) })
  await t.rejects(async () => { await app.ready() }, { code: 'DOORMAN_ALREADY_REGISTERED' }, 'also in a context below the first one')
})

t.test('options: misspelt ones are pointed out with the near miss, wrong ones with what was expected', async t => {
  const cases: [suite.DoormanOptions, RegExp][] = [
    [{ sesions: {} } as object, /"doorman\.sesions"; did you mean "sessions"/],
    [{ ip_tracking: {} } as object, /"doorman\.ip_tracking"; did you mean "ipTracking"/],
    [{ database: { busytimeout: 1 } } as object, /"database\.busytimeout"; did you mean "busyTimeout"/],
    [{ ipTracking: { durabilty: 'queued' } } as object, /"ipTracking\.durabilty"; did you mean "durability"/],
    [{ ipTracking: { ignore: { path: [] } } } as object, /"ipTracking\.ignore\.path"; did you mean "paths"/],
    [{ sessions: { maxPerUsr: 1 } } as object, /"sessions\.maxPerUsr"; did you mean "maxPerUser"/],
    [{ sessions: { cookie: { samesite: 'lax' } } } as object, /"sessions\.cookie\.samesite"; did you mean "sameSite"/],
    [{ activity: { sessionEvent: true } } as object, /"activity\.sessionEvent"; did you mean "sessionEvents"/],
    [{ cleanup: { intervall: '1h' } } as object, /"cleanup\.intervall"; did you mean "interval"/],
    [{ metrics: { pth: null } } as object, /"metrics\.pth"; did you mean "path"/],
    [{ sessions: { retention: '1h' } } as object, /"sessions\.retention"; known are .*idleTimeout/],
    [{ sessions: { idleTimeout: '1 fortnight' } }, /"sessions\.idleTimeout" must be a duration .*got "1 fortnight"/],
    [{ ipTracking: { durability: 'maybe' as 'queued' } }, /"ipTracking\.durability" must be one of queued, committed; got "maybe"/],
    [{ database: { url: 'mysql://root:secret@db/x' } }, /database URL must be "file:" and a path/]
  ]
  for (const [options, message] of cases) {
    const app = instance(t)
    const db = await newDatabase(t)
    const error = await (async () => app.register(doorman, { ...options, database: { url: db.url, ...options.database } }))().then(() => null, (error: Error) => error)
    t.match(error, { code: /^DOORMAN_(OPTION|DATABASE_URL)_/, message })
    t.notMatch(error?.message, 'secret')
    await app.close()
    t.strictSame(await db.leftovers(), [], 'what was opened before is closed')
  }
})

t.test('a failed boot closes what it opened', async t => {
  const db = await newDatabase(t)
  const app = instance(t)
  app.register(doorman, { database: { url: db.url } })
  app.register(async () => { throw new Error('the host\'s own fault') })
  await t.rejects(async () => { await app.ready() }, { message: 'the host\'s own fault' })
  await app.close()
  t.strictSame(await db.leftovers(), [])
  const { app: next } = await start(t, {}, () => {}, db)
  t.match(await next.sessions.create({ userId: 'ada' }), { session: { userId: 'ada' } }, 'and the next start finds everything free')
})

t.test('the second file cannot be opened: the first one is let go', onlySqlite(), async t => {
  const broken = await newDatabase(t)
  const app = instance(t)
  await t.rejects(async () => app.register(doorman, { database: { url: broken.url, logUrl: `file:${tempDir()}` } }), { code: 'DOORMAN_DATABASE_UNOPENABLE', message: /is a directory/ })
  t.strictSame(await broken.leftovers(), [])
})

t.test('a process whose boot failed ends by itself', async t => {
  const entry = new URL('../index.js', import.meta.url).href
  const script = `
    import Fastify from 'fastify'
    import { doorman } from ${JSON.stringify(entry)}
    const app = Fastify()
    app.register(doorman, { database: { url: ${JSON.stringify(await databaseUrl())} } })
    app.register(async () => { throw new Error('boom') })
    app.ready().catch(error => { console.log(error.message) })`
  const { stdout, status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: t.testdir(), env: { ...process.env, NODE_PATH: '' }, encoding: 'utf8', timeout: 60_000 })
  t.strictSame({ stdout, status, signal }, { stdout: 'boom\n', status: 0, signal: null })
})

t.test('a route defined before the plugins is guarded all the same', async t => {
  const app = instance(t)
  app.get('/early', { config: { session: 'required' } }, async request => request.session?.userId)
  await app.register(doorman, { database: { url: await databaseUrl() } })
  const { token } = await app.sessions.create({ userId: 'ada' })
  t.equal((await app.inject('/early')).statusCode, 401)
  t.equal((await app.inject({ url: '/early', headers: bearer(token) })).body, 'ada')
  await app.database.flush()
  t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 2)
})

t.test('a route that asks for something unknown of the session stops the start', async t => {
  for (const session of ['requird', true, { fresh: 'soon' }, { frsh: '5m' }]) {
    const app = instance(t)
    await app.register(doorman, { database: { url: await databaseUrl() } })
    await t.rejects(async () => {
      app.get('/odd', { config: { session: session as 'required' } }, async () => 'odd')
      await app.ready()
    }, { code: /^DOORMAN_OPTION_/, message: /GET \/odd/ })
    await app.close()
  }
})

// ---------------------------------------------------------------- encapsulation

t.test('two instances with two databases in one process do not see each other', async t => {
  const [one, two] = await Promise.all([start(t), start(t)])
  const { token, session } = await one.app.sessions.create({ userId: 'ada' })
  t.equal((await one.app.inject({ url: '/', headers: bearer(token) })).body, 'ada')
  t.equal((await two.app.inject({ url: '/', headers: bearer(token) })).body, 'nobody')
  await one.app.ipTracking.blocks.add({ cidr: '192.0.2.1' })
  t.equal((await one.app.inject({ url: '/', remoteAddress: '192.0.2.1' })).statusCode, 403)
  t.equal((await two.app.inject({ url: '/', remoteAddress: '192.0.2.1' })).statusCode, 200)
  await one.app.close()
  t.equal((await two.app.inject('/')).statusCode, 200, 'closing one leaves the other alone')
  await two.app.database.flush()
  t.equal((await two.app.ipTracking.list({}, { limit: 10 })).items.length, 3)
  t.equal(await two.app.sessions.info(session.id), null)
})

t.test('inside a prefixed context it is there for that context only', async t => {
  const app = instance(t)
  const db = await newDatabase(t)
  let inner!: FastifyInstance
  app.get('/outside', async request => ({ session: (request as { session?: unknown }).session === undefined }))
  app.register(async child => {
    inner = child
    await child.register(doorman, { database: { url: db.url } })
    child.get('/me', { config: { session: 'required' } }, async request => request.session?.userId)
    child.register(async grandchild => { grandchild.get('/deep', { onRequest: grandchild.requireSession }, async request => request.session?.userId) }, { prefix: '/more' })
  }, { prefix: '/inside' })
  await app.ready()
  t.notOk(app.hasDecorator('sessions'))
  const { token } = await inner.sessions.create({ userId: 'ada' })
  t.strictSame((await app.inject({ url: '/outside', headers: bearer(token) })).json(), { session: true })
  t.equal((await app.inject({ url: '/inside/me', headers: bearer(token) })).body, 'ada')
  t.equal((await app.inject({ url: '/inside/more/deep', headers: bearer(token) })).body, 'ada')
  t.equal((await app.inject('/inside/more/deep')).statusCode, 401)
  await inner.database.flush()
  t.strictSame((await inner.ipTracking.list({}, { limit: 10 })).items.map(row => row.path).sort(), ['/inside/me', '/inside/more/deep', '/inside/more/deep'])
  await app.close()
  t.strictSame(await db.leftovers(), [])
})

t.test('two contexts of one server, each with a database of its own', async t => {
  const app = instance(t)
  const contexts: Record<string, FastifyInstance> = {}
  for (const name of ['shop', 'forum']) {
    const url = await databaseUrl()
    app.register(async child => {
      contexts[name] = child
      await child.register(doorman, { database: { url } })
      child.get('/', async request => request.session?.userId ?? 'nobody')
    }, { prefix: `/${name}` })
  }
  await app.ready()
  const { token } = await contexts['shop']!.sessions.create({ userId: 'ada' })
  t.equal((await app.inject({ url: '/shop', headers: bearer(token) })).body, 'ada')
  t.equal((await app.inject({ url: '/forum', headers: bearer(token) })).body, 'nobody')
  for (const [name, context] of Object.entries(contexts)) {
    await context.database.flush()
    t.strictSame((await context.ipTracking.list({}, { limit: 10 })).items.map(row => row.path), [`/${name}`])
  }
})

t.test('one database for the server, sessions of their own kind in two contexts', async t => {
  let now = Date.now()
  const db = await newDatabase(t)
  const app = instance(t)
  const contexts: Record<string, FastifyInstance> = {}
  await app.register(suite.database, { url: db.url, clock: () => now })
  for (const [name, idleTimeout] of Object.entries({ staff: '1h', visitors: '1d' })) {
    app.register(async child => {
      contexts[name] = child
      await child.register(suite.sessions, { idleTimeout, cookie: { name } })
      child.get('/', async request => request.session?.userId ?? 'nobody')
    }, { prefix: `/${name}` })
  }
  await app.ready()
  const logins = await Promise.all(Object.entries(contexts).map(async ([name, context]) => ({ name, ...await context.sessions.create({ userId: name }) })))
  now += 120_000
  for (const { name, token } of logins) t.equal((await app.inject({ url: `/${name}`, headers: bearer(token) })).body, name)
  t.strictSame(Object.keys((await app.database.stats()).queues), ['log', 'touches', 'touches-2'])
  await app.close()
  t.strictSame(await db.look('SELECT user_id, last_active_at FROM sessions ORDER BY user_id'), [{ user_id: 'staff', last_active_at: now }, { user_id: 'visitors', last_active_at: now }], 'the last uses of both are stored')
})

t.test('two processes on one database: sessions, ends and blocks of one hold in the other', async t => {
  const time = { now: Date.now() }
  const clock = () => time.now
  const { app: one, db } = await start(t, { database: { clock } })
  const { app: two } = await start(t, { database: { clock } }, () => {}, db)
  const { token, session } = await one.sessions.create({ userId: 'ada' })
  const ask = () => two.inject({ url: '/', headers: bearer(token), remoteAddress: '192.0.2.1' })
  t.equal((await ask()).body, 'ada')
  await one.sessions.remove(session.id)
  t.equal((await ask()).body, 'nobody', 'at once')
  const block = await one.ipTracking.blocks.add({ cidr: '192.0.2.0/24', reason: 'noise' })
  t.match(await two.ipTracking.blocks.list(), [{ cidr: '192.0.2.0/24', reason: 'noise' }])
  time.now += 1000
  await until(async () => (await ask()).statusCode === 403, 'the block to hold within a second')
  await two.ipTracking.blocks.remove(block.id)
  t.equal((await ask()).statusCode, 200)
  await Promise.all(Array.from({ length: 100 }, (_, i) => [one, two][i % 2]!.inject({ url: '/', headers: { 'user-agent': 'both' } })))
  await Promise.all([one.database.flush(), two.database.flush()])
  t.match((await one.ipTracking.top('userAgent', {}, 1)), [{ value: 'both', count: 100 }])
})

// ---------------------------------------------------------------- the host's own tables

t.test('in the host\'s own database file: its tables through batch, get and all, in its routes', onlySqlite('in SQL of SQLite\'s; PostgreSQL\'s has a test of its own'), async t => {
  const db = await newDatabase(t)
  const host = new Database(fileOf(db.url))
  host.exec('CREATE TABLE articles (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, author TEXT); INSERT INTO articles (title, author) VALUES (\'first\', \'ada\'); PRAGMA user_version = 7')
  host.close()
  const { app } = await start(t, {}, app => {
    app.get('/articles', async () => app.database.all('SELECT title, author FROM articles ORDER BY id'))
    app.get<{ Params: { id: string } }>('/articles/:id', async request => await app.database.get('SELECT title FROM articles WHERE id = ?', [Number(request.params.id)]) ?? null)
    app.post<{ Body: { title: string } }>('/articles', { config: { session: 'required' } }, async request => {
      const [inserted] = await app.database.batch([
        { sql: 'INSERT INTO articles (title, author) VALUES (@title, @author)', params: { title: request.body.title, author: request.session!.userId } },
        { sql: 'UPDATE articles SET author = ? WHERE author IS NULL', params: ['nobody'] }
      ])
      return { id: inserted!.lastInsertRowid, changes: inserted!.changes }
    })
  }, db)
  const { token } = await app.sessions.create({ userId: 'bob' })
  const post = (title: string) => app.inject({ method: 'POST', url: '/articles', headers: bearer(token), payload: { title } })
  t.strictSame((await post('second')).json(), { id: 2, changes: 1 })
  t.strictSame((await app.inject('/articles')).json(), [{ title: 'first', author: 'ada' }, { title: 'second', author: 'bob' }], 'read after write')
  t.strictSame((await app.inject('/articles/2')).json(), { title: 'second' })
  t.equal((await app.inject('/articles/3')).body, 'null')
  t.match((await post('second')).json(), { statusCode: 409, code: 'DOORMAN_CONSTRAINT' })
  await t.rejects(app.database.batch([{ sql: 'DELETE FROM articles' }, { sql: 'INSERT INTO articles (title) VALUES (NULL)' }]), { code: 'DOORMAN_CONSTRAINT' })
  t.equal((await app.database.all('SELECT * FROM articles')).length, 2, 'all or nothing')
  await t.rejects(app.database.batch([{ sql: 'COMMIT' }]), { code: 'DOORMAN_SQL_NOT_ALLOWED' })
  await t.rejects(app.database.all('SELECT * FROM nowhere'), { code: 'DOORMAN_SQL_INVALID' })
  await t.rejects(app.database.all('DELETE FROM articles RETURNING id'), { code: /^DOORMAN_/ }, 'reading does not write')
  t.equal((await app.database.all('SELECT * FROM articles')).length, 2)

  // The same promise as for our own tables: a foreign lock is waited for, reading goes on.
  const lock = await db.lock('main')
  const written = post('third')
  t.equal((await app.inject('/articles')).json().length, 2)
  await lock.release()
  t.equal((await written).statusCode, 200)
  await app.close()
  t.strictSame(await db.look('SELECT title FROM articles'), [{ title: 'first' }, { title: 'second' }, { title: 'third' }])
  t.strictSame(await db.look('PRAGMA user_version'), [{ user_version: 7 }])
})

t.test('a table of the host\'s with one of our names stops the start, and nothing is touched', onlySqlite(), async t => {
  const db = await newDatabase(t)
  const host = new Database(fileOf(db.url))
  host.exec('CREATE TABLE sessions (sid TEXT)')
  host.close()
  await t.rejects(start(t, {}, () => {}, db), { code: 'DOORMAN_SCHEMA_FOREIGN', message: /already has .*"sessions".*: use another database/ })
  t.strictSame(await db.look('SELECT name FROM sqlite_schema'), [{ name: 'sessions' }])
})

// ---------------------------------------------------------------- sessions without our routes

t.test('sessions in the host\'s own routes: login, guards, service, logout', async t => {
  const { app } = await start(t, {}, app => {
    app.post<{ Body: { user: string } }>('/login', async (request, reply) => {
      const { token, session } = await app.sessions.create({ userId: request.body.user, ip: request.clientAddress, userAgent: request.headers['user-agent'] ?? null, data: { role: 'writer' } })
      app.setSessionCookie(reply, token, session)
      return { id: session.id }
    })
    app.get('/hook', { onRequest: app.requireSession }, async request => request.session?.data)
    app.get('/config', { config: { session: 'required' } }, async request => request.session?.userId)
    app.get('/fresh', { preHandler: app.requireFresh('5m') }, async () => 'fresh')
    app.get('/service', async request => (await app.sessions.list({ userId: String(request.session?.userId) })).items.length)
    app.post('/logout', { onRequest: app.requireSession }, async (request, reply) => {
      await app.sessions.remove(request.session!.id)
      app.clearSessionCookie(reply)
      return 'bye'
    })
    app.register(async guarded => {
      guarded.addHook('onRequest', guarded.requireSession)
      guarded.get('/', async request => request.session?.userId)
    }, { prefix: '/guarded' })
  })
  const login = await app.inject({ method: 'POST', url: '/login', payload: { user: 'ada' }, headers: { 'user-agent': 'UA/1' } })
  const [cookie] = String(login.headers['set-cookie']).split(';')
  t.match(String(login.headers['set-cookie']), /HttpOnly; SameSite=Lax/i)
  const as = (url: string, method: 'GET' | 'POST' = 'GET') => app.inject({ url, method, headers: { cookie: cookie!, 'user-agent': 'UA/1' } })
  t.strictSame((await as('/hook')).json(), { role: 'writer' })
  for (const url of ['/', '/config', '/guarded']) t.equal((await as(url)).body, 'ada', url)
  t.equal((await as('/fresh')).body, 'fresh')
  t.equal((await as('/service')).body, '1')
  for (const url of ['/hook', '/config', '/fresh', '/guarded']) t.match((await app.inject(url)).json(), { statusCode: 401, code: 'DOORMAN_SESSION_INVALID' }, `${url} without a session`)
  t.match((await app.inject({ url: '/hook', headers: { cookie: `${cookie}x` } })).json(), { statusCode: 401 })
  t.equal((await as('/logout', 'POST')).body, 'bye')
  t.equal((await as('/config')).statusCode, 401)
  await app.database.flush()
  t.strictSame((await app.activity.list({ userId: 'ada' }, { limit: 10 })).items.map(item => item.action), ['session_use_after_expire', 'session_ended', 'login'])
  t.equal((await app.ipTracking.list({ userId: 'ada' }, { limit: 20 })).items.length, 8, 'requests are linked to the user')
})

t.test('another plugin\'s request.session: ours takes another name', async t => {
  const other = fp(async app => { app.decorateRequest('session', { getter: () => ({ theirs: true }) as never }) })
  const clash = instance(t)
  await clash.register(other)
  await t.rejects(async () => clash.register(doorman, { database: { url: await databaseUrl() } }), { code: 'DOORMAN_OPTION_INVALID', message: /sessions\.decoratorName.*got "session"/ })
  const app = instance(t)
  await app.register(other)
  await app.register(doorman, { database: { url: await databaseUrl() }, sessions: { decoratorName: 'login' } })
  app.get('/', async request => ({ session: request.session, login: (request as unknown as { login: { userId: string } | null }).login?.userId }))
  const { token } = await app.sessions.create({ userId: 'ada' })
  t.strictSame((await app.inject({ url: '/', headers: bearer(token) })).json(), { session: { theirs: true }, login: 'ada' })
})

t.test('sessions cannot be read: 503, never "no session" and never "valid"', async t => {
  const { app } = await start(t, { ipTracking: false }, app => {
    app.get('/private', { config: { session: 'required' } }, async () => 'private')
    app.get('/public', { config: { session: false } }, async () => 'public')
  })
  const { token } = await app.sessions.create({ userId: 'ada' })
  const { storage } = app.database
  for (const failing of [() => { throw new Error('disk') }, async () => { throw new Error('disk') }]) {
    storage.findSession = failing
    for (const url of ['/private', '/']) {
      const reply = await app.inject({ url, headers: bearer(token) })
      t.match(reply.json(), { statusCode: 503, code: 'DOORMAN_SESSION_UNAVAILABLE' }, url)
      t.notMatch(reply.body, 'disk')
    }
    t.equal((await app.inject('/')).body, 'nobody', 'who brings no token needs no answer')
    t.equal((await app.inject({ url: '/public', headers: bearer(token) })).body, 'public')
  }
})

// ---------------------------------------------------------------- durability

t.test('durability: a committed row is in the file when the reply arrives', async t => {
  const { app, db } = await start(t, { ipTracking: { durability: 'committed' } }, app => {
    app.get('/fails', async () => { throw new Error('oops') })
    app.get('/queued', { config: { ipTracking: { durability: 'queued' } } }, async () => 'queued')
  })
  for (const [i, url] of ['/', '/fails', '/nowhere'].entries()) {
    const { statusCode } = await app.inject({ url, headers: { 'user-agent': `UA/${i}` } })
    t.strictSame(await db.look(`SELECT path, status FROM ip_logs WHERE user_agent = 'UA/${i}'`, 'log'), [{ path: url, status: statusCode }])
  }
  const replies = await Promise.all(Array.from({ length: 100 }, () => app.inject('/')))
  t.ok(replies.every(reply => reply.statusCode === 200))
  t.strictSame(await db.look('SELECT count(*) AS n FROM ip_logs', 'log'), [{ n: 103 }])
  const lock = await db.lock('log')
  t.equal((await app.inject('/queued')).statusCode, 200, 'a route may say otherwise')
  await lock.release()
})

t.test('durability: sessions are in the file when the promise resolves', async t => {
  const { app, db } = await start(t)
  const { token, session } = await app.sessions.create({ userId: 'ada' })
  const rows = () => db.look('SELECT user_id, data FROM sessions')
  t.strictSame(await rows(), [{ user_id: 'ada', data: '{}' }])
  await app.sessions.update(session.id, { n: 1 })
  t.strictSame(await rows(), [{ user_id: 'ada', data: '{"n":1}' }])
  await app.sessions.rotate(token)
  t.strictSame(await db.look('SELECT reason FROM session_tombstones'), [{ reason: 'rotated' }])
  await app.sessions.remove(session.id)
  t.strictSame(await rows(), [])
  await app.ipTracking.blocks.add({ cidr: '192.0.2.0/24' })
  t.strictSame(await db.look('SELECT cidr FROM ip_blocks'), [{ cidr: '192.0.2.0/24' }])
})

t.test('closing: queued rows, activity and last uses are in the file, no WAL is left; closing twice is one closing', async t => {
  let now = Date.now()
  // Rows would linger for a minute, but nobody waits that long.
  const { app, db } = await start(t, { database: { linger: '60s', clock: () => now } }, app => {
    app.post('/act', { config: { session: 'required' } }, async request => { request.recordActivity('acted') })
  })
  const { token } = await app.sessions.create({ userId: 'ada' })
  now += 120_000
  for (let i = 0; i < 50; i++) await app.inject({ method: 'POST', url: '/act', headers: bearer(token) })
  t.strictSame(await db.look('SELECT count(*) AS n FROM ip_logs', 'log'), [{ n: 0 }])
  await Promise.all([app.close(), app.close()])
  await app.close()
  t.strictSame(await db.leftovers(), [])
  t.strictSame(await db.look('SELECT count(*) AS n FROM ip_logs', 'log'), [{ n: 50 }])
  t.strictSame(await db.look('SELECT count(*) AS n FROM user_activity WHERE action = \'acted\'', 'log'), [{ n: 50 }])
  t.strictSame(await db.look('SELECT last_active_at FROM sessions'), [{ last_active_at: now }])
  await t.rejects(app.sessions.create({ userId: 'bob' }), { code: 'DOORMAN_STORAGE_CLOSED', statusCode: 503 })
  await t.rejects(async () => app.sessions.validate(token), { code: 'DOORMAN_SESSION_UNAVAILABLE' })
})

t.test('closing under a foreign lock waits for it, and past its deadline says what was not stored', async t => {
  const { app, db } = await start(t)
  await app.inject('/')
  const lock = await db.lock('log')
  await app.inject('/')
  const closing = app.close()
  const { log } = app.database
  await until(() => {
    const open = log.reserve()
    if (open) log.release()
    return !open
  }, 'the close to begin')
  await lock.release()
  await closing
  t.strictSame(await db.look('SELECT count(*) AS n FROM ip_logs', 'log'), [{ n: 2 }])

  const { app: other, db: otherDb } = await start(t, { database: { closeTimeout: 100 } })
  const otherLock = await otherDb.lock('log')
  await other.inject('/')
  await t.rejects(other.close(), { code: 'DOORMAN_CLOSE_INCOMPLETE', message: /gave up after 100 ms: 1 operations were not stored/ })
  await otherLock.release()
})

t.test('closing: requests under way are answered and have their row, and the host\'s own closing can still write', async t => {
  let enter!: () => void
  let leave!: () => void
  const entered = new Promise<void>(resolve => { enter = resolve })
  const left = new Promise<void>(resolve => { leave = resolve })
  const { app, db } = await start(t, {}, async app => {
    await app.database.batch([{ sql: 'CREATE TABLE farewells (text TEXT)' }])
    app.addHook('onClose', async () => {
      app.activity.record({ userId: 'host', action: 'closed' })
      await app.database.batch([{ sql: `INSERT INTO farewells VALUES (${ENGINE === 'sqlite' ? '?' : '$1'})`, params: ['bye'] }])
    })
    app.get('/slow', async () => {
      enter()
      await left
      return 'slow'
    })
  })
  const base = await app.listen({ port: 0, host: '127.0.0.1' })
  const reply = fetch(`${base}/slow`)
  await entered
  const closing = app.close()
  leave()
  t.equal(await (await reply).text(), 'slow')
  await closing
  t.strictSame(await db.leftovers(), [])
  t.strictSame(await db.look('SELECT path, status, outcome FROM ip_logs', 'log'), [{ path: '/slow', status: 200, outcome: 'replied' }])
  t.strictSame(await db.look('SELECT text FROM farewells'), [{ text: 'bye' }])
  t.strictSame(await db.look('SELECT action FROM user_activity', 'log'), [{ action: 'closed' }])
})

t.test('durability: SIGKILL loses no answered request that was to be committed, and no session', async t => {
  const dir = tempDir()
  const db = await newDatabase(t)
  const script = `
    import Fastify from ${JSON.stringify(import.meta.resolve('fastify'))}
    import { doorman } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
    const app = Fastify()
    await app.register(doorman, { database: { url: ${JSON.stringify(db.url)} }, ipTracking: { durability: 'committed' } })
    app.post('/login', async () => (await app.sessions.create({ userId: 'ada' })).session.id)
    console.log(await app.listen({ port: 0, host: '127.0.0.1' }))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: dir, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const line = await Promise.race([once(child.stdout, 'data').then(([data]) => String(data)), exited.then(() => null)])
  if (line === null) throw new Error('it ended before it listened')
  const base = line.trim()
  const ids: string[] = []
  const client = async () => {
    for (;;) {
      const reply = await fetch(`${base}/login`, { method: 'POST' }).then(async reply => reply.status === 200 ? reply.text() : null, () => null)
      if (reply === null) return
      ids.push(reply)
    }
  }
  const clients = Array.from({ length: 5 }, client)
  await until(() => ids.length >= 100, 'a hundred answers')
  child.kill('SIGKILL')
  await Promise.all([...clients, exited])
  // Opening recovers what the killed process has left in the WAL.
  const { app } = await start(t, { cleanup: false }, () => {}, db)
  const stored = new Set((await app.database.all('SELECT id FROM sessions')).map(row => row['id']))
  t.strictSame(ids.filter(id => !stored.has(id)), [])
  const [entry] = await app.ipTracking.top('path', {}, 1)
  t.ok(entry!.count >= ids.length, `${entry!.count} rows for ${ids.length} answers`)
  t.strictSame(await app.database.storage.check(), [])
})

// ---------------------------------------------------------------- the queue is full

const dropped = async (app: FastifyInstance) => (await app.database.stats()).queues['log']!.dropped

t.test('full queue, queued: requests wait for room, then go on; what was dropped is counted and told', async t => {
  const app = instance(t)
  const db = await newDatabase(t)
  await app.register(doorman, { database: { url: db.url, queueLimit: 2, queueWait: 50 } })
  app.get('/', async () => 'served')
  await app.ready()
  const lock = await db.lock('log')
  const replies = await Promise.all(Array.from({ length: 6 }, () => app.inject('/')))
  t.ok(replies.every(reply => reply.statusCode === 200 && reply.body === 'served'), 'logging never fails a request')
  t.strictSame(await dropped(app), { 'queue-full': 4 })
  t.match(await app.metrics.render(), /dropped.*4$/m)
  t.equal(app.lines.filter(line => line['msg'] === 'log rows were dropped').length, 1, 'one line, not one per request')
  await lock.release()
  await app.database.flush()
  t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 2)
  t.equal((await app.inject('/')).statusCode, 200)
  await app.database.flush()
  t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 3, 'room again')
})

t.test('full queue, queued: whoever waits gets the place that becomes free', async t => {
  const { app, db } = await start(t, { database: { queueLimit: 1, queueWait: '30s' } })
  const lock = await db.lock('log')
  const replies = Promise.all(Array.from({ length: 5 }, () => app.inject('/')))
  let answered = false
  replies.finally(() => { answered = true })
  await until(async () => (await app.database.stats()).queues['log']!.inFlight === 1, 'the first row to be on its way')
  t.equal(answered, false)
  await lock.release()
  t.ok((await replies).every(reply => reply.statusCode === 200))
  await app.database.flush()
  t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 5)
  t.strictSame(await dropped(app), {})
})

t.test('full queue, committed: 503 with Retry-After, and the row that was promised is stored', async t => {
  const { app, db } = await start(t, { ipTracking: { durability: 'committed' }, database: { queueLimit: 1, queueWait: 50 } })
  const lock = await db.lock('log')
  const first = app.inject({ url: '/', headers: { 'user-agent': 'first' } })
  await until(async () => (await app.database.stats()).queues['log']!.inFlight === 1, 'its row to be on its way')
  const second = await app.inject({ url: '/', headers: { 'user-agent': 'second' } })
  t.match(second.json(), { statusCode: 503, code: 'DOORMAN_ROW_NOT_STORED' })
  t.match(second.headers['retry-after'], /^\d+$/)
  t.strictSame(await dropped(app), { 'queue-full': 1 })
  await lock.release()
  t.equal((await first).statusCode, 200)
  t.strictSame(await db.look('SELECT user_agent, status FROM ip_logs', 'log'), [{ user_agent: 'first', status: 200 }])
})

t.test('too many operations at once: refused with a code, those accepted are stored', async t => {
  const { app, db } = await start(t, { database: { maxPending: 3 } })
  const lock = await db.lock('main')
  const settled = Promise.allSettled(Array.from({ length: 5 }, (_, i) => app.sessions.create({ userId: `u${i}` })))
  await t.rejects(app.sessions.create({ userId: 'late' }), { code: 'DOORMAN_QUEUE_FULL', statusCode: 503 })
  await lock.release()
  t.strictSame((await settled).map(result => result.status), ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'])
  t.strictSame(await db.look('SELECT count(*) AS n FROM sessions'), [{ n: 3 }])
})

// ---------------------------------------------------------------- CommonJS

t.test('require() from CommonJS', onlySqlite('with the default URL, a file'), async t => {
  const script = `
    const Fastify = require('fastify')
    const { doorman, isDoormanError } = require(process.argv[1])
    const { buildApp } = require(process.argv[2])
    const app = Fastify()
    app.register(doorman)
    app.ready().then(async () => {
      const { session } = await app.sessions.create({ userId: 'ada' })
      await app.close()
      console.log(session.userId, typeof isDoormanError, typeof buildApp)
    })`
  const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
  const node = (dir: string) => spawnSync(process.execPath, ['--input-type=commonjs', '-e', script, path('index.js'), path('app.js')], { cwd: dir, env: { ...process.env, NODE_PATH: join(process.cwd(), 'node_modules') }, encoding: 'utf8', timeout: 60_000 })
  const dir = tempDir()
  const { stdout, stderr, status } = node(dir)
  t.strictSame({ stdout, status }, { stdout: 'ada function function\n', status: 0 }, stderr)
  t.strictSame(readdirSync(join(dir, 'data')).sort(), ['doorman-log.db', 'doorman.db'], 'where the default URL says, with nothing beside them')
})
