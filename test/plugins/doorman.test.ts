/** The plugin that brings all others. */
import Fastify from 'fastify'
import t from 'tap'
import * as suite from '../../index.js'
import { databaseUrl } from '../engine.js'

t.test('one registration brings everything', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(suite.doorman, { database: { url: await databaseUrl() } })
  app.get('/', { config: { session: 'required' } }, async request => request.session?.userId)
  const { token } = await app.sessions.create({ userId: 'alice' })
  t.equal((await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })).body, 'alice')
  t.equal((await app.inject('/')).statusCode, 401)
  t.equal((await app.inject('/metrics')).statusCode, 404, 'no open route by default')
  await app.database.flush()
  t.equal((await app.ipTracking.list({}, { limit: 10 })).items.length, 3)
  t.equal((await app.activity.list({ userId: 'alice' }, { limit: 10 })).items.length, 1)
  t.match(await app.metrics.render(), 'doorman_')
  t.match(await app.cleanup.run({ dryRun: true }), { error: null })
})

t.test('every part but the database can be left out', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(suite.doorman, { database: { url: await databaseUrl() }, ipTracking: false, sessions: false, abuse: false, activity: false, cleanup: false, metrics: false })
  t.ok(app.hasDecorator('database'))
  for (const name of ['ipTracking', 'sessions', 'abuse', 'activity', 'cleanup', 'metrics']) t.notOk(app.hasDecorator(name), name)
})

t.test('the abuse signals go with the IP tracking, unless they are asked for', async t => {
  const register = async (options: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(suite.doorman, { database: { url: await databaseUrl() }, ...options })
    return app.hasDecorator('abuse')
  }
  t.equal(await register({}), true)
  t.equal(await register({ ipTracking: false }), false)
  await t.rejects(register({ ipTracking: false, abuse: {} }), /doorman-ip-tracking/)
})

t.test('options are checked, those of the parts as well', async t => {
  const register = async (options: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(suite.doorman, options)
  }
  await t.rejects(register({ session: {} }), { code: 'DOORMAN_OPTION_UNKNOWN', message: /"doorman\.session"; did you mean "sessions"\?/ })
  await t.rejects(register({ database: false }), { code: 'DOORMAN_OPTION_INVALID', message: /"doorman\.database" must be an object; got false/ })
  await t.rejects(register({ cleanup: true }), { code: 'DOORMAN_OPTION_INVALID', message: /"doorman\.cleanup" must be an object, or false; got true/ })
  await t.rejects(register({ database: { url: await databaseUrl() }, sessions: { idleTimout: '1h' } }), { code: 'DOORMAN_OPTION_UNKNOWN', message: /idleTimout/ })
})

t.test('the parts are also there one by one, and two instances live side by side', async t => {
  t.strictSame(Object.keys(suite).sort(), ['abuse', 'activity', 'cleanup', 'database', 'describeEnd', 'doorman', 'errorCatalogue', 'frameworkErrors', 'ipTracking', 'isDoormanError', 'metrics', 'replyBatching', 'sessions'])
  const [one, two] = [Fastify(), Fastify()]
  t.teardown(async () => { await Promise.all([one.close(), two.close()]) })
  for (const app of [one, two]) {
    await app.register(suite.database, { url: await databaseUrl() })
    await app.register(suite.sessions)
  }
  const { token } = await one.sessions.create({ userId: 'alice' })
  t.match(await one.sessions.validate(token), { valid: true })
  t.match(await two.sessions.validate(token), { valid: false, reason: 'unknown' })
})

t.test('registered twice, or without the database: said at boot', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const options = { database: { url: await databaseUrl() } }
  await app.register(suite.doorman, options)
  await t.rejects(async () => { await app.register(suite.doorman, options) }, { code: 'DOORMAN_ALREADY_REGISTERED' })
  const other = Fastify()
  t.teardown(() => other.close())
  await t.rejects(async () => { await other.register(suite.sessions) }, /doorman-database/)
})
