/** R10 to R18: when a token is replaced, how long a session lives, and what is left of one that ended. */
import t from 'tap'
import { startApi } from '../routes/helper.js'
import { until } from '../helper.js'
import { eventsOf, HOUR, DAY, LIBRARY, MINUTE, registerSessions, runProgram, START, startApp, bearer } from './helper.js'

t.test('R10: each login gives a new token; after authenticating again the one before is dead at once', async t => {
  const { app, login, refusal, get } = await startApp(t, {
    routes: app => {
      app.post('/again', { config: { session: 'required' } }, async (request, reply) => {
        const { token, session } = await app.sessions.rotate(request.sessionToken!, { reauthenticated: true })
        app.setSessionCookie(reply, token, session)
        return { token }
      })
    }
  })
  const first = await login()
  const second = await login({ cookie: first.cookie })
  t.not(second.token, first.token)
  await app.sessions.remove(first.id) // the session before is the host's to end
  t.equal(await refusal(first.token), 'revoked')
  const again = await app.inject({ method: 'POST', url: '/again', headers: { cookie: second.cookie } })
  const third = again.json<{ token: string }>().token
  t.equal((await get('/private', { cookie: second.cookie })).statusCode, 401)
  t.equal(await refusal(second.token), 'rotated')
  t.equal(await refusal(third), null)
  const { token: fourth } = await app.sessions.rotate(third)
  t.strictSame([await refusal(third), await refusal(fourth)], ['rotated', null], 'the same when a host rotates for another reason')
  await t.rejects(app.sessions.rotate(fourth, { reauthenticated: true, grace: 1 }), { code: 'DOORMAN_VALUE_INVALID' }, 'there is no grace after a login')
})

t.test('R11: 1000 anonymous requests leave no session and no cookie', async t => {
  const { app, get, count } = await startApp(t, { activity: false })
  const urls = ['/', '/private', '/nowhere']
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => get(urls[i % 3]!)))
  t.strictSame([...new Set(replies.map(reply => reply.statusCode))].sort(), [200, 401, 404])
  t.strictSame(replies.filter(reply => reply.headers['set-cookie'] !== undefined), [])
  t.strictSame([await count('sessions'), await count('session_tombstones')], [0, 0])
  t.equal(app.sessions.stats().created, 0)
})

t.test('R12: the idle timeout is enforced at validation, to the millisecond, without any cleanup', async t => {
  for (const cleanup of [{ enabled: false }, false] as const) {
    const { app, login, refusal, time, count, get } = await startApp(t, { cleanup })
    t.equal(app.sessions.options.idleTimeout, DAY)
    const [used, unused] = [await login(), await login()]
    time.now = START + DAY - 1
    t.equal(await refusal(used.token), null, 'a millisecond before')
    time.now = START + DAY
    t.equal(await refusal(unused.token), 'idle')
    t.match((await get('/private', bearer(unused.token))).json(), { statusCode: 401, code: 'DOORMAN_SESSION_EXPIRED' })
    t.equal(await refusal(used.token), null, 'each use moves it')
    t.equal(await count('sessions'), 2, 'its row is still there')
  }
})

t.test('R13: the absolute lifetime is enforced, however busy the session is', async t => {
  const { login, refusal, time } = await startApp(t, { sessions: { idleTimeout: '10m', absoluteTimeout: '3h' } })
  const { token } = await login()
  for (time.now = START; time.now < START + 3 * HOUR; time.now += MINUTE) {
    if (await refusal(token) !== null) return t.fail(`refused after ${time.now - START} ms`)
  }
  time.now = START + 3 * HOUR - 1
  t.equal(await refusal(token), null)
  time.now++
  t.equal(await refusal(token), 'expired')
})

t.test('R14: authenticating again starts both clocks anew', async t => {
  const { app, login, refusal, time } = await startApp(t, { sessions: { idleTimeout: '1h', absoluteTimeout: '2h', freshness: '15m' } })
  const { token, id } = await login()
  time.now += HOUR - 1
  t.equal(await refusal(token), null)
  time.now += HOUR - 1
  const { token: next, session } = await app.sessions.rotate(token, { reauthenticated: true })
  t.match(session, { id, expiresAt: time.now + 2 * HOUR, idleExpiresAt: time.now + HOUR, authenticatedAt: time.now })
  t.ok(app.sessions.isFresh(session))
  time.now += HOUR - 1
  t.equal(await refusal(next), null)
  time.now += HOUR - 1
  t.equal(await refusal(next), null, 'well past the end it first had')
  const { session: rotated } = await app.sessions.rotate(next)
  t.equal(rotated.expiresAt, session.expiresAt, 'a new token alone moves nothing')
  t.notOk(app.sessions.isFresh(rotated))
})

t.test('R15: at renewal 20 parallel requests with the old token all pass, and one new token exists', async t => {
  const { app, login, time, count } = await startApp(t, { sessions: { renewAfter: '1h', renewGrace: '30s' } })
  const events = eventsOf(app)
  const { cookie, token, id } = await login()
  const base = await app.listen({ port: 0, host: '127.0.0.1' })
  const ask = async (cookie: string) => {
    const reply = await fetch(`${base}/private`, { headers: { cookie } })
    await reply.text()
    return { status: reply.status, setCookie: reply.headers.get('set-cookie') }
  }
  time.now += HOUR
  const replies = await Promise.all(Array.from({ length: 20 }, () => ask(cookie)))
  t.ok(replies.every(reply => reply.status === 200))
  const cookies = replies.map(reply => reply.setCookie).filter(text => text !== null)
  t.equal(cookies.length, 1)
  const next = cookies[0]!.split(';')[0]!
  t.equal(await count('sessions'), 1)
  time.now += 29_999
  t.match(await ask(cookie), { status: 200, setCookie: null }, 'within the grace, without another renewal')
  time.now++
  t.match(await ask(cookie), { status: 401, setCookie: null })
  const signals = () => events.filter(event => event.name === 'session_use_after_expire').map(({ reason, sessionId, userId, detail }) => ({ reason, sessionId, userId, detail }))
  t.strictSame(signals(), [{ reason: 'rotated', sessionId: id, userId: 'ada', detail: {} }], 'after the grace it is a signal')
  time.now++
  await ask(cookie)
  t.strictSame(signals()[1]!.detail, { reuse: true }, 'and later than that, nobody had it under way')
  t.match(await ask(next), { status: 200, setCookie: null })
  t.not(next, `sid=${token}`)
})

t.test('R15: where the host wants it, a replaced token that comes back ends the session, for whoever has the new one', async t => {
  const { app, login, refusal, time, count } = await startApp(t, { sessions: { tokenReuse: 'end', renewAfter: '1h', renewGrace: '30s' } })
  const { token, id } = await login()
  const other = await login()
  const { token: next } = await app.sessions.rotate(token)
  const events = eventsOf(app)
  time.now += 30_000
  t.strictSame([await refusal(token), await refusal(next)], ['rotated', null], 'within the grace it may have been under way')
  time.now++
  t.strictSame(await Promise.all(Array.from({ length: 10 }, () => refusal(token))).then(refusals => [...new Set(refusals)].sort()), ['reused', 'rotated'])
  t.strictSame([await refusal(next), await refusal(other.token)], ['reused', null], 'the whole session, and no other')
  t.strictSame(events.filter(({ name }) => name === 'session_ended').map(({ reason, sessionId }) => ({ reason, sessionId })), [{ reason: 'reused', sessionId: id }], 'once')
  t.equal(await count('sessions'), 1)
})

// SP 800-63B-4, 2.1.3, 2.2.3 and 2.3.3: at most this long overall, and unused.
const LEVELS = [
  { level: 'aal1', absoluteTimeout: 30 * DAY, idleTimeout: DAY, freshness: 15 * MINUTE },
  { level: 'aal2', absoluteTimeout: DAY, idleTimeout: HOUR, freshness: 15 * MINUTE },
  { level: 'aal3', absoluteTimeout: 12 * HOUR, idleTimeout: 15 * MINUTE, freshness: 5 * MINUTE }
] as const

t.test('R16: the timeouts of each assurance level can be set, and are kept', async t => {
  for (const { level, absoluteTimeout, idleTimeout, freshness } of LEVELS) {
    const { app, login, refusal, time, get } = await startApp(t, {
      sessions: { preset: level },
      routes: app => app.get('/fresh', { onRequest: app.requireFresh() }, async () => 'fresh')
    })
    t.match(app.sessions.options, { absoluteTimeout, idleTimeout, freshness }, level)
    const [used, unused] = [await login(), await login()]
    const isFresh = async () => (await get('/fresh', bearer(used.token))).statusCode
    time.now = START + freshness - 1
    t.equal(await isFresh(), 200, level)
    time.now++
    t.equal(await isFresh(), 403, level)
    time.now = START + idleTimeout
    t.equal(await refusal(unused.token), 'idle', level)
    for (time.now = START; time.now < START + absoluteTimeout; time.now += idleTimeout - 1) {
      if (await refusal(used.token) !== null) return t.fail(`${level}: refused after ${time.now - START} ms`)
    }
    time.now = START + absoluteTimeout
    t.equal(await refusal(used.token), 'expired', level)
  }
  const [{ level: _, ...aal1 }, aal2, aal3] = LEVELS
  const { app } = await startApp(t)
  t.match(app.sessions.options, { ...aal1, preset: null }, 'the defaults are those of AAL1')
  await t.rejects(registerSessions({ preset: 'aal2', idleTimeout: aal2.idleTimeout + 1 }), { code: 'DOORMAN_OPTION_INVALID', message: /idleTimeout/ }, 'looser than the level that is named')
  await t.rejects(registerSessions({ preset: 'aal3', absoluteTimeout: aal3.absoluteTimeout + 1 }), { code: 'DOORMAN_OPTION_INVALID', message: /absoluteTimeout/ })
  const api = await startApi(t, { SESSION_PRESET: 'aal3' })
  t.match(api.app.sessions.options, { preset: 'aal3', absoluteTimeout: aal3.absoluteTimeout, idleTimeout: aal3.idleTimeout, freshness: aal3.freshness }, 'in the standalone API')
})

t.test('R17: a session that ended is dead with the next request, also in another process', async t => {
  const { app, db, login, refusal } = await startApp(t, { database: { clock: Date.now } })
  const program = runProgram(t, `
    import Fastify from 'fastify'
    import { doorman } from ${LIBRARY}
    const app = Fastify()
    await app.register(doorman, { database: { url: ${JSON.stringify(db.url)} }, cleanup: { enabled: false } })
    app.get('/private', { config: { session: 'required' } }, async request => request.session.userId)
    console.log(await app.listen({ port: 0, host: '127.0.0.1' }))`)
  const base = await program.line()
  const elsewhere = async (token: string) => {
    const reply = await fetch(`${base}/private`, { headers: bearer(token) })
    await reply.text()
    return reply.status
  }
  const [one, two] = [await login(), await login()]
  for (const { token } of [one, two]) t.equal(await elsewhere(token), 200)
  await app.sessions.remove(one.id)
  t.equal(await elsewhere(one.token), 401)
  t.equal(await refusal(one.token), 'revoked')
  t.equal(await elsewhere(two.token), 200)
  const { token: next } = await app.sessions.rotate(two.token)
  t.strictSame([await elsewhere(two.token), await elsewhere(next)], [401, 200])
  await app.sessions.removeAll('ada')
  t.equal(await elsewhere(next), 401)
})

t.test('R17: a stream that was opened with a session ends with it', async t => {
  const { app, login } = await startApp(t, {
    routes: app => app.get('/events', { config: { session: 'required' } }, (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: hello\n\n')
      reply.endWithSession()
    })
  })
  const base = await app.listen({ port: 0, host: '127.0.0.1' })
  const open = async (token: string) => {
    const { body } = await fetch(`${base}/events`, { headers: bearer(token) })
    const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
    t.strictSame(await reader.read(), { done: false, value: 'data: hello\n\n' })
    return reader
  }
  const [mine, other] = [await login(), await login()]
  const [stream, others] = [await open(mine.token), await open(other.token)]
  await app.sessions.remove(mine.id)
  t.match(await stream.read(), { done: true }, 'without another request')
  t.equal(app.sessions.live.size, 1)
  await app.sessions.remove(other.id)
  t.match(await others.read(), { done: true })
  await until(() => app.sessions.live.size === 0, 'the other one to be forgotten')
})

t.test('R18: the use of an ended token is recognised as such, with its reason, and recorded', async t => {
  const { app, login, refusal, time } = await startApp(t, { sessions: { maxPerUser: 2 } })
  const revoked = await login({}, 'bob')
  const rotated = await login({}, 'bob')
  const evicted = await login({}, 'cy')
  time.now++ // the oldest one makes room
  await login({}, 'cy')
  await login({}, 'cy')
  const idle = await login({}, 'dora')
  await app.sessions.remove(revoked.id)
  await app.sessions.rotate(rotated.token)
  const events = eventsOf(app)
  t.strictSame([await refusal(revoked.token), await refusal(rotated.token), await refusal(evicted.token)], ['revoked', 'rotated', 'limit'])
  time.now += MINUTE
  t.equal(await refusal(rotated.token), 'rotated')
  time.now += DAY - MINUTE
  t.strictSame([await refusal(idle.token), await refusal(idle.token)], ['idle', 'idle'])
  const told = events.map(({ name, reason, sessionId, userId, ip, detail }) => ({ name, reason, sessionId, userId, ip, detail }))
  const use = { name: 'session_use_after_expire', ip: '127.0.0.1', detail: {} }
  t.strictSame(told, [
    { ...use, reason: 'revoked', sessionId: revoked.id, userId: 'bob' },
    { ...use, reason: 'rotated', sessionId: rotated.id, userId: 'bob' },
    { ...use, reason: 'limit', sessionId: evicted.id, userId: 'cy' },
    { ...use, reason: 'rotated', sessionId: rotated.id, userId: 'bob', detail: { reuse: true } },
    { ...use, name: 'session_expired', reason: 'idle', sessionId: idle.id, userId: 'dora' },
    { ...use, reason: 'idle', sessionId: idle.id, userId: 'dora' }
  ])
  await app.database.flush()
  const { items } = await app.activity.list({ action: 'session_use_after_expire' }, { limit: 10 })
  t.strictSame(items.map(item => item.sessionId).sort(), [revoked.id, rotated.id, rotated.id, evicted.id, idle.id].sort(), 'in the trail of the user')
  t.equal(await refusal('dm_' + 'A'.repeat(49)), 'malformed')
  t.equal(events.length, 6, 'a token that never was one is none of these')
})
