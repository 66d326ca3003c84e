/** The plugin `activity`, in a host. */
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import { requestSession, RequestSession } from '../../lib/request-session.js'
import { createSessionEvents, type SessionEvents } from '../../lib/session-events.js'
import type { SessionView } from '../../lib/session-types.js'
import activity from '../../plugins/activity.js'
import ipTracking from '../../plugins/ip-tracking.js'
import { fakeDatabase, type FakeOptions } from '../helpers/fake-database.js'

async function build (t: Test, { fake, options = {}, before }: { fake?: FakeOptions, options?: object, before?: (app: FastifyInstance) => unknown } = {}) {
  const database = fakeDatabase({ clock: () => 5000, ...fake })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(database.plugin)
  await before?.(app)
  await app.register(activity, options)
  return { app, database }
}

t.test('records what a user did', async t => {
  const { app, database } = await build(t)
  app.activity.record({ userId: 'ann', action: 'invoice.paid', sessionId: 's1', ip: '[2001:DB8::1]:443', detail: { invoice: 7 } })
  app.activity.record({ userId: 'ann', action: 'logout' })
  t.strictSame(await database.activityRows(), [
    { kind: 'activity', at: 5000, userId: 'ann', sessionId: 's1', action: 'invoice.paid', ip: '2001:db8::1', detail: '{"invoice":7}' },
    { kind: 'activity', at: 5000, userId: 'ann', sessionId: null, action: 'logout', ip: null, detail: null }
  ])
})

t.test('refuses what makes no entry, naming it', async t => {
  const { app, database } = await build(t)
  const good = { userId: 'ann', action: 'x' }
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  const bad: [object, RegExp][] = [
    [{ action: '' }, /"action" must be a word/],
    [{ action: '1st' }, /"action"/],
    [{ action: 'two words' }, /"action"/],
    [{ action: 'x'.repeat(65) }, /"action"/],
    [{ action: 7 }, /"action".*got 7/],
    [{ userId: '' }, /"userId"/],
    [{ userId: 'x'.repeat(256) }, /"userId"/],
    [{ userId: 7 }, /"userId"/],
    [{ sessionId: '' }, /"sessionId"/],
    [{ sessionId: 'a\nb' }, /"sessionId"/],
    [{ ip: 'localhost' }, /"ip"/],
    [{ detail: 'text' }, /"detail"/],
    [{ detail: [1] }, /"detail"/],
    [{ detail: cycle }, /"detail"/],
    [{ detail: { n: 1n } }, /"detail"/],
    [{ detail: new Date(0) }, /"detail"/],
    [{ detail: { toJSON: () => undefined } }, /"detail"/],
    [{ detail: { text: 'é'.repeat(2100) } }, /"detail" must be an object that is at most 4096 bytes/]
  ]
  for (const [values, message] of bad) {
    t.throws(() => app.activity.record({ ...good, ...values } as typeof good), { code: 'DOORMAN_VALUE_INVALID', message }, String(message))
  }
  t.strictSame(await database.activityRows(), [])
})

t.test('a full queue is counted, not thrown', async t => {
  const { app, database } = await build(t, { fake: { limit: 1 } })
  t.equal(database.log.reserve(), true)
  app.activity.record({ userId: 'ann', action: 'login' })
  t.strictSame(database.log.stats().dropped, { 'queue-full': 1 })
  database.log.release()
})

t.test('lists', async t => {
  const { app, database } = await build(t)
  t.strictSame(await app.activity.list({ userId: 'ann' }, { limit: 10 }), { items: [], next: null })
  t.strictSame(database.calls, [['listActivity', { userId: 'ann' }, { limit: 10 }]])
})

const view = { id: 's1', userId: 'ann' } as SessionView
const withSession = (app: FastifyInstance) => {
  app.decorateRequest(requestSession, null)
  app.addHook('onRequest', async request => { request[requestSession] = new RequestSession(view, null, 'cookie', 'secret') })
}

t.test('request.recordActivity: the user and the session of the request, from its address', async t => {
  const { app, database } = await build(t, { async before (app) { await app.register(ipTracking); withSession(app) } })
  app.get('/', async request => {
    request.recordActivity('looked')
    request.recordActivity('bought', { what: 'tea' })
    return {}
  })
  t.equal((await app.inject({ url: '/', remoteAddress: '::ffff:192.0.2.7' })).statusCode, 200)
  t.strictSame(await database.activityRows(), [
    { kind: 'activity', at: 5000, userId: 'ann', sessionId: 's1', action: 'looked', ip: '192.0.2.7', detail: null },
    { kind: 'activity', at: 5000, userId: 'ann', sessionId: 's1', action: 'bought', ip: '192.0.2.7', detail: '{"what":"tea"}' }
  ])
  const [row] = await database.ipRows()
  t.match(row, { sessionId: 's1', userId: 'ann' }, 'the request log knows whose request it was')
})

t.test('addresses are anonymised as in the request log', async t => {
  const { app, database } = await build(t, { async before (app) { await app.register(ipTracking, { anonymization: 'truncate' }) } })
  app.activity.record({ userId: 'ann', action: 'login', ip: '192.0.2.7' })
  t.equal((await database.activityRows())[0]?.ip, '192.0.2.0')
})

t.test('request.recordActivity: without IP tracking there is no address, without a session no user', async t => {
  const { app, database } = await build(t, { before: withSession })
  app.get('/', async request => request.recordActivity('looked'))
  await app.inject('/')
  t.equal((await database.activityRows())[0]?.ip, null)

  const other = await build(t)
  other.app.get('/', async request => request.recordActivity('looked'))
  t.match((await other.app.inject('/')).json(), { statusCode: 401, code: 'DOORMAN_SESSION_INVALID' })
})

/** The sessions plugin as far as it matters here: its events. */
function sessionsStub (): { events: SessionEvents, plugin: (app: FastifyInstance) => Promise<void> } {
  const events = createSessionEvents(() => {})
  return { events, plugin: fp(async (app: FastifyInstance) => { app.decorate('sessions', events as unknown as FastifyInstance['sessions']) }, { name: 'doorman-sessions' }) }
}

t.test('what happens to sessions is the trail', async t => {
  const { events, plugin } = sessionsStub()
  const { app, database } = await build(t, { async before (app) { await app.register(plugin) } })
  events.emit('session_created', 1, 'ann', 's1', { ip: '192.0.2.7', userAgent: 'x' })
  events.emit('session_renewed', 2, 'ann', 's1', { detail: { reauthenticated: false } })
  events.emit('session_renewed', 3, 'ann', 's1', { detail: { reauthenticated: true } })
  events.emit('session_client_changed', 4, 'ann', 's1', { ip: 'h_0123456789abcdef', detail: { changes: ['network'] } })
  events.emit('session_use_after_expire', 5, 'ann', 's1', { ip: 'no address', reason: 'idle' })
  events.emit('session_ended', 6, 'ann', 's1', { reason: 'revoked' })
  t.strictSame((await database.activityRows()).map(({ action, ip, detail }) => [action, ip, detail]), [
    ['login', '192.0.2.7', null],
    ['session_renewed', null, '{"reauthenticated":true}'],
    ['session_client_changed', 'h_0123456789abcdef', '{"changes":["network"]}'],
    ['session_use_after_expire', null, '{"reason":"idle"}'],
    ['session_ended', null, '{"reason":"revoked"}']
  ])
  await app.close()
  events.emit('session_ended', 7, 'ann', 's2', { reason: 'revoked' })
  t.strictSame(database.log.stats().dropped, {}, 'nothing is recorded after the close')
})

t.test('the trail of sessions can be left out', async t => {
  const { events, plugin } = sessionsStub()
  const { database } = await build(t, { options: { sessionEvents: false }, async before (app) { await app.register(plugin) } })
  events.emit('session_created', 1, 'ann', 's1')
  t.strictSame(await database.activityRows(), [])
})

t.test('wrong registrations fail at boot', async t => {
  const { app } = await build(t)
  await t.rejects(async () => await app.register(activity), { code: 'DOORMAN_ALREADY_REGISTERED' })
  const alone = Fastify()
  t.teardown(() => alone.close())
  await t.rejects(async () => await alone.register(activity), /doorman-database/)
  const typo = Fastify()
  t.teardown(() => typo.close())
  await typo.register(fakeDatabase().plugin)
  await t.rejects(async () => await typo.register(activity, { sessionEvent: true } as object), { code: 'DOORMAN_OPTION_UNKNOWN', message: /did you mean "sessionEvents"/ })
})
