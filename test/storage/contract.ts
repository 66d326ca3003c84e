/** What every engine must do: one suite, run for each. An engine's own tests hold only what it alone has. */
import type { Test } from 'tap'
import { createHash, randomUUID } from 'node:crypto'
import type { ActivityRow, CleanupRun, IpLogRow, LogRow, SessionCreateParams, SessionRecord, Storage, SweepTarget } from '../../storage/storage.js'
import { MAX_DEVICES, SWEEP_TARGETS } from '../../storage/storage.js'

/** Opens a fresh, empty database for one test and closes it when the test ends. */
export type OpenFresh = (t: Test) => Promise<Storage>

export const NOW = Date.UTC(2026, 10, 23, 12)
export const HOUR = 3_600_000
export const DAY = 24 * HOUR

let counter = 0
export const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

export function session (overrides: Partial<SessionRecord> = {}): SessionRecord {
  return {
    id: `s_${++counter}`,
    userId: 'ada',
    createdAt: NOW,
    lastActiveAt: NOW,
    authenticatedAt: NOW,
    rotatedAt: NOW,
    expiresAt: NOW + 30 * DAY,
    ip: '192.0.2.1',
    lastIp: '192.0.2.1',
    userAgent: 'UA/1',
    lastUserAgent: 'UA/1',
    device: 'Firefox on Linux',
    flagged: false,
    data: '{"theme":"dark"}',
    ...overrides
  }
}

export function create (storage: Storage, overrides: Partial<SessionRecord> = {}, rest: Partial<SessionCreateParams> = {}) {
  const record = session(overrides)
  const tokenHash = hashOf(record.id)
  return storage.createSession({ tokenHash, session: record, limit: null, now: NOW, idleBefore: NOW - DAY, ...rest }).then(result => ({ record, tokenHash, result }))
}

export function ipRow (overrides: Partial<IpLogRow> = {}): IpLogRow {
  return {
    kind: 'ip',
    at: NOW,
    ip: '203.0.113.7',
    ipSource: 'socket',
    peerIp: null,
    peerPort: 50_000,
    trustedHops: 0,
    method: 'GET',
    path: '/hello',
    route: '/:name',
    status: 200,
    durationUs: 1234,
    userAgent: 'curl/8',
    referer: 'https://example.org',
    sessionId: null,
    userId: null,
    requestId: 'req-1',
    outcome: 'replied',
    ...overrides
  }
}

export function activityRow (overrides: Partial<ActivityRow> = {}): ActivityRow {
  return { kind: 'activity', at: NOW, userId: 'ada', sessionId: null, action: 'login', ip: '192.0.2.1', detail: null, ...overrides }
}

/** Appends rows as one batch of a source of their own. */
export function append (storage: Storage, rows: LogRow[], source: string = randomUUID(), seq = 1) {
  return storage.appendLog({ source, seq, at: NOW, rows })
}

const stored = ({ kind, idempotencyKey, ...row }: IpLogRow) => row
const withoutId = <T extends { id: number }>({ id, ...row }: T) => row

export function storageContract (t: Test, open: OpenFresh): void {
  t.test('sessions: create, find by token, get by id', async t => {
    const storage = await open(t)
    const { record, tokenHash, result } = await create(storage)
    t.same(result, { created: true, evicted: [], known: null })
    t.same(await storage.findSession(tokenHash, NOW), { state: 'live', session: record })
    t.same(await storage.getSession(record.id), record)
    t.equal(await storage.findSession(hashOf('other'), NOW), null)
    t.equal(await storage.getSession('other'), null)
    t.equal(await storage.probeSessions(), undefined, 'sessions can be checked')
    const sparse = await create(storage, { ip: null, lastIp: null, userAgent: null, lastUserAgent: null, device: null, flagged: true, data: '{}' })
    t.same(await storage.getSession(sparse.record.id), sparse.record)
  })

  t.test('sessions: the same token or id twice is refused and changes nothing', async t => {
    const storage = await open(t)
    const { record, tokenHash } = await create(storage)
    await t.rejects(create(storage, { id: record.id }), { code: 'DOORMAN_CONSTRAINT' })
    await t.rejects(create(storage, {}, { tokenHash }), { code: 'DOORMAN_CONSTRAINT' })
    await t.rejects(create(storage, {}, { tokenHash: 'abcdef' }), { code: 'DOORMAN_CONSTRAINT' })
    t.equal((await storage.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 1)
  })

  t.test('sessions: one may take the place of another, token and all', async t => {
    const storage = await open(t)
    const guest = await create(storage, { userId: 'anonymous' })
    const before = await storage.changeCounter('sessions')
    const login = await create(storage, {}, { tokenHash: guest.tokenHash, replaces: guest.record.id })
    t.match(await storage.findSession(guest.tokenHash, NOW), { state: 'live', session: { id: login.record.id, userId: 'ada' } })
    t.equal(await storage.getSession(guest.record.id), null)
    t.ok(await storage.changeCounter('sessions') > before)
    await create(storage, {}, { replaces: 'long gone' })
    await t.rejects(create(storage, { id: login.record.id }, { replaces: guest.record.id }), { code: 'DOORMAN_CONSTRAINT' })
  })

  t.test('sessions: a token that has ended or was replaced is never used again', async t => {
    const storage = await open(t)
    const guest = await create(storage, { userId: 'anonymous' })
    await storage.endSessions({ id: guest.record.id }, 'revoked', NOW)
    for (const rest of [{}, { replaces: guest.record.id }]) {
      await t.rejects(create(storage, {}, { tokenHash: guest.tokenHash, ...rest }), { code: 'DOORMAN_CONSTRAINT' })
    }
    const { record, tokenHash } = await create(storage)
    await storage.rotateSession({ sessionId: record.id, fromHash: tokenHash, toHash: hashOf('next'), now: NOW, graceUntil: NOW, reauthenticated: null })
    await t.rejects(create(storage, {}, { tokenHash }), { code: 'DOORMAN_CONSTRAINT' })
    t.match(await storage.findSession(guest.tokenHash, NOW), { state: 'ended', reason: 'revoked' })
  })

  t.test('sessions: a failing creation does not disturb those beside it', async t => {
    const storage = await open(t)
    const { record } = await create(storage)
    const settled = await Promise.allSettled([create(storage), create(storage, { id: record.id }), create(storage)])
    t.same(settled.map(s => s.status), ['fulfilled', 'rejected', 'fulfilled'])
    t.equal((await storage.listSessions({ now: NOW, idleBefore: 0, limit: 10 })).items.length, 3)
  })

  for (const policy of ['evict-oldest', 'evict-idle', 'reject'] as const) {
    t.test(`sessions: limit with ${policy}, exact under parallel logins`, async t => {
      const storage = await open(t)
      const limit = { max: 3, policy }
      const oldest = await create(storage, { createdAt: NOW - 50, lastActiveAt: NOW - 10 }, { limit })
      const idlest = await create(storage, { createdAt: NOW - 40, lastActiveAt: NOW - 30 }, { limit })
      await create(storage, { createdAt: NOW - 30, lastActiveAt: NOW - 5 }, { limit })
      // These do not count: idle, expired, another user's.
      await create(storage, { lastActiveAt: NOW - DAY - 1 })
      await create(storage, { expiresAt: NOW })
      await create(storage, { userId: 'bob' })
      const fourth = await create(storage, {}, { limit })
      if (policy === 'reject') {
        t.same(fourth.result, { created: false, live: 3 })
      } else {
        const victim = policy === 'evict-oldest' ? oldest : idlest
        t.same(fourth.result, { created: true, evicted: [{ id: victim.record.id, userId: 'ada', reason: 'limit' }], known: null })
        t.match(await storage.findSession(victim.tokenHash, NOW), { state: 'ended', reason: 'limit', endedAt: NOW, sessionId: victim.record.id, userId: 'ada' })
      }
      await Promise.all(Array.from({ length: 20 }, () => create(storage, {}, { limit })))
      const live = await storage.listSessions({ userId: 'ada', now: NOW, idleBefore: NOW - DAY, limit: 100 })
      t.equal(live.items.length, 3)
    })
  }

  t.test('sessions: rotation is conditional, and the old token knows why it is dead', async t => {
    const storage = await open(t)
    const { record, tokenHash } = await create(storage)
    const tokens = Array.from({ length: 20 }, (_, i) => hashOf(`new ${i}`))
    const at = NOW + 1000
    const won = await Promise.all(tokens.map(toHash => storage.rotateSession({ sessionId: record.id, fromHash: tokenHash, toHash, now: at, graceUntil: at + 500, reauthenticated: null })))
    t.equal(won.filter(Boolean).length, 1, 'one of twenty parallel rotations wins')
    const current = tokens[won.indexOf(true)]!
    const rotated = { ...record, rotatedAt: at, lastActiveAt: at }
    t.same(await storage.findSession(current, at), { state: 'live', session: rotated })
    t.same(await storage.findSession(tokenHash, at + 499), { state: 'grace', session: rotated })
    t.same(await storage.findSession(tokenHash, at + 500), { state: 'ended', sessionId: record.id, userId: 'ada', reason: 'rotated', endedAt: at })
    const again = { sessionId: record.id, fromHash: current, toHash: hashOf('last'), now: at + 1, graceUntil: at + 1, reauthenticated: { expiresAt: at + DAY } }
    t.equal(await storage.rotateSession({ ...again, sessionId: 'another session' }), false)
    t.equal(await storage.rotateSession(again), true)
    t.match(await storage.findSession(hashOf('last'), at + 1), { state: 'live', session: { authenticatedAt: at + 1, expiresAt: at + DAY } })
    t.match(await storage.findSession(current, at + 1), { state: 'ended', reason: 'rotated' }, 'no grace: dead at once')
    await storage.endSessions({ id: record.id }, 'revoked', at + 2)
    t.match(await storage.findSession(tokenHash, at + 2), { state: 'ended', reason: 'rotated' }, 'grace does not outlive the session')
  })

  t.test('sessions: a rotation without grace ends the grace of earlier tokens', async t => {
    const storage = await open(t)
    const { record, tokenHash } = await create(storage)
    const rotate = (from: string, to: string, graceUntil: number) => storage.rotateSession({ sessionId: record.id, fromHash: from, toHash: hashOf(to), now: NOW, graceUntil, reauthenticated: null })
    await rotate(tokenHash, 'b', NOW + 1000)
    await rotate(hashOf('b'), 'c', NOW + 1000)
    t.match([await storage.findSession(tokenHash, NOW), await storage.findSession(hashOf('b'), NOW)], [{ state: 'grace' }, { state: 'grace' }])
    await rotate(hashOf('c'), 'd', NOW)
    for (const old of [tokenHash, hashOf('b'), hashOf('c')]) t.match(await storage.findSession(old, NOW), { state: 'ended', reason: 'rotated' })
  })

  t.test('sessions: data', async t => {
    const storage = await open(t)
    const { record } = await create(storage)
    t.equal(await storage.updateSessionData(record.id, '{"n":1}'), true)
    t.equal((await storage.getSession(record.id))?.data, '{"n":1}')
    t.equal(await storage.updateSessionData('nobody', '{}'), false)
    await t.rejects(storage.updateSessionData(record.id, 'no json'), { code: 'DOORMAN_CONSTRAINT' })
  })

  t.test('sessions: touches are maxima, so late ones do no harm', async t => {
    const storage = await open(t)
    const { record } = await create(storage)
    const touch = { sessionId: record.id, at: NOW + 100, ip: '198.51.100.9', userAgent: 'UA/2', flagged: false }
    await storage.touchSessions([touch, { ...touch, at: NOW + 50, ip: '198.51.100.1', userAgent: 'UA/0' }, { ...touch, sessionId: 'gone' }])
    t.match(await storage.getSession(record.id), { lastActiveAt: NOW + 100, lastIp: '198.51.100.9', lastUserAgent: 'UA/2', ip: record.ip, flagged: false })
    await storage.touchSessions([{ ...touch, at: NOW + 200, ip: null, userAgent: null, flagged: true }])
    t.match(await storage.getSession(record.id), { lastActiveAt: NOW + 200, lastIp: '198.51.100.9', lastUserAgent: 'UA/2', flagged: true })
    await storage.touchSessions([{ ...touch, at: NOW + 300 }])
    t.match(await storage.getSession(record.id), { flagged: true }, 'a flag stays')
  })

  t.test('sessions: ending one, a user\'s, all but one, all', async t => {
    const storage = await open(t)
    const [a, b, c, other] = await Promise.all([create(storage), create(storage), create(storage), create(storage, { userId: 'bob' })])
    t.same(await storage.endSessions({ id: a.record.id, userId: 'bob' }, 'revoked', NOW), [], 'not that user\'s')
    t.same(await storage.endSessions({ id: a.record.id, userId: 'ada' }, 'revoked', NOW + 5), [{ id: a.record.id, userId: 'ada', reason: 'revoked' }])
    t.same(await storage.endSessions({ id: a.record.id }, 'revoked', NOW + 6), [], 'only once')
    t.same(await storage.findSession(a.tokenHash, NOW + 6), { state: 'ended', sessionId: a.record.id, userId: 'ada', reason: 'revoked', endedAt: NOW + 5 })
    t.equal(await storage.getSession(a.record.id), null)
    t.match(await storage.endSessions({ userId: 'ada', exceptId: c.record.id }, 'revoked', NOW), [{ id: b.record.id }])
    t.match(await storage.endSessions({ userId: 'ada' }, 'client-changed', NOW), [{ id: c.record.id, reason: 'client-changed' }])
    t.match(await storage.endSessions({ all: true }, 'revoked', NOW), [{ id: other.record.id, userId: 'bob' }])
  })

  t.test('sessions: lists, newest first, page by page, only live ones', async t => {
    const storage = await open(t)
    for (let i = 0; i < 5; i++) await create(storage, { id: `page_${i}`, createdAt: NOW + (i >> 1) })
    await create(storage, { userId: 'bob', lastIp: '198.51.100.77' })
    await create(storage, { lastActiveAt: NOW - DAY })
    await create(storage, { expiresAt: NOW })
    const live = { now: NOW, idleBefore: NOW - DAY }
    const ids: string[] = []
    let after: readonly (string | number)[] | undefined
    let pages = 0
    do {
      const page = await storage.listSessions({ ...live, userId: 'ada', limit: 2, ...(after === undefined ? {} : { after }) })
      ids.push(...page.items.map(item => item.id))
      after = page.next ?? undefined
      pages++
    } while (after !== undefined)
    t.same(ids, ['page_4', 'page_3', 'page_2', 'page_1', 'page_0'])
    t.equal(pages, 3)
    t.match(await storage.listSessions({ ...live, ip: '198.51.100.77', limit: 10 }), { items: [{ userId: 'bob' }], next: null })
    t.equal((await storage.listSessions({ ...live, limit: 100 })).items.length, 6)
  })

  t.test('devices: a login says what was known before it', async t => {
    const storage = await open(t)
    let at = NOW
    const known = async (device: string | null, network: string | null, userId = 'ada', rest: Partial<SessionCreateParams> = {}) => {
      const { result } = await create(storage, { userId, createdAt: ++at }, { ...rest, device: { device, network } })
      return result.created && result.known
    }
    const [home, train] = ['192.0.2.0/24', '2001:db8:1:2::/64']
    const all = { any: true, device: true, network: true, pair: true }
    t.same(await known('Firefox on Linux', home), { any: false, device: false, network: false, pair: false }, 'the first of all')
    t.same(await known('Firefox on Linux', home), all)
    t.same(await known('Firefox on Linux', train), { any: true, device: true, network: false, pair: false })
    t.same(await known('Safari on iOS', home), { any: true, device: false, network: true, pair: false })
    t.same(await known('Safari on iOS', train), { any: true, device: true, network: true, pair: false }, 'both known, not together')
    t.same(await known('Chrome on Android', '198.51.100.0/24'), { any: true, device: false, network: false, pair: false })
    t.same(await known(null, home), { any: true, device: false, network: true, pair: false }, 'unknown is a device like any other')
    t.same(await known(null, home), all)
    t.same(await known(null, null), { any: true, device: true, network: false, pair: false })
    t.same(await known('Firefox on Linux', home, 'bob'), { any: false, device: false, network: false, pair: false }, 'of this user only')
    t.same(await known('Firefox on Linux', home, 'ada', { limit: { max: 3, policy: 'evict-oldest' } }), all, 'beside a limit')
    t.same((await create(storage)).result, { created: true, evicted: [], known: null }, 'nothing is recorded unless it is asked for')
    t.same((await create(storage, {}, { device: null })).result, { created: true, evicted: [], known: null })

    t.same(await storage.listSessionDevices('ada', 3), [
      { device: 'Firefox on Linux', network: home, firstSeenAt: NOW + 1, lastSeenAt: at, sessions: 3 },
      { device: null, network: null, firstSeenAt: NOW + 9, lastSeenAt: NOW + 9, sessions: 1 },
      { device: null, network: home, firstSeenAt: NOW + 7, lastSeenAt: NOW + 8, sessions: 2 }
    ])
    t.equal((await storage.listSessionDevices('ada', 100)).length, 7)
    t.same(await storage.listSessionDevices('nobody', 100), [])
    at = NOW - DAY
    await known('Firefox on Linux', home)
    t.match(await storage.listSessionDevices('ada', 1), [{ firstSeenAt: NOW + 1, lastSeenAt: NOW + 11, sessions: 4 }], 'a clock set back takes nothing away')
    t.equal((await storage.exportUser('ada', 7)).truncated, true)
  })

  t.test('devices: recorded with the login or not at all', async t => {
    const storage = await open(t)
    const device = { device: 'curl', network: null }
    const { record } = await create(storage)
    await t.rejects(create(storage, { id: record.id }, { device }), { code: 'DOORMAN_CONSTRAINT' })
    t.same((await create(storage, {}, { device, limit: { max: 1, policy: 'reject' } })).result, { created: false, live: 1 })
    await storage.endSessions({ id: record.id }, 'revoked', NOW)
    await t.rejects(create(storage, {}, { device, tokenHash: hashOf(record.id) }), { code: 'DOORMAN_CONSTRAINT' })
    t.same(await storage.listSessionDevices('ada', 10), [])
  })

  t.test('devices: of parallel logins with a new one, one is the first', async t => {
    const storage = await open(t)
    await create(storage, {}, { device: { device: 'Firefox on Linux', network: null } })
    const logins = await Promise.all(Array.from({ length: 20 }, () => create(storage, { createdAt: NOW + 1 }, { device: { device: 'curl', network: null } })))
    t.equal(logins.filter(({ result }) => result.created && !result.known!.pair).length, 1)
    t.match(await storage.listSessionDevices('ada', 1), [{ device: 'curl', sessions: 20 }])
  })

  t.test('devices: at most 100 of a user, the least recently seen goes', async t => {
    const storage = await open(t)
    const login = (n: number, at = NOW + n) => create(storage, { createdAt: at }, { device: { device: `d${n}`, network: null } })
    for (let n = 0; n < MAX_DEVICES; n++) await login(n)
    await create(storage, { userId: 'bob' }, { device: { device: 'd1', network: null } })
    await login(0, NOW + 200)
    t.equal((await storage.listSessionDevices('ada', 1000)).length, MAX_DEVICES)
    t.match((await login(100, NOW - 1)).result, { known: { any: true, device: false } }, 'also one that seems to be older than all')
    const left = (await storage.listSessionDevices('ada', 1000)).map(({ device }) => device)
    t.equal(left.length, MAX_DEVICES)
    t.equal(left[0], 'd0')
    t.equal(left.at(-1), 'd100')
    t.notOk(left.includes('d1'))
    t.match((await login(1, NOW + 300)).result, { known: { any: true, device: false, pair: false } })
    t.equal((await storage.listSessionDevices('bob', 10)).length, 1)
  })

  t.test('the log: rows come back as they went in', async t => {
    const storage = await open(t)
    const rows = [
      ipRow(),
      ipRow({ ip: '255.255.255.254', peerIp: '127.0.0.1', ipSource: 'forwarded', trustedHops: 1, sessionId: 's_1', userId: 'ada', outcome: 'aborted', status: 0 }),
      ipRow({ ip: '2001:db8::1', peerIp: '::1', ipSource: 'reported', outcome: 'reported' }),
      ipRow({ ipSource: 'forwarded', trustedHops: 8, idempotencyKey: 'on its own' }),
      ipRow({ ip: null, ipSource: 'rejected', trustedHops: 255, peerPort: null, route: null, userAgent: null, referer: null, requestId: null, outcome: 'refused', status: 400 }),
      ipRow({ ip: '0.0.0.0', ipSource: 'none', at: NOW + 1, path: '/Ünïcode/😀', outcome: 'blocked' }),
      ipRow({ ip: 'h_AAAABBBBCCCCDDDD', outcome: 'timeout', at: NOW + 2 }),
      ipRow({ outcome: 'error', status: 500, at: NOW + 3, durationUs: 90_000_000 })
    ]
    t.same(await append(storage, rows), { deadLetters: 0, duplicates: 0 })
    const page = await storage.listIpLogs({}, { limit: 100 })
    t.same(page.items.map(withoutId).reverse(), rows.map(stored))
    t.equal(new Set(page.items.map(item => item.id)).size, rows.length)
  })

  t.test('the log: more rows in one millisecond than a millisecond has ids', async t => {
    const storage = await open(t)
    const source = randomUUID()
    for (let seq = 1; seq <= 5; seq++) await append(storage, Array.from({ length: 500 }, (_, i) => ipRow({ requestId: `${seq}-${i}` })), source, seq)
    await append(storage, [ipRow({ at: NOW + 1, requestId: 'next' }), ipRow({ at: NOW, requestId: 'again' })])
    const items = []
    for (let after: readonly (string | number)[] | undefined; ;) {
      const page = await storage.listIpLogs({ from: NOW, to: NOW + 1 }, { limit: 400, ...(after === undefined ? {} : { after }) })
      items.push(...page.items)
      if (page.next === null) break
      after = page.next
    }
    t.equal(items.length, 2501, 'every row, each with its exact time')
    t.ok(items.every(item => item.at === NOW))
    t.equal(new Set(items.map(item => item.requestId)).size, 2501)
    t.match(await storage.listIpLogs({ from: NOW + 1 }, { limit: 10 }), { items: [{ requestId: 'next', at: NOW + 1 }] })
  })

  t.test('the log: a batch sent again is stored once', async t => {
    const storage = await open(t)
    const batch = { source: 'p1', seq: 7, at: NOW, rows: [ipRow(), activityRow()] }
    await Promise.all([storage.appendLog(batch), storage.appendLog(batch)])
    await storage.appendLog({ ...batch, seq: 6 })
    await storage.appendLog({ ...batch, source: 'p2' })
    t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 2)
    t.equal((await storage.listActivity({}, { limit: 10 })).items.length, 2)
  })

  t.test('the log: rows with an idempotency key are stored once', async t => {
    const storage = await open(t)
    t.same(await append(storage, [ipRow({ idempotencyKey: 'k1' }), ipRow({ idempotencyKey: 'k2' }), ipRow({ idempotencyKey: 'k1' })]), { deadLetters: 0, duplicates: 1 })
    t.same(await append(storage, [ipRow({ idempotencyKey: 'k2' }), ipRow()]), { deadLetters: 0, duplicates: 1 })
    t.equal((await storage.listIpLogs({}, { limit: 10 })).items.length, 3)
  })

  t.test('the log: one bad row is set aside, the others of its batch are stored', async t => {
    const storage = await open(t)
    const rows: LogRow[] = Array.from({ length: 500 }, (_, i) => ipRow({ requestId: String(i) }))
    rows[250] = ipRow({ status: 5000, requestId: 'poison' })
    rows[251] = activityRow({ detail: 'no json' })
    rows[252] = ipRow({ path: true as unknown as string })
    rows[253] = ipRow({ durationUs: 10n as unknown as number, method: {} as unknown as string })
    for (const [i, hops] of [-1, 256, 1.5, undefined as never].entries()) rows[254 + i] = ipRow({ trustedHops: hops })
    t.same(await append(storage, rows), { deadLetters: 8, duplicates: 0 })
    t.equal((await storage.listIpLogs({}, { limit: 1000 })).items.length, 492)
    t.equal((await storage.stats()).files.log.deadLetters, 8)
    t.equal((await storage.countSweepable(cutoffs({ deadLetters: NOW + 1 }), NOW)).deadLetters, 8)
  })

  t.test('the log: filters', async t => {
    const storage = await open(t)
    await append(storage, [
      ipRow({ requestId: 'a', at: NOW - 2 }),
      ipRow({ requestId: 'b', at: NOW - 1, ip: '2001:db8::5', userId: 'ada', sessionId: 's_9' }),
      ipRow({ requestId: 'c', status: 404, userId: 'bob' })
    ])
    const ids = async (filter: Parameters<Storage['listIpLogs']>[0]) => (await storage.listIpLogs(filter, { limit: 10 })).items.map(item => item.requestId)
    t.same(await ids({}), ['c', 'b', 'a'])
    t.same(await ids({ ip: '203.0.113.7' }), ['c', 'a'])
    t.same(await ids({ ip: '2001:db8::5' }), ['b'])
    t.same(await ids({ userId: 'ada' }), ['b'])
    t.same(await ids({ sessionId: 's_9' }), ['b'])
    t.same(await ids({ userId: 'nobody' }), [])
    t.same(await ids({ status: 404 }), ['c'])
    t.same(await ids({ from: NOW - 1 }), ['c', 'b'])
    t.same(await ids({ to: NOW - 1 }), ['a'])
    t.same(await ids({ from: NOW - 1, to: NOW, userId: 'ada' }), ['b'])
  })

  t.test('the log: leaders and series', async t => {
    const storage = await open(t)
    await append(storage, [
      ipRow({ at: NOW }), ipRow({ at: NOW + 10, status: 500, outcome: 'error' }), ipRow({ at: NOW + 60_000, path: '/other', userAgent: null }),
      ipRow({ at: NOW + 60_001, ip: '2001:db8::5', path: '/other' }), ipRow({ at: NOW + 180_000, ip: null, ipSource: 'rejected' })
    ])
    t.same(await storage.topIpLogs('ip', {}, 2), [
      { value: '203.0.113.7', count: 3, errors: 1, lastAt: NOW + 60_000 }, { value: null, count: 1, errors: 0, lastAt: NOW + 180_000 }
    ])
    t.same(await storage.topIpLogs('path', { to: NOW + 180_000 }, 5), [
      { value: '/hello', count: 2, errors: 1, lastAt: NOW + 10 }, { value: '/other', count: 2, errors: 0, lastAt: NOW + 60_001 }
    ])
    t.match(await storage.topIpLogs('userAgent', { ip: '203.0.113.7' }, 5), [{ value: 'curl/8', count: 2 }, { value: null, count: 1 }])
    t.same(await storage.topIpLogs('ip', { userId: 'nobody' }, 5), [])
    t.same(await storage.seriesIpLogs({}, 60_000, 10), [
      { at: NOW, count: 2, errors: 1 }, { at: NOW + 60_000, count: 2, errors: 0 }, { at: NOW + 180_000, count: 1, errors: 0 }
    ])
    t.match(await storage.seriesIpLogs({}, 60_000, 1), [{ at: NOW + 180_000 }], 'the newest buckets when there are too many')
    t.same(await storage.seriesIpLogs({ sessionId: 'none' }, 60_000, 10), [])
  })

  t.test('activity: lists and filters', async t => {
    const storage = await open(t)
    const rows = [
      activityRow(), activityRow({ at: NOW + 1, userId: 'bob', sessionId: 's_1', detail: '{"x":1}' }), activityRow({ at: NOW + 1, action: 'logout', ip: null })
    ]
    await append(storage, rows)
    const page = await storage.listActivity({}, { limit: 2 })
    t.match(page.items.map(item => [item.userId, item.action]), [['ada', 'logout'], ['bob', 'login']])
    t.match(await storage.listActivity({}, { limit: 2, after: page.next! }), { items: [{ at: NOW }], next: null })
    const count = async (filter: Parameters<Storage['listActivity']>[0]) => (await storage.listActivity(filter, { limit: 10 })).items.length
    t.same([await count({ userId: 'ada' }), await count({ sessionId: 's_1' }), await count({ action: 'login' }), await count({ from: NOW + 1 }), await count({ to: NOW + 1 })], [2, 1, 2, 2, 1])
    t.match((await storage.listActivity({ userId: 'bob' }, { limit: 1 })).items, [{ detail: '{"x":1}', sessionId: 's_1' }])
  })

  t.test('blocks: add, list those in force, remove; changes are announced', async t => {
    const storage = await open(t)
    const before = await storage.changeCounter('blocks')
    const block = { id: 'b1', cidr: '192.0.2.0/24', until: null, reason: 'abuse', createdAt: NOW }
    await storage.addBlock(block)
    await storage.addBlock({ ...block, id: 'b2', until: NOW + 10, reason: null, createdAt: NOW + 1 })
    await t.rejects(storage.addBlock(block), { code: 'DOORMAN_CONSTRAINT' })
    t.same((await storage.listBlocks(NOW + 9)).map(b => b.id), ['b1', 'b2'])
    t.same(await storage.listBlocks(NOW + 10), [block])
    const middle = await storage.changeCounter('blocks')
    t.ok(middle > before)
    t.equal(await storage.removeBlock('b1'), true)
    t.equal(await storage.removeBlock('b1'), false)
    t.ok(await storage.changeCounter('blocks') > middle)
  })

  t.test('the revocation of a session is announced', async t => {
    const storage = await open(t)
    const { record } = await create(storage)
    const before = await storage.changeCounter('sessions')
    await storage.endSessions({ id: record.id }, 'revoked', NOW)
    t.ok(await storage.changeCounter('sessions') > before)
  })

  t.test('sweep: exactly the old rows, in steps, counted before and after', async t => {
    const storage = await open(t)
    const at = (ages: number[], make: (at: number) => Promise<unknown>) => Promise.all(ages.map(age => make(NOW - age)))
    await at([0, DAY, DAY + 1, 2 * DAY], lastActiveAt => create(storage, { lastActiveAt }))
    await create(storage, { expiresAt: NOW })
    await create(storage, { expiresAt: NOW + 1 })
    await create(storage, { expiresAt: NOW - 1, lastActiveAt: NOW - 3 * DAY })
    await at([0, 180 * DAY, 180 * DAY + 1], createdAt => create(storage, { userId: `of ${createdAt}`, createdAt }, { device: { device: 'curl', network: null } }))
    await at([0, 30 * DAY, 30 * DAY + 1, 40 * DAY, 40 * DAY], at => append(storage, [ipRow({ at })]))
    await at([0, 7 * DAY, 7 * DAY + 1], at => append(storage, [activityRow({ at })]))
    await storage.addBlock({ id: 'over', cidr: '192.0.2.1/32', until: NOW, reason: null, createdAt: 0 })
    await storage.addBlock({ id: 'on', cidr: '192.0.2.2/32', until: NOW + 1, reason: null, createdAt: 0 })
    const before = cutoffs({ sessionsIdle: NOW - DAY, sessionsExpired: NOW, sessionDevices: NOW - 180 * DAY, ipLogs: NOW - 30 * DAY, activity: NOW - 7 * DAY, blocks: NOW })
    const expected = cutoffs({ sessionsIdle: 3, sessionsExpired: 1, sessionDevices: 1, ipLogs: 3, activity: 1, blocks: 1 }, 0)
    t.same(await storage.countSweepable(before, NOW), expected)
    const removed = cutoffs({}, 0)
    for (const target of SWEEP_TARGETS) {
      for (;;) {
        const n = await storage.sweep({ target, before: before[target], limit: 2, now: NOW })
        removed[target] += n
        if (n < 2) break
      }
    }
    t.same(removed, expected)
    t.same(await storage.countSweepable(before, NOW), cutoffs({}, 0))
    t.equal((await storage.listSessions({ now: 0, idleBefore: 0, limit: 100 })).items.length, 6)
    t.same(await Promise.all([0, 180 * DAY, 180 * DAY + 1].map(async age => (await storage.listSessionDevices(`of ${NOW - age}`, 9)).length)), [1, 1, 0])
    t.equal((await storage.listIpLogs({}, { limit: 100 })).items.length, 2)
    t.equal((await storage.listActivity({}, { limit: 100 })).items.length, 2)
    t.same((await storage.listBlocks(NOW - 1)).map(b => b.id), ['on'])
  })

  t.test('sweep: a session swept away still knows why it ended, until its tombstone goes too', async t => {
    const storage = await open(t)
    const idle = await create(storage, { lastActiveAt: NOW - 2 * DAY })
    const expired = await create(storage, { expiresAt: NOW })
    await storage.sweep({ target: 'sessionsIdle', before: NOW - DAY, limit: 10, now: NOW })
    await storage.sweep({ target: 'sessionsExpired', before: NOW, limit: 10, now: NOW })
    t.match(await storage.findSession(idle.tokenHash, NOW), { state: 'ended', reason: 'idle', endedAt: NOW })
    t.match(await storage.findSession(expired.tokenHash, NOW), { state: 'ended', reason: 'expired' })
    t.equal(await storage.sweep({ target: 'sessionTombstones', before: NOW + 1, limit: 10, now: NOW }), 2)
    t.equal(await storage.findSession(idle.tokenHash, NOW), null)
  })

  t.test('sweep: what the log keeps for itself goes too, and rows kept stay whole', async t => {
    const storage = await open(t)
    await append(storage, [ipRow({ idempotencyKey: 'k' }), ipRow({ path: '/second' })])
    const internals = async (before: number) => storage.sweep({ target: 'logInternals', before, limit: 100, now: before })
    t.equal(await internals(NOW), 0)
    t.match((await storage.listIpLogs({}, { limit: 1 })).items, [{ path: '/second' }])
    t.ok(await internals(NOW + 2 * DAY) >= 2)
    t.equal(await internals(NOW + 2 * DAY), 0)
    await storage.appendLog({ source: 'later', seq: 1, at: NOW + 3 * DAY, rows: [ipRow({ at: NOW + 3 * DAY, path: '/second' })] })
    t.match((await storage.listIpLogs({ from: NOW + DAY }, { limit: 1 })).items, [{ path: '/second', userAgent: 'curl/8' }], 'texts that were swept are stored again')
  })

  t.test('sweep: addresses lose their host at an age, exactly those, once', async t => {
    const storage = await open(t)
    const before = NOW - 7 * DAY
    const short = { ip: '203.0.113.0', peerPort: null }
    await append(storage, [
      ipRow({ at: before, requestId: 'young' }),
      ipRow({ at: before - 1, requestId: 'v4', ip: '203.0.113.77' }),
      ipRow({ at: before - DAY, requestId: 'v6', ip: '2001:db8:1:2::5', peerIp: '198.51.100.9' }),
      ipRow({ at: before - DAY, requestId: 'port', ip: null }),
      ipRow({ at: before - DAY, requestId: 'hash', ip: 'h_0123456789abcdef', peerPort: null }),
      ipRow({ at: before - DAY, requestId: 'none', ip: null, peerPort: null }),
      ipRow({ ...short, at: before - DAY, requestId: 'short', peerIp: '2001:db8:1::' }),
      ipRow({ ...short, at: before - DAY, requestId: 'zero', peerIp: '::' }),
      activityRow({ at: before, action: 'young' }),
      activityRow({ at: before - 1, action: 'v4' }),
      activityRow({ at: before - 1, action: 'v6', ip: '::1' }),
      activityRow({ at: before - 1, action: 'none', ip: null })
    ])
    const sessions = await Promise.all([
      create(storage, { createdAt: before, lastActiveAt: before }),
      create(storage, { createdAt: before - 1, lastActiveAt: before }),
      create(storage, { createdAt: before - 2, lastActiveAt: before - 1, lastIp: '2001:db8:1:2::5' }),
      create(storage, { createdAt: before - 3, lastActiveAt: before - 1, ip: null, lastIp: '192.0.2.9' }),
      create(storage, { createdAt: before - 4, lastActiveAt: before - 1, ip: '192.0.2.0', lastIp: null })
    ])
    const targets = ['ipLogAddresses', 'activityAddresses', 'sessionAddresses'] as const
    const limits = cutoffs({ ipLogAddresses: before, activityAddresses: before, sessionAddresses: before })
    const run = async (now = NOW, at = before, limit = 2) => {
      const counts: number[] = []
      for (const target of targets) {
        let count = 0
        for (let step = limit; step >= limit; count += step) step = await storage.sweep({ target, before: at, limit, now })
        counts.push(count)
      }
      return counts
    }
    t.same(await storage.countSweepable(limits, NOW), cutoffs({ ipLogAddresses: 3, activityAddresses: 2, sessionAddresses: 3 }, 0))
    t.same(await storage.countSweepable({ ...limits, ipLogs: before - 1, activity: before, sessionsIdle: before }, NOW), cutoffs({ ipLogAddresses: 1, sessionAddresses: 1, ipLogs: 6, activity: 3, sessionsIdle: 3 }, 0), 'not those that the run removes before')
    t.same(await run(), [3, 2, 3])
    t.same(await storage.countSweepable(limits, NOW), cutoffs({}, 0))
    t.same(await run(), [0, 0, 0], 'a second run has nothing to do')
    const log = (await storage.listIpLogs({}, { limit: 20 })).items
    t.same(Object.fromEntries(log.map(row => [row.requestId, [row.ip, row.peerIp, row.peerPort]])), {
      young: ['203.0.113.7', null, 50_000],
      v4: ['203.0.113.0', null, null],
      v6: ['2001:db8:1::', '198.51.100.0', null],
      port: [null, null, null],
      hash: ['h_0123456789abcdef', null, null],
      none: [null, null, null],
      short: ['203.0.113.0', '2001:db8:1::', null],
      zero: ['203.0.113.0', '::', null]
    })
    t.match(log.find(row => row.requestId === 'v4'), { at: before - 1, path: '/hello', userAgent: 'curl/8', status: 200 }, 'the rest of the row stays')
    t.same((await storage.listActivity({}, { limit: 9 })).items.map(row => [row.action, row.ip]).sort(), [['none', null], ['v4', '192.0.2.0'], ['v6', '::'], ['young', '192.0.2.1']])
    const held = await Promise.all(sessions.map(({ record }) => storage.getSession(record.id)))
    t.same(held.map(row => [row!.ip, row!.lastIp]), [['192.0.2.1', '192.0.2.1'], ['192.0.2.0', '192.0.2.1'], ['192.0.2.0', '2001:db8:1::'], [null, '192.0.2.0'], ['192.0.2.0', null]])
    t.match(await storage.findSession(sessions[2]!.tokenHash, NOW), { state: 'live', session: { ip: '192.0.2.0', lastIp: '2001:db8:1::' } })

    await append(storage, [ipRow({ at: before - HOUR, requestId: 'late' }), ipRow({ at: before - HOUR - 1, requestId: 'too late' })])
    t.equal((await storage.countSweepable(limits, NOW)).ipLogAddresses, 1)
    t.same(await run(), [1, 0, 0], 'a row that came late, within the hour')
    t.same(await run(NOW - 8 * DAY), [1, 0, 0], 'what a clock ahead has marked does not count')
    t.same(await run(NOW + 1, before + 1, 100), [1, 1, 2], 'the next run looks at what has come of age since')
  })

  t.test('sweep: addresses in more rows than are looked at in one step', async t => {
    const storage = await open(t)
    const rows = Array.from({ length: 12_000 }, (_, i) => ipRow({ at: NOW + i, ip: i % 2000 === 1999 ? '203.0.113.7' : null, peerPort: null, peerIp: i % 4000 === 0 ? '198.51.100.1' : null }))
    for (let seq = 0; seq < 12; seq++) await append(storage, rows.slice(seq * 1000, seq * 1000 + 1000), 'many', seq + 1)
    const sweep = () => storage.sweep({ target: 'ipLogAddresses', before: NOW + 12_000, limit: 8, now: NOW + DAY })
    t.same([await sweep(), await sweep()], [8, 1])
    t.equal((await storage.exportAddress('198.51.100.0', 10)).relayed, 3)
    t.match(await storage.eraseAddress('198.51.100.0'), { relayed: 3 })
  })

  t.test('maintenance gives free space back', async t => {
    const storage = await open(t)
    for (let seq = 1; seq <= 8; seq++) await append(storage, Array.from({ length: 500 }, (_, i) => ipRow({ path: `/${seq}/${i}/${'x'.repeat(100)}` })), 'fill', seq)
    while (await storage.sweep({ target: 'ipLogs', before: NOW + 1, limit: 1000, now: NOW }) === 1000);
    while (await storage.sweep({ target: 'logInternals', before: NOW + 2 * DAY, limit: 1000, now: NOW }) === 1000);
    const first = await storage.maintain({ pages: 10, optimize: true })
    if (!storage.facts.freePages) {
      t.same(first, { freedPages: 0, remainingPages: 0 }, 'the server does that by itself')
      return
    }
    t.ok(first.freedPages <= 20)
    t.ok(first.remainingPages > 0)
    const rest = await storage.maintain({ pages: 1_000_000, optimize: false })
    t.equal(rest.remainingPages, 0)
    t.ok(rest.freedPages > 0)
    t.same(await storage.maintain({ pages: 100, optimize: false }), { freedPages: 0, remainingPages: 0 })
  })

  t.test('the lease: one holder, renewable, by interval, and it ends by itself', async t => {
    const storage = await open(t)
    const ask = (holder: string, now: number, lastRunBefore = now) => storage.acquireLease({ name: 'cleanup', holder, now, until: now + 100, lastRunBefore })
    t.same(await Promise.all(['a', 'b', 'c'].map(holder => ask(holder, NOW))), [true, false, false])
    t.equal(await ask('a', NOW + 50), true, 'its holder renews it')
    t.equal(await ask('b', NOW + 149), false)
    t.equal(await ask('b', NOW + 150), true, 'a dead holder is replaced')
    await storage.releaseLease('cleanup', 'a', NOW)
    t.equal(await ask('a', NOW + 160), false, 'nobody releases another\'s lease')
    await storage.releaseLease('cleanup', 'b', NOW + 170)
    t.equal(await ask('a', NOW + 180, NOW + 169), false, 'run already done in this interval')
    t.equal(await ask('a', NOW + 180, NOW + 170), true)
    await storage.releaseLease('cleanup', 'a', null)
    t.equal(await ask('c', NOW + 180, NOW + 170), true, 'an unfinished run is no run')
    await storage.releaseLease('cleanup', 'c', NOW + 180)
    t.equal(await ask('a', NOW + 170), false, 'completed while this one waited for the lock')
    t.equal(await ask('a', NOW - DAY), true, 'a clock set back: what lies in the future does not count')
    t.equal(await ask('b', NOW - 2 * DAY), true)
  })

  t.test('cleanup history', async t => {
    const storage = await open(t)
    const run = (n: number): CleanupRun => ({ id: `r${n}`, startedAt: NOW + n, durationMs: n, dryRun: n === 1, trigger: n === 1 ? 'manual' : 'schedule', complete: n !== 2, removed: cutoffs({ ipLogs: n }, 0), freedPages: n, error: n === 2 ? 'DOORMAN_STORAGE_BUSY' : null })
    for (const n of [1, 2, 3]) await storage.addCleanupRun(run(n))
    const page = await storage.listCleanupRuns({ limit: 2 })
    t.same(page.items, [run(3), run(2)])
    t.same(await storage.listCleanupRuns({ limit: 2, after: page.next! }), { items: [run(1)], next: null })
    await storage.addCleanupRun({ ...run(4), removed: { ipLogs: 5 } as CleanupRun['removed'] })
    t.same((await storage.listCleanupRuns({ limit: 1 })).items, [{ ...run(4), removed: cutoffs({ ipLogs: 5 }, 0) }], 'a run of a release that knew fewer kinds of rows')
    t.equal(await storage.sweep({ target: 'cleanupRuns', before: NOW + 2, limit: 10, now: NOW }), 1)
  })

  t.test('a user\'s data: export and erasure', async t => {
    const storage = await open(t)
    const device = { device: 'Firefox on Linux', network: '192.0.2.0/24' }
    const kept = await create(storage, {}, { device })
    const ended = await create(storage)
    await storage.endSessions({ id: ended.record.id }, 'revoked', NOW)
    await create(storage, { userId: 'bob' }, { device })
    await append(storage, [ipRow({ userId: 'ada' }), ipRow({ userId: 'bob' }), activityRow(), activityRow({ userId: 'bob' }), activityRow({ detail: 'bad' })])
    const held = await storage.exportUser('ada', 100)
    t.match(held, { sessions: [kept.record], endedSessions: [{ id: ended.record.id, reason: 'revoked', endedAt: NOW }], devices: [{ ...device, firstSeenAt: NOW, lastSeenAt: NOW, sessions: 1 }], activity: [{ action: 'login' }], ipLogs: [{ userId: 'ada' }], deadLetters: [{ kind: 'activity', userId: 'ada', content: /"detail":"bad"/ }], truncated: false })
    t.equal((await storage.exportUser('ada', 1)).truncated, true)
    t.same(await storage.eraseUser('ada'), { sessions: 1, endedSessions: 1, devices: 1, activity: 1, ipLogs: 1, deadLetters: 1 })
    t.same(await storage.exportUser('ada', 100), { sessions: [], endedSessions: [], devices: [], activity: [], ipLogs: [], deadLetters: [], truncated: false })
    t.same(await storage.eraseUser('ada'), { sessions: 0, endedSessions: 0, devices: 0, activity: 0, ipLogs: 0, deadLetters: 0 })
    t.match(await storage.exportUser('bob', 100), { sessions: [{}], devices: [{}], activity: [{}], ipLogs: [{}] })
  })

  t.test('an address\'s data: export and erasure', async t => {
    const storage = await open(t)
    const ip = '192.0.2.77'
    const [began, used, other] = [await create(storage, { ip }), await create(storage, { lastIp: ip }), await create(storage, { ip: '192.0.2.7', lastIp: '192.0.2.177' })]
    await append(storage, [
      ...Array.from({ length: 1001 }, () => ipRow({ ip })), ipRow({ ip: '192.0.2.7' }), ipRow({ ip: '10.0.0.1', peerIp: ip }), ipRow({ ip, peerIp: ip }),
      activityRow({ ip, action: 'theirs' }), activityRow({ ip: '192.0.2.7' }), activityRow({ ip, detail: 'bad' }), activityRow({ ip: '192.0.2.7', detail: `not ${ip}` })
    ])
    const held = await storage.exportAddress(ip, 2000)
    t.match(held, { activity: [{ action: 'theirs', ip }], deadLetters: [{ kind: 'activity', userId: 'ada', content: /"detail":"bad"/ }], relayed: 2, truncated: false })
    t.same(held.sessions.map(row => row.id).sort(), [began.record.id, used.record.id].sort())
    t.equal(held.ipLogs.length, 1002)
    t.equal(held.activity.length, 1)
    t.equal(held.deadLetters.length, 1)
    t.equal((await storage.exportAddress(ip, 1001)).truncated, true)
    t.match(await storage.exportAddress(ip, 2), { sessions: { length: 2 }, ipLogs: { length: 2 }, truncated: true })
    t.same(await storage.eraseAddress(ip), { ipLogs: 1002, relayed: 1, activity: 1, sessions: 2, deadLetters: 1 })
    t.same(await storage.exportAddress(ip, 10), { sessions: [], activity: [], ipLogs: [], deadLetters: [], relayed: 0, truncated: false })
    t.same(await storage.eraseAddress(ip), { ipLogs: 0, relayed: 0, activity: 0, sessions: 0, deadLetters: 0 })
    const found = await Promise.all([began, used, other].map(({ tokenHash }) => storage.findSession(tokenHash, NOW)))
    t.match(found, [{ state: 'live', session: { ip: null, lastIp: '192.0.2.1' } }, { session: { ip: '192.0.2.1', lastIp: null } }, { session: { ip: '192.0.2.7', lastIp: '192.0.2.177' } }])
    t.same((await storage.listActivity({}, { limit: 9 })).items.map(row => row.ip).sort(), ['192.0.2.7', null])
    t.same((await storage.listIpLogs({}, { limit: 9 })).items.map(row => [row.ip, row.peerIp]).sort(), [['10.0.0.1', null], ['192.0.2.7', null]])
  })

  t.test('the host\'s own tables: all or nothing, its faults are its own', async t => {
    const storage = await open(t)
    const numbered = storage.facts.placeholders === 'numbered'
    const p = numbered ? '$1' : '?'
    await storage.batch([{ sql: `CREATE TABLE notes (id ${numbered ? 'serial' : 'INTEGER'} PRIMARY KEY, text TEXT NOT NULL)` }])
    const two = { sql: 'INSERT INTO notes (text) VALUES (:text)', params: { text: 'two' } }
    if (numbered) await t.rejects(storage.batch([two]), { code: 'DOORMAN_SQL_INVALID', message: /no named parameters: write \$1/ })
    t.match(await storage.batch([{ sql: `INSERT INTO notes (text) VALUES (${p})`, params: ['one'] }, numbered ? { sql: 'INSERT INTO notes (text) VALUES ($1)', params: ['two'] } : two]), [{ changes: 1 }, { changes: 1 }])
    const settled = await Promise.allSettled([
      storage.batch([{ sql: `INSERT INTO notes (text) VALUES (${p})`, params: ['three'] }, { sql: `INSERT INTO notes (text) VALUES (${p})`, params: [null] }]),
      storage.batch([{ sql: `INSERT INTO notes (text) VALUES (${p})`, params: ['four'] }])
    ])
    t.match(settled, [{ status: 'rejected', reason: { code: 'DOORMAN_CONSTRAINT' } }, { status: 'fulfilled' }])
    t.same((await storage.all({ sql: 'SELECT text FROM notes ORDER BY id' })).map(row => row['text']), ['one', 'two', 'four'])
    t.match(await storage.get({ sql: `SELECT text FROM notes WHERE text = ${p}`, params: ['two'] }), { text: 'two' })
    if (!numbered) t.match(await storage.get({ sql: 'SELECT text FROM notes WHERE text = :t', params: { t: 'two' } }), { text: 'two' })
    t.equal(await storage.get({ sql: `SELECT text FROM notes WHERE id = ${p}`, params: [99] }), undefined)
    t.match(await storage.batch([{ sql: `DELETE FROM notes WHERE text = ${p} RETURNING id`, params: ['four'] }]), [{ changes: 1 }])
    await t.rejects(storage.batch([{ sql: 'INSERT INTO nowhere VALUES (1)' }]), { code: 'DOORMAN_SQL_INVALID' })
    await t.rejects(storage.get({ sql: 'DELETE FROM notes' }), { code: /DOORMAN_(SQL_INVALID|STORAGE_READONLY)/ })
    await t.rejects(storage.batch([{ sql: 'DELETE FROM notes; COMMIT' }]), { code: 'DOORMAN_SQL_INVALID' }, 'one statement is one')
    t.equal((await storage.all({ sql: 'SELECT text FROM notes' })).length, 2)
    for (const sql of ['COMMIT', ' begin', '-- x\nROLLBACK', '/* y */ pragma journal_mode=delete', 'VACUUM', 'ATTACH \'x\' AS y']) {
      await t.rejects(storage.batch([{ sql }]), { code: 'DOORMAN_SQL_NOT_ALLOWED' }, sql)
      await t.rejects(storage.all({ sql }), { code: 'DOORMAN_SQL_NOT_ALLOWED' }, sql)
    }
  })

  t.test('condition: healthy, sound, counted', async t => {
    const storage = await open(t)
    await create(storage)
    await append(storage, [ipRow(), ipRow()])
    t.same(storage.health(), { status: 'ok' })
    t.same(await storage.check(), [])
    const { files, writer, reader } = await storage.stats()
    t.ok(files.main.commits >= 1)
    t.ok(files.log.rows >= 2)
    for (const { lanes, lockWaits, lockWaitMsBuckets, commits, rowsPerCommitBuckets, oldestReaderMs } of Object.values(files)) {
      const nothing = { operations: 0, bytes: 0 }
      t.same(lanes, { interactive: nothing, bulk: nothing, maintenance: nothing }, 'nothing waits')
      t.equal(oldestReaderMs, 0)
      for (const [buckets, all] of [[lockWaitMsBuckets, lockWaits], [rowsPerCommitBuckets, commits]] as const) {
        const counts = buckets.map(([, count]) => count)
        t.same(counts, [...counts].sort((a, b) => a - b), 'cumulative')
        t.ok(counts.every(count => count <= all))
      }
    }
    t.same([writer.restarts, reader.restarts], [0, 0])
  })

  t.test('closing stores what was asked before, and refuses what comes after', async t => {
    const storage = await open(t)
    const before = create(storage)
    const report = storage.close(5000)
    t.equal(storage.close(5000), report, 'idempotent')
    t.same((await before).result, { created: true, evicted: [], known: null })
    t.same(await report, { notStored: 0 })
    await t.rejects(create(storage), { code: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(async () => storage.findSession(hashOf('x'), NOW), { code: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(async () => storage.probeSessions(), { code: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(storage.listSessions({ now: 0, idleBefore: 0, limit: 1 }), { code: 'DOORMAN_STORAGE_CLOSED' })
    await t.rejects(storage.check(), { code: 'DOORMAN_STORAGE_CLOSED' })
  })
}

/** A full set of cutoffs (or counts): those given, the rest so that nothing qualifies. */
export function cutoffs (given: Partial<Record<SweepTarget, number>>, rest = 0): Record<SweepTarget, number> {
  return { ...Object.fromEntries(SWEEP_TARGETS.map(target => [target, rest])) as Record<SweepTarget, number>, ...given }
}
