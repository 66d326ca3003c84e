/** R19 to R26: who may end which sessions, how many there may be, and what logging out does. */
import t from 'tap'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { newDatabase } from '../engine.js'
import { startApi } from '../routes/helper.js'
import { bearer, eventsOf, HTTPS, MINUTE, readCookie, startApp } from './helper.js'

t.test('R19: when an account is disabled all its sessions end, and no others', async t => {
  const { app, login, refusal } = await startApp(t)
  const tokens = [(await login()).token, (await login()).token, (await login()).token]
  const { token: next } = await app.sessions.rotate(tokens[2]!)
  const bob = await login({}, 'bob')
  t.equal(await app.sessions.removeAll('ada'), 3)
  t.strictSame(await Promise.all([...tokens, next].map(refusal)), ['revoked', 'revoked', 'rotated', 'revoked'])
  t.equal(await refusal(bob.token), null)
  t.strictSame((await app.sessions.list({ userId: 'ada' })).items, [])
  await t.rejects(app.sessions.removeAll(undefined as unknown as string), { code: 'DOORMAN_VALUE_INVALID' }, 'a name that got lost does not mean everybody')
})

t.test('R20: after the change of a factor all other sessions of the user can be ended', async t => {
  const { login, as } = await startApi(t)
  const [mine, ...others] = [await login(), await login(), await login()]
  const bob = await login('bob')
  t.same((await as(mine!.token, 'DELETE', '/sessions?except=current')).body, { ended: 2 })
  const statuses = await Promise.all([mine!, ...others, bob].map(async ({ token }) => (await as(token, 'GET', '/session')).status))
  t.strictSame(statuses, [200, 401, 401, 200])
})

t.test('R21: an administrator ends one session, all of a user, all of everybody', async t => {
  const { app, login, as, admin, send } = await startApi(t)
  const [a1, a2, a3, bob, cy] = [await login(), await login(), await login(), await login('bob'), await login('cy')]
  const live = async () => Promise.all([a1, a2, a3, bob, cy].map(async ({ token }) => (await as(token, 'GET', '/session')).status === 200))
  t.equal((await send('DELETE', `/admin/sessions/${a1.session.id}`)).status, 401, 'not without a key')
  t.equal((await as(a2.token, 'DELETE', `/admin/sessions/${bob.session.id}`)).status, 401, 'nor with a session')
  t.strictSame(await live(), [true, true, true, true, true])
  t.equal((await admin('DELETE', `/admin/sessions/${a1.session.id}`)).status, 204)
  t.strictSame(await live(), [false, true, true, true, true])
  t.same((await admin('DELETE', '/admin/users/alice/sessions')).body, { ended: 2 })
  t.strictSame(await live(), [false, false, false, true, true])
  t.equal(await app.sessions.removeEverybody(), 2)
  t.strictSame(await live(), [false, false, false, false, false])
})

t.test('R22: users always see their sessions, and end them with a recent login only', async t => {
  const { login, as, advance } = await startApi(t)
  const stale = await login()
  advance(1)
  const other = await login()
  advance(15 * MINUTE)
  const list = await as(stale.token, 'GET', '/sessions')
  t.equal(list.status, 200)
  t.strictSame(list.body.items.map((item: { id: string, current: boolean }) => [item.id, item.current]), [[other.session.id, false], [stale.session.id, true]])
  for (const url of [`/sessions/${other.session.id}`, '/sessions', '/sessions?except=current']) {
    t.match((await as(stale.token, 'DELETE', url)).body, { statusCode: 403, code: 'DOORMAN_SESSION_NOT_FRESH' }, url)
  }
  const fresh = await login()
  t.equal((await as(fresh.token, 'DELETE', `/sessions/${other.session.id}`)).status, 204)
  t.equal((await as(other.token, 'GET', '/session')).status, 401)
  t.same((await as(fresh.token, 'DELETE', '/sessions')).body, { ended: 2 })
})

t.test('R23: somebody else\'s session is answered like one that never was, and stays', async t => {
  const { login, as } = await startApi(t)
  const [mine, foreign] = [await login(), await login('bob')]
  const never = foreign.session.id.replace(/.$/, last => last === 'a' ? 'b' : 'a')
  const replies = [await as(mine.token, 'DELETE', `/sessions/${foreign.session.id}`), await as(mine.token, 'DELETE', `/sessions/${never}`)]
  const [theirs, nobodys] = replies.map(({ status, reply, headers: { date, ...headers } }) => ({ status, body: reply.body, headers }))
  t.strictSame(theirs, nobodys)
  t.match(theirs, { status: 404, body: /DOORMAN_SESSION_NOT_FOUND/ })
  t.equal((await as(foreign.token, 'GET', '/session')).status, 200)
  t.strictSame((await as(mine.token, 'GET', '/sessions')).body.items.map((item: { userId: string }) => item.userId), ['alice'])
  t.equal((await as(mine.token, 'GET', '/sessions?userId=bob')).status, 400)
})

t.test('R24: a route can demand a recent login; only authenticating again makes one', async t => {
  const { app, login, get, time } = await startApp(t, {
    routes: app => {
      app.get('/email', { config: { session: { fresh: '5m' } } }, async () => 'changed')
      app.get('/transfer', { onRequest: app.requireFresh('1m') }, async () => 'sent')
    }
  })
  const { token, cookie } = await login()
  const ask = async (url: string, token: string) => (await get(url, bearer(token))).statusCode
  t.strictSame([await ask('/email', token), await ask('/transfer', token)], [200, 200])
  time.now += MINUTE
  t.strictSame([await ask('/email', token), await ask('/transfer', token)], [200, 403])
  time.now += 4 * MINUTE
  t.match((await get('/email', { cookie })).json(), { statusCode: 403, code: 'DOORMAN_SESSION_NOT_FRESH' })
  t.equal(await ask('/private', token), 200, 'the session itself is as good as before')
  const { token: rotated } = await app.sessions.rotate(token)
  t.equal(await ask('/email', rotated), 403, 'a new token is no login')
  const { token: again } = await app.sessions.rotate(rotated, { reauthenticated: true })
  t.strictSame([await ask('/email', again), await ask('/transfer', again)], [200, 200])
  t.equal((await get('/email')).statusCode, 401)
})

t.test('R25: the limit of sessions holds under parallel logins of two instances, with each policy', async t => {
  for (const limitPolicy of ['reject', 'evict-oldest', 'evict-idle'] as const) {
    await t.test(limitPolicy, async t => {
      const db = await newDatabase(t)
      const sessions = { maxPerUser: 3, limitPolicy }
      const apps = [await startApp(t, { sessions, on: db }), await startApp(t, { sessions, on: db })]
      const { count } = apps[0]!
      let most = 0
      const watching = new AbortController()
      const watch = (async () => {
        while (!watching.signal.aborted) {
          most = Math.max(most, await count('sessions'))
          await nextTurn()
        }
      })()
      const results = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => apps[i % 2]!.app.sessions.create({ userId: 'ada' })))
      watching.abort()
      await watch
      const refused = results.filter(result => result.status === 'rejected').map(result => (result.reason as { code: string }).code)
      t.strictSame(refused, limitPolicy === 'reject' ? new Array(37).fill('DOORMAN_SESSION_LIMIT') : [])
      t.equal(await count('sessions'), 3)
      t.ok(most <= 3, `never more than ${most}`)
    })
  }
})

t.test('R25: which session makes room is said by the policy, and told', async t => {
  for (const [limitPolicy, gone] of [['evict-oldest', 0], ['evict-idle', 1]] as const) {
    const { app, login, refusal, time } = await startApp(t, { sessions: { maxPerUser: 3, limitPolicy } })
    const events = eventsOf(app)
    const logins = []
    for (let i = 0; i < 3; i++) {
      logins.push(await login())
      time.now += 2 * MINUTE
    }
    await refusal(logins[0]!.token) // used after the second one was
    await app.database.flush()
    await login()
    t.strictSame(await Promise.all(logins.map(({ token }) => refusal(token))), [0, 1, 2].map(i => i === gone ? 'limit' : null), limitPolicy)
    t.match(events.filter(event => /excess|ended/.test(event.name)), [{ name: 'excess_sessions_exceeded', userId: 'ada' }, { name: 'session_ended', reason: 'limit', sessionId: logins[gone]!.id }])
  }
})

t.test('R26: logging out ends the session, clears the cookie with its own attributes, and forbids caching', async t => {
  const { send, login, admin } = await startApi(t, { TRUST_PROXY: 'loopback' })
  for (const url of ['/session', '/sessions', '/sessions/own']) {
    const { token, session } = await login()
    const cookie = `__Host-sid=${token}`
    const set = readCookie((await send('POST', '/session/rotate', undefined, { ...HTTPS, cookie })).headers['set-cookie'])
    const out = await send('DELETE', url.replace('own', session.id), undefined, { ...HTTPS, cookie: `${set.name}=${set.value}` })
    t.ok(out.status < 300, url)
    const cleared = readCookie(out.headers['set-cookie'])
    const { 'max-age': _, ...lasting } = set.attributes
    const { 'max-age': maxAge, expires, ...clearing } = cleared.attributes
    t.strictSame({ name: cleared.name, value: cleared.value, maxAge, expires, clearing }, { name: '__Host-sid', value: '', maxAge: '0', expires: 'thu, 01 jan 1970 00:00:00 gmt', clearing: lasting })
    t.equal(out.headers['cache-control'], 'no-store')
    t.equal((await send('GET', '/session', undefined, { ...HTTPS, cookie: `${set.name}=${set.value}` })).status, 401)
    t.match((await admin('POST', '/admin/sessions/introspect', { token: set.value })).body, { active: false, reason: 'revoked' })
  }
})

t.test('R26: where the host wants it, the browser is told to forget what it keeps of the site', async t => {
  const logout = async (clearSiteData: boolean | undefined, headers: Record<string, string>) => {
    const { app, login } = await startApp(t, {
      sessions: clearSiteData === undefined ? {} : { cookie: { clearSiteData } },
      routes: app => app.post('/logout', { config: { session: 'required' } }, async (request, reply) => {
        await app.sessions.remove(request.session!.id)
        app.clearSessionCookie(reply)
      })
    })
    const { cookie } = await login(headers)
    const reply = await app.inject({ method: 'POST', url: '/logout', headers: { ...headers, cookie } })
    t.match(reply.headers['set-cookie'], /Max-Age=0/)
    t.equal(reply.headers['cache-control'], 'no-store')
    return reply.headers['clear-site-data']
  }
  t.equal(await logout(true, HTTPS), '"cookies", "storage", "cache"')
  t.equal(await logout(true, {}), undefined, 'browsers heed it over HTTPS only')
  t.equal(await logout(undefined, HTTPS), undefined, 'by default the host sends it or not')
})
