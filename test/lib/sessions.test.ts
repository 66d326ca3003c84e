/** The session service, on a storage and a clock of the test. */
import t from 'tap'
import { inspect } from 'node:util'
import { createAnonymizer } from '../../lib/anonymizer.js'
import type { SessionEvent } from '../../lib/session-events.js'
import { SESSION_EVENTS } from '../../lib/session-events.js'
import { resolveSessionOptions, type SessionOptions } from '../../lib/session-options.js'
import type { Validation } from '../../lib/session-types.js'
import { createSessions, type SessionsDependencies } from '../../lib/sessions.js'
import { hashToken } from '../../lib/token.js'
import { createFakeStorage, createManualQueue, type ManualQueue } from '../fake-storage.js'

const START = Date.UTC(2026, 10, 23, 12)
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const FIREFOX = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0'
const LINUX = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'

function setUp (options: SessionOptions = {}, more: Partial<SessionsDependencies> = {}) {
  const storage = createFakeStorage()
  const time = { now: START }
  let queue!: ManualQueue
  const sessions = createSessions({
    storage,
    clock: () => time.now,
    options: resolveSessionOptions(options),
    createQueue: commit => (queue = createManualQueue(commit)),
    onListenerError: error => { throw error },
    ...more
  })
  const events: SessionEvent[] = []
  for (const name of SESSION_EVENTS) sessions.on(name, event => events.push(event))
  const login = async (userId = 'ada', client: object = {}) => (await sessions.create({ userId, ...client }))
  return { storage, time, queue, sessions, events, login, names: () => events.map(({ name }) => name) }
}

const reasonOf = (validation: Validation) => validation.valid ? 'valid' : validation.reason

t.test('create: a session with all its facts, and a token that is only here', async t => {
  const { sessions, storage, events } = setUp()
  const { token, session } = await sessions.create({ userId: 'ada', data: { theme: 'dark' }, ip: '::ffff:192.0.2.1', userAgent: FIREFOX })
  t.match(token, /^dm_/)
  t.match(session.id, /^s_/)
  t.same(session, {
    id: session.id,
    userId: 'ada',
    createdAt: START,
    lastActiveAt: START,
    idleExpiresAt: START + DAY,
    expiresAt: START + 30 * DAY,
    authenticatedAt: START,
    ip: '192.0.2.1',
    lastIp: '192.0.2.1',
    userAgent: FIREFOX,
    device: 'Firefox on Windows',
    flagged: false,
    data: { theme: 'dark' }
  })
  t.same([...storage.live.keys()], [hashToken(token)], 'stored by its hash')
  const secret = token.slice(3, 46)
  for (const text of [JSON.stringify([...storage.live]), inspect(sessions, { depth: 5 }), JSON.stringify(session), JSON.stringify(events)]) t.notMatch(text, secret, 'R2, R8')
  t.match(events, [{ name: 'session_created', at: START, userId: 'ada', sessionId: session.id, ip: '192.0.2.1', userAgent: FIREFOX }])
  t.equal(sessions.stats().created, 1)
})

t.test('create: minimal, and what is refused', async t => {
  const { sessions, storage } = setUp({ dataLimit: 10 })
  t.match((await sessions.create({ userId: 'ada' })).session, { ip: null, userAgent: null, device: null, data: {} })
  for (const wrong of [{ userId: '' }, { userId: 'a', ip: 'x' }, { userId: 'a', data: { key: 'too long' } }, { userId: 'a', userAgent: 1 as unknown as string }]) {
    await t.rejects(sessions.create(wrong), { code: 'DOORMAN_VALUE_INVALID' })
  }
  t.equal(storage.live.size, 1)
  storage.failing['createSession'] = Object.assign(new Error('locked'), { code: 'DOORMAN_STORAGE_BUSY' })
  await t.rejects(sessions.create({ userId: 'ada' }), { code: 'DOORMAN_STORAGE_BUSY' })
  t.equal(sessions.stats().created, 1)
})

t.test('create: addresses are anonymised before they are stored or looked for', async t => {
  const { sessions, storage } = setUp({}, { storedAddress: address => address.replace(/\d+$/, '0') })
  const { token, session } = await sessions.create({ userId: 'ada', ip: '192.0.2.77' })
  t.equal(session.ip, '192.0.2.0')
  t.match(await sessions.validate(token, { ip: '192.0.2.99', userAgent: '' }), { valid: true, session: { flagged: false } })
  t.notMatch(JSON.stringify([...storage.live]), '192.0.2.77')
  t.equal((await sessions.list({ ip: '192.0.2.1' })).items.length, 1)
})

t.test('validate: synchronous where the storage is, and never asks it about junk', async t => {
  const { sessions, storage, login } = setUp()
  const { token, session } = await login()
  t.same(sessions.validate(token), { valid: true, session, state: 'live', renewalDue: false })
  t.equal(storage.calls['findSession'], 1)
  t.same(sessions.validate(undefined), { valid: false, reason: 'missing' })
  for (const junk of ['', 'x'.repeat(1_000_000), 'dm_\0', "' OR 1=1--", ['a'] as unknown as string, token.slice(0, -1)]) t.same(sessions.validate(junk), { valid: false, reason: 'malformed' })
  t.equal(storage.calls['findSession'], 1, 'R6')
  const stranger = (await setUp().login()).token
  t.same(sessions.validate(stranger), { valid: false, reason: 'unknown' })
  t.match(sessions.stats().refused, { missing: 1, malformed: 6, unknown: 1, idle: 0 })
  storage.asynchronous = true
  const promise = sessions.validate(token)
  t.type(promise, Promise)
  t.match(await promise, { valid: true })
})

t.test('a use that was stored while its session was read is neither lost nor told twice', async t => {
  const { sessions, storage, login, time, queue, events } = setUp({ clientChange: 'flag' })
  const { token, session } = await login('ada', { ip: '192.0.2.1' })
  const { findSession, getSession, listSessions } = storage
  /** Reads, then stores what waits, then answers with what was read before that. */
  const outrun = <A extends unknown[], T>(read: (...args: A) => T | Promise<T>) => async (...args: A): Promise<T> => {
    const found = await read(...args)
    await queue.flush()
    return found
  }
  const reads = {
    validate: async () => { const result = await sessions.validate(token); return result.valid ? result.session : result },
    info: async () => await sessions.info(session.id),
    list: async () => (await sessions.list()).items[0]
  }
  for (const [name, read] of Object.entries(reads)) {
    Object.assign(storage, { findSession: outrun(findSession), getSession: outrun(getSession), listSessions: outrun(listSessions) })
    time.now += 22 * HOUR
    sessions.touch({ ...session, lastActiveAt: 0 })
    const used = time.now
    time.now += 1.5 * HOUR
    t.match(await read(), { id: session.id, lastActiveAt: used }, name)
    t.equal(sessions.stats().pendingTouches, 0, 'stored and seen: forgotten')
    t.match(await read(), { id: session.id, lastActiveAt: used })
  }

  t.match(await sessions.validate(token, { ip: '203.0.113.9', userAgent: null }), { valid: true, session: { flagged: true } })
  t.match(await sessions.validate(token, { ip: '203.0.113.9', userAgent: null }), { valid: true, session: { flagged: true } })
  t.equal(events.filter(({ name }) => name === 'session_client_changed').length, 1, 'a change of the client is told once')

  time.now += DAY
  t.same([await reads.list(), await reads.info()], [undefined, null], 'idle it is')
  t.match(await reads.validate(), { valid: false, reason: 'idle' })
})

t.test('R42: validate fails closed', async t => {
  const { sessions, storage, login } = setUp()
  const { token } = await login()
  const cause = new Error('SELECT * FROM secrets')
  storage.failing['findSession'] = cause
  t.throws(() => sessions.validate(token), { code: 'DOORMAN_SESSION_UNAVAILABLE', statusCode: 503, cause })
  storage.asynchronous = true
  await t.rejects(Promise.resolve(sessions.validate(token)), { code: 'DOORMAN_SESSION_UNAVAILABLE', cause })
})

t.test('R12: idle timeout to the millisecond, without any cleanup', async t => {
  const { sessions, time, login, names } = setUp()
  const { token, session } = await login()
  time.now = START + DAY - 1
  t.equal(reasonOf(await sessions.validate(token)), 'valid')
  time.now++
  t.same(await sessions.validate(token), { valid: false, reason: 'idle', at: START + DAY, sessionId: session.id, userId: 'ada' })
  t.equal(await sessions.info(session.id), null)
  t.same((await sessions.list()).items, [])
  await t.rejects(sessions.rotate(token), { code: 'DOORMAN_SESSION_INVALID' })
  await t.rejects(sessions.update(session.id, {}), { code: 'DOORMAN_SESSION_NOT_FOUND' })
  await sessions.validate(token)
  t.same(names(), ['session_created', 'session_expired', 'session_use_after_expire'], 'told once, then as a use after that')
})

t.test('R13: absolute timeout, which activity never moves', async t => {
  const { sessions, time, login } = setUp({ absoluteTimeout: '25h' })
  const { token } = await login()
  while (time.now < START + 25 * HOUR - 1) {
    const validation = await sessions.validate(token)
    if (!validation.valid) return t.fail(validation.reason)
    sessions.touch(validation.session)
    time.now = Math.min(time.now + HOUR, START + 25 * HOUR - 1)
  }
  t.match(await sessions.validate(token), { valid: true, session: { idleExpiresAt: START + 25 * HOUR } })
  time.now++
  t.match(await sessions.validate(token), { valid: false, reason: 'expired', at: START + 25 * HOUR })
  t.equal(sessions.stats().refused.expired, 1)
})

t.test('many sessions that timed out do not fill the memory', async t => {
  const { sessions, time, names, login } = setUp()
  const first = await login()
  const tokens: string[] = []
  for (let i = 0; i < 10_000; i++) tokens.push((await login(`u${i}`)).token)
  time.now += DAY
  sessions.validate(first.token)
  for (const token of tokens) sessions.validate(token)
  sessions.validate(first.token)
  t.equal(names().filter(name => name === 'session_expired').length, 10_002, 'the first is told again: it was forgotten')
})

t.test('touch: written once per interval, seen at once', async t => {
  const { sessions, storage, time, queue, login } = setUp()
  const { token, session } = await login('ada', { ip: '192.0.2.1' })
  time.now = START + MINUTE - 1
  sessions.touch(session)
  t.equal(queue.rows.length, 0, 'too soon')
  time.now++
  const again = await sessions.info(session.id)
  sessions.touch(session, { ip: '192.0.2.2', userAgent: FIREFOX })
  t.match(session, { lastActiveAt: START + MINUTE, idleExpiresAt: START + MINUTE + DAY, lastIp: '192.0.2.2' })
  sessions.touch(again!)
  t.equal(queue.rows.length, 1, 'parallel requests of one session are one write')
  t.match(await sessions.info(session.id), { lastActiveAt: START + MINUTE, lastIp: '192.0.2.2' }, 'seen before it is stored')
  t.match((await sessions.list()).items, [{ lastActiveAt: START + MINUTE }])
  t.equal(sessions.stats().pendingTouches, 1)
  t.notOk('touchSessions' in storage.calls)
  await queue.flush()
  t.equal(sessions.stats().pendingTouches, 0)
  t.match(await sessions.validate(token), { session: { lastActiveAt: START + MINUTE, lastIp: '192.0.2.2' } })
  t.match([...storage.live.values()], [{ lastActiveAt: START + MINUTE, lastUserAgent: FIREFOX }])
})

t.test('a session in use stays alive while its uses cannot be written', async t => {
  const { sessions, storage, time, login, queue } = setUp()
  const { token, session } = await login()
  const { session: unused } = await login('ada')
  time.now = START + DAY - MINUTE
  sessions.touch(session)
  time.now = START + DAY + HOUR
  t.equal(reasonOf(await sessions.validate(token)), 'valid')
  t.match(await sessions.info(session.id), { lastActiveAt: START + DAY - MINUTE })
  t.same((await sessions.list({ userId: 'ada' })).items.map(({ id }) => id), [session.id], 'and nothing that was not used')
  t.equal(await sessions.info(unused.id), null)
  t.match([...storage.live.values()], [{ lastActiveAt: START }, {}])
  await queue.flush()
  t.equal(reasonOf(await sessions.validate(token)), 'valid')
})

t.test('R10, R14: rotation makes the old token useless at once; a new login starts both clocks anew', async t => {
  const { sessions, time, login, events } = setUp()
  const first = await login()
  time.now += HOUR
  const second = await sessions.rotate(first.token)
  t.not(second.token, first.token)
  t.same(second.session, { ...first.session, lastActiveAt: time.now, idleExpiresAt: time.now + DAY })
  t.match(await sessions.validate(first.token), { valid: false, reason: 'rotated', at: time.now, sessionId: first.session.id })
  t.match(events.at(-1), { name: 'session_use_after_expire', reason: 'rotated' }, 'R18')
  t.match(await sessions.validate(second.token), { valid: true, session: second.session })

  time.now += HOUR
  const third = await sessions.rotate(second.token, { reauthenticated: true })
  t.match(third.session, { id: first.session.id, createdAt: START, authenticatedAt: time.now, expiresAt: time.now + 30 * DAY, idleExpiresAt: time.now + DAY })
  t.same(await sessions.info(first.session.id), third.session)
  t.match(await sessions.validate(second.token), { valid: false, reason: 'rotated' })
  t.match(events.filter(({ name }) => name === 'session_renewed').map(({ detail }) => detail), [{ reauthenticated: false }, { reauthenticated: true }])
  t.equal(sessions.stats().renewed, 2)
})

t.test('rotation: with grace, and what is refused', async t => {
  const { sessions, time, login } = setUp()
  const { token, session } = await login()
  await t.rejects(sessions.rotate(token, { grace: 1000, reauthenticated: true }), { code: 'DOORMAN_VALUE_INVALID' })
  await t.rejects(sessions.rotate(token, { grace: -1 }), { code: 'DOORMAN_VALUE_INVALID' })
  await t.rejects(sessions.rotate('junk'), { code: 'DOORMAN_SESSION_INVALID' })
  const second = await sessions.rotate(token, { grace: 1000 })
  t.match(await sessions.validate(token), { valid: true, state: 'grace', session: { id: session.id } })
  await t.rejects(sessions.rotate(token), { code: 'DOORMAN_SESSION_INVALID' }, 'a token in its grace opens the session, but cannot change it')
  time.now += 999
  t.equal(reasonOf(await sessions.validate(token)), 'valid')
  time.now++
  t.equal(reasonOf(await sessions.validate(token)), 'rotated')
  const winners = await Promise.allSettled(Array.from({ length: 5 }, () => sessions.rotate(second.token)))
  t.equal(winners.filter(({ status }) => status === 'fulfilled').length, 1, 'of parallel rotations one wins')
})

t.test('a new login ends the grace of earlier tokens too', async t => {
  const { sessions, login } = setUp()
  const { token } = await login()
  const second = await sessions.rotate(token, { grace: 30_000 })
  await sessions.rotate(second.token, { reauthenticated: true })
  t.equal(reasonOf(await sessions.validate(token)), 'rotated')
})

t.test('R15: renewal, once among parallel requests', async t => {
  const { sessions, time, login, storage } = setUp({ renewAfter: '1h' })
  const { token } = await login()
  time.now = START + HOUR - 1
  t.match(await sessions.validate(token), { valid: true, renewalDue: false })
  time.now++
  const validations = await Promise.all(Array.from({ length: 20 }, () => sessions.validate(token)))
  const renewed = await Promise.all(validations.map(validation => {
    t.match(validation, { valid: true, state: 'live', renewalDue: true })
    return validation.valid ? sessions.renew(token, validation.session) : null
  }))
  const issued = renewed.filter(one => one !== null)
  t.equal(issued.length, 1)
  t.equal(storage.calls['rotateSession'], 1, 'the others did not even ask')
  t.match(await sessions.validate(token), { valid: true, state: 'grace', renewalDue: false })
  t.match(await sessions.validate(issued[0]!.token), { valid: true, state: 'live', renewalDue: false })
  const validation = await sessions.validate(token)
  t.equal(validation.valid && await sessions.renew(token, validation.session), null, 'as if another process had been first')
  time.now += 30_000
  t.equal(reasonOf(await sessions.validate(token)), 'rotated')

  storage.failing['rotateSession'] = new Error('locked')
  await t.rejects(sessions.renew(issued[0]!.token, issued[0]!.session), { message: 'locked' })
  delete storage.failing['rotateSession']
  time.now += 4999
  t.equal(await sessions.renew(issued[0]!.token, issued[0]!.session), null, 'left alone for a while')
  t.equal(storage.calls['rotateSession'], 3)
  time.now++
  t.ok(await sessions.renew(issued[0]!.token, issued[0]!.session), 'a failure does not stand in the way of a later one')
})

t.test('renewal: a short wait, which other rotations do not have, and a pause that a clock set back does not stretch', async t => {
  const { sessions, time, login, storage } = setUp({ renewAfter: '1h' })
  const { token, session } = await login()
  const waits: unknown[] = []
  const { rotateSession } = storage
  storage.rotateSession = params => {
    waits.push(params.wait)
    return rotateSession(params)
  }
  storage.failing['rotateSession'] = new Error('locked')
  await t.rejects(sessions.renew(token, session))
  delete storage.failing['rotateSession']
  time.now -= HOUR
  const renewed = await sessions.renew(token, session)
  await sessions.rotate(renewed!.token)
  t.same(waits, [100, 100, undefined])
})

t.test('R23: a value that got lost on the way never widens what is ended or shown', async t => {
  const { sessions, login, storage } = setUp()
  const { session } = await login()
  await login('bob')
  const lost = undefined as unknown as string
  const refused = { code: 'DOORMAN_VALUE_INVALID', statusCode: 400 }
  await t.rejects(sessions.remove(session.id, { userId: lost }), refused)
  await t.rejects(sessions.remove(session.id, {} as { userId: string }), refused)
  await t.rejects(sessions.remove(lost), refused)
  await t.rejects(sessions.removeOthers('ada', lost), refused)
  await t.rejects(sessions.removeOthers('ada', ''), refused)
  await t.rejects(sessions.removeOthers(lost, session.id), refused)
  await t.rejects(sessions.removeAll(lost), refused)
  await t.rejects(sessions.list({ userId: lost }), refused)
  await t.rejects(sessions.list({ ip: lost }), refused)
  await t.rejects(sessions.list({ ip: null as unknown as string }), refused)
  await t.rejects(sessions.info(lost), refused)
  await t.rejects(sessions.update(lost, {}), refused)
  t.equal(storage.live.size, 2)
  t.same([storage.calls['endSessions'], storage.calls['listSessions'], storage.calls['getSession']], [undefined, undefined, undefined], 'the storage was not even asked')
})

t.test('R17, R19 to R21: ending one, others, all of a user, everybody', async t => {
  const { sessions, events, login } = setUp()
  const ada = [await login(), await login(), await login()] as const
  const bob = await login('bob')
  const states = async () => (await Promise.all([...ada, bob].map(async ({ token }) => reasonOf(await sessions.validate(token))))).join()
  t.equal(await sessions.remove(bob.session.id, { userId: 'ada' }), false, 'R23: not somebody else\'s')
  t.equal(await sessions.remove('s_none'), false)
  t.equal(await sessions.remove(ada[0].session.id, { userId: 'ada' }), true)
  t.equal(await sessions.remove(ada[0].session.id), false)
  t.equal(await states(), 'revoked,valid,valid,valid')
  t.equal(await sessions.removeOthers('ada', ada[1].session.id), 1)
  t.equal(await states(), 'revoked,valid,revoked,valid')
  t.equal(await sessions.removeAll('ada'), 1)
  t.equal(await states(), 'revoked,revoked,revoked,valid')
  t.equal(await sessions.removeEverybody(), 1)
  t.equal(await states(), 'revoked,revoked,revoked,revoked')
  t.match(events.filter(({ name }) => name === 'session_ended').map(({ userId, reason }) => `${userId} ${reason}`), ['ada revoked', 'ada revoked', 'ada revoked', 'bob revoked'])
  t.match(events.at(-1), { name: 'session_use_after_expire', reason: 'revoked' })
  t.equal(sessions.stats().ended.revoked, 4)
  await t.rejects(sessions.removeAll(''), { code: 'DOORMAN_VALUE_INVALID' })
  await t.rejects(sessions.removeOthers('', 'x'), { code: 'DOORMAN_VALUE_INVALID' })
  await t.rejects(sessions.remove('x', { userId: '' }), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('R25: a limit of sessions per user, with each policy', async t => {
  for (const [limitPolicy, victim] of [['evict-oldest', 0], ['evict-idle', 1]] as const) {
    const { sessions, time, login, queue, events, names } = setUp({ maxPerUser: 3, limitPolicy })
    const issued: Awaited<ReturnType<typeof login>>[] = []
    for (let i = 0; i < 3; i++) {
      issued.push(await login())
      time.now += MINUTE
    }
    await login('bob')
    sessions.touch(issued[0]!.session)
    await queue.flush()
    const fourth = await login('ada', { ip: '192.0.2.1' })
    const reasons = await Promise.all(issued.map(async ({ token }) => reasonOf(await sessions.validate(token))))
    t.same(reasons, [0, 1, 2].map(i => i === victim ? 'limit' : 'valid'), limitPolicy)
    t.match(events.filter(({ name }) => name === 'excess_sessions_exceeded'), [{ sessionId: fourth.session.id, ip: '192.0.2.1', detail: { max: 3, policy: limitPolicy } }])
    t.ok(names().includes('session_ended'))
    t.equal(sessions.stats().ended.limit, 1)
  }
  const { sessions, time, login, events } = setUp({ maxPerUser: 3, limitPolicy: 'reject' })
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => login()))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 3, 'parallel logins never exceed it')
  await t.rejects(login(), { code: 'DOORMAN_SESSION_LIMIT', statusCode: 409, message: /\(3\)/ })
  t.match(events.at(-1), { name: 'excess_sessions_exceeded', userId: 'ada', sessionId: null, detail: { max: 3, policy: 'reject' } })
  time.now += DAY
  t.ok(await login(), 'sessions that timed out do not count')
  t.equal(sessions.stats().created, 4)
})

t.test('R24: freshness', async t => {
  const { sessions, time, login } = setUp({ freshness: '10m' })
  const { session } = await login()
  time.now = START + 10 * MINUTE - 1
  t.ok(sessions.isFresh(session))
  t.notOk(sessions.isFresh(session, '5m'))
  time.now++
  t.notOk(sessions.isFresh(session))
  t.ok(sessions.isFresh(session, 10 * MINUTE + 1))
  t.throws(() => sessions.isFresh(session, 'soon'), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('update: replaces the data, committed', async t => {
  const { sessions, login, storage } = setUp()
  const { token, session } = await sessions.create({ userId: 'ada', data: { a: 1 } })
  const data = { b: [2] }
  const updated = await sessions.update(session.id, data)
  t.same(updated, { ...session, data: { b: [2] } })
  data.b.push(3)
  t.match(await sessions.validate(token), { session: { data: { b: [2] } } }, 'no reference is shared')
  await t.rejects(sessions.update(session.id, { a: () => 1 }), { code: 'DOORMAN_VALUE_INVALID' })
  await t.rejects(sessions.update('s_none', {}), { code: 'DOORMAN_SESSION_NOT_FOUND' })
  const other = await login()
  storage.updateSessionData = async () => false
  await t.rejects(sessions.update(other.session.id, {}), { code: 'DOORMAN_SESSION_NOT_FOUND' }, 'ended in between')
})

t.test('list: by user and address, page by page', async t => {
  const { sessions, time, login } = setUp()
  for (let i = 0; i < 3; i++) {
    await login('ada', { ip: `192.0.2.${i}` })
    time.now++
  }
  await login('bob', { ip: '192.0.2.0' })
  const first = await sessions.list({ userId: 'ada', limit: 2 })
  t.same(first.items.map(({ ip }) => ip), ['192.0.2.2', '192.0.2.1'])
  const second = await sessions.list({ userId: 'ada', limit: 2, after: first.next! })
  t.same(second.items.map(({ ip }) => ip), ['192.0.2.0'])
  t.equal(second.next, null)
  t.same((await sessions.list({ ip: '::ffff:192.0.2.0' })).items.map(({ userId }) => userId), ['bob', 'ada'])
  for (const wrong of [{ limit: 0 }, { limit: 501 }, { ip: 'x' }, { userId: '' }, { after: [] }, { after: ['1', 's_x'] }, { after: [1] }]) await t.rejects(sessions.list(wrong), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('R41: a changed client is flagged and reported once', async t => {
  const { sessions, login, events, queue, storage } = setUp()
  const { token } = await login('ada', { ip: '192.0.2.1', userAgent: FIREFOX })
  const use = (ip: string | null, userAgent: string) => sessions.validate(token, { ip, userAgent })
  t.match(await use('192.0.2.1', FIREFOX), { valid: true, session: { flagged: false } })
  t.match(await use('192.0.2.9', FIREFOX.replaceAll('128', '129')), { valid: true, session: { flagged: false } })
  t.match(await use('198.51.100.1', LINUX), { valid: true, session: { flagged: true, lastIp: '198.51.100.1', ip: '192.0.2.1' } })
  t.match(await use('198.51.100.1', LINUX), { valid: true, session: { flagged: true } })
  const changes = events.filter(({ name }) => name === 'session_client_changed')
  t.match(changes, [{ userId: 'ada', ip: '198.51.100.1', userAgent: LINUX, detail: { changes: ['network', 'device'], policy: 'flag' } }])
  t.equal(changes.length, 1)
  await queue.flush()
  t.match([...storage.live.values()], [{ flagged: true, lastIp: '198.51.100.1', lastUserAgent: LINUX }])
  queue.limit = 0
  t.match(await use('203.0.113.1', FIREFOX), { valid: true, session: { flagged: true } })
})

t.test('a change that found the queue full is flagged all the same', async t => {
  const { sessions, login, queue } = setUp()
  const { token } = await login('ada', { ip: '192.0.2.1' })
  queue.limit = 0
  t.match(await sessions.validate(token, { ip: '198.51.100.1', userAgent: '' }), { valid: true, session: { flagged: true } })
})

t.test('policy off and policy revoke', async t => {
  const off = setUp({ clientChange: 'off' })
  const { token } = await off.login('ada', { ip: '192.0.2.1' })
  t.match(await off.sessions.validate(token, { ip: '198.51.100.1', userAgent: '' }), { valid: true, session: { flagged: false } })

  const { sessions, login, storage, names } = setUp({ clientChange: 'revoke' })
  const { token: stolen, session } = await login('ada', { ip: '192.0.2.1' })
  t.match(await sessions.validate(stolen, { ip: '192.0.2.1', userAgent: '' }), { valid: true })
  storage.failing['endSessions'] = new Error('locked')
  await t.rejects(Promise.resolve(sessions.validate(stolen, { ip: '198.51.100.1', userAgent: '' })), { code: 'DOORMAN_SESSION_UNAVAILABLE' }, 'fails closed')
  delete storage.failing['endSessions']
  t.same(await sessions.validate(stolen, { ip: '198.51.100.1', userAgent: '' }), { valid: false, reason: 'client-changed', at: START, sessionId: session.id, userId: 'ada' })
  t.equal(reasonOf(await sessions.validate(stolen, { ip: '192.0.2.1', userAgent: '' })), 'client-changed')
  t.same(names(), ['session_created', 'session_client_changed', 'session_client_changed', 'session_ended', 'session_use_after_expire'])
  t.equal(sessions.stats().ended['client-changed'], 1)
})

t.test('R41: a login with a new device, or from a new network, is reported; what changes every day is not', async t => {
  const { sessions, login, events, storage, time } = setUp()
  const news = () => events.splice(0).filter(({ name }) => name === 'session_new_device')
  await login('ada', { ip: '192.0.2.1', userAgent: FIREFOX })
  t.same(news(), [], 'the first login of all')
  for (const client of [{ ip: '192.0.2.9', userAgent: FIREFOX }, { ip: '::ffff:192.0.2.200', userAgent: FIREFOX.replaceAll('128', '140') }]) await login('ada', client)
  t.same(news(), [], 'the same /24, a newer version of the browser')

  const { session } = await login('ada', { ip: '2001:db8:1:2::1', userAgent: FIREFOX })
  t.same(news(), [{
    name: 'session_new_device',
    at: START,
    userId: 'ada',
    sessionId: session.id,
    reason: null,
    ip: '2001:db8:1:2::1',
    userAgent: FIREFOX,
    detail: { device: 'Firefox on Windows', network: '2001:db8:1:2::/64', newDevice: false, newNetwork: true }
  }])
  await login('ada', { ip: '2001:db8:1:2:a8d3:15ff:fe3c:77d1', userAgent: FIREFOX })
  t.same(news(), [], 'a privacy address of the same /64')

  time.now += DAY
  await login('ada', { ip: '192.0.2.7', userAgent: LINUX })
  t.match(news(), [{ at: START + DAY, detail: { device: 'Firefox on Linux', network: '192.0.2.0/24', newDevice: true, newNetwork: false } }])
  await login('ada', { ip: '2001:db8:1:2::9', userAgent: LINUX })
  t.match(news(), [{ detail: { newDevice: false, newNetwork: false } }], 'both known, but not together')
  await login('ada', { ip: '198.51.100.1', userAgent: 'curl/8.5.0' })
  t.match(news(), [{ detail: { device: 'curl', network: '198.51.100.0/24', newDevice: true, newNetwork: true } }])
  await login('ada', { ip: '192.0.2.7' })
  t.match(news(), [{ userAgent: null, detail: { device: null, newDevice: true, newNetwork: false } }], 'leaving the user agent out is no way around it')
  await login('ada', { userAgent: 'curl/8.6.0' })
  t.match(news(), [{ ip: null, detail: { device: 'curl', network: null, newDevice: false, newNetwork: true } }])
  const before = await sessions.devices('ada')
  await login('ada')
  t.same(news(), [], 'neither known: nothing to say')
  t.same(await sessions.devices('ada'), before)
  await login('bob', { ip: '203.0.113.1', userAgent: LINUX })
  t.same(news(), [], 'of another user')
  t.equal(storage.calls['listSessionDevices'], 2)
  await t.rejects(sessions.devices(''), { code: 'DOORMAN_VALUE_INVALID' })
})

t.test('the uses of a session make no device known', async t => {
  const { sessions, login, queue } = setUp()
  const { token } = await login('ada', { ip: '192.0.2.1', userAgent: FIREFOX })
  t.match(await sessions.validate(token, { ip: '198.51.100.1', userAgent: LINUX }), { valid: true, session: { flagged: true } })
  const { token: next } = await sessions.rotate(token, { reauthenticated: true })
  t.match(await sessions.validate(next, { ip: '198.51.100.1', userAgent: LINUX }), { valid: true })
  await queue.flush()
  t.match(await sessions.devices('ada'), [{ device: 'Firefox on Windows', network: '192.0.2.0/24' }])
  t.equal((await sessions.devices('ada')).length, 1)
})

t.test('devices: of an address that is anonymised, what is left of it', async t => {
  const truncate = createAnonymizer({ mode: 'truncate', clock: () => START })
  const cut = setUp({}, { storedAddress: truncate.apply })
  for (const ip of ['192.0.2.1', '192.0.2.77', '2001:db8:1:2::1', '2001:db8:1:3::1']) await cut.login('ada', { ip, userAgent: FIREFOX })
  t.match((await cut.sessions.devices('ada')).map(({ network }) => network), ['192.0.2.0/24', '2001:db8:1::/64'])
  t.equal(cut.names().filter(name => name === 'session_new_device').length, 1)

  const hash = createAnonymizer({ mode: 'hash', clock: () => START })
  const hidden = setUp({}, { storedAddress: hash.apply })
  for (const ip of ['192.0.2.1', '198.51.100.1']) await hidden.login('ada', { ip, userAgent: FIREFOX })
  t.match(await hidden.sessions.devices('ada'), [{ device: 'Firefox on Windows', network: null }])
  await hidden.login('ada', { ip: '192.0.2.1' })
  t.match(hidden.events.filter(({ name }) => name === 'session_new_device'), [{ detail: { device: null, network: null, newDevice: true, newNetwork: false } }])
})

t.test('devices: off', async t => {
  const { sessions, login, names } = setUp({ devices: false })
  await login('ada', { ip: '192.0.2.1', userAgent: FIREFOX })
  await login('ada', { ip: '198.51.100.1', userAgent: LINUX })
  t.same(names(), ['session_created', 'session_created'])
  t.same(await sessions.devices('ada'), [])
})

t.test('stats are a copy', async t => {
  const { sessions } = setUp()
  sessions.stats().ended.revoked = 99
  t.equal(sessions.stats().ended.revoked, 0)
  t.equal(sessions.options.idleTimeout, DAY)
  const listener = () => t.fail()
  sessions.on('session_created', listener)
  sessions.off('session_created', listener)
  await sessions.create({ userId: 'ada' })
})
