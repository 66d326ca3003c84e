/** The session part of the storage in memory, for tests of what builds on it: reads can be made asynchronous, and anything made to fail. */
import type { EndedSession, KnownBefore, Liveness, LoginDevice, Page, SessionDevice, SessionListParams, SessionLookup, SessionRecord, SessionSelection, SessionTouch } from '../storage/storage.js'
import type { SessionStorage } from '../lib/session-context.js'
import type { RowQueue } from '../lib/row-queue.js'
import type { EndReason } from '../lib/vocabulary.js'

interface Tombstone { sessionId: string, userId: string, reason: EndReason, endedAt: number, graceUntil: number }

export interface FakeStorage extends SessionStorage {
  /** By token hash in hex. */
  live: Map<string, SessionRecord>
  ended: Map<string, Tombstone>
  /** How often each operation was called. */
  calls: Record<string, number>
  /** Makes operations fail, by name. */
  failing: Record<string, Error>
  /** When true, `findSession` answers with a promise, as a network engine does. */
  asynchronous: boolean
  /** Writes wait for it. */
  gate: Promise<void>
}

const isLive = ({ now, idleBefore }: Liveness) => (record: SessionRecord) => record.lastActiveAt > idleBefore && record.expiresAt > now

export function createFakeStorage (): FakeStorage {
  const live: FakeStorage['live'] = new Map()
  const ended: FakeStorage['ended'] = new Map()
  const calls: Record<string, number> = {}

  function call (name: string): void {
    calls[name] = (calls[name] ?? 0) + 1
    if (storage.failing[name] !== undefined) throw storage.failing[name]
  }

  /** Like a transaction: waits for the gate, then runs in one go. */
  async function write<T> (name: string, change: () => T): Promise<T> {
    call(name)
    await storage.gate
    return change()
  }

  const byId = (id: string) => [...live].find(([, record]) => record.id === id)

  function bury (hash: string, record: SessionRecord, reason: EndReason, now: number): EndedSession {
    live.delete(hash)
    ended.set(hash, { sessionId: record.id, userId: record.userId, reason, endedAt: now, graceUntil: 0 })
    return { id: record.id, userId: record.userId, reason }
  }

  function find (hash: string, now: number): SessionLookup | null {
    const session = live.get(hash)
    if (session !== undefined) return { state: 'live', session: { ...session } }
    const tombstone = ended.get(hash)
    if (tombstone === undefined) return null
    const successor = tombstone.graceUntil > now ? byId(tombstone.sessionId)?.[1] : undefined
    if (successor !== undefined) return { state: 'grace', session: { ...successor } }
    const { graceUntil, ...rest } = tombstone
    return { state: 'ended', ...rest }
  }

  const matches = (selection: SessionSelection) => (record: SessionRecord) =>
    'all' in selection ||
    ('id' in selection
      ? record.id === selection.id && (selection.userId ?? record.userId) === record.userId
      : record.userId === selection.userId && record.id !== selection.exceptId)

  const devices = new Map<string, SessionDevice[]>()

  function noteDevice (userId: string, { device, network }: LoginDevice, at: number): KnownBefore {
    const seen = devices.get(userId) ?? []
    devices.set(userId, seen)
    const known = {
      any: seen.length > 0,
      device: seen.some(other => other.device === device),
      network: seen.some(other => other.network === network),
      pair: seen.some(other => other.device === device && other.network === network)
    }
    if (!known.pair) seen.push({ device, network, firstSeenAt: at, lastSeenAt: at, sessions: 1 })
    return known
  }

  const storage: FakeStorage = {
    live,
    ended,
    calls,
    failing: {},
    asynchronous: false,
    gate: Promise.resolve(),

    findSession (tokenHash, now) {
      if (storage.asynchronous) return Promise.resolve().then(() => { call('findSession'); return find(tokenHash, now) })
      call('findSession')
      return find(tokenHash, now)
    },
    async getSession (id) {
      call('getSession')
      const record = byId(id)?.[1]
      return record === undefined ? null : { ...record }
    },
    createSession: ({ tokenHash, session, limit, replaces, device = null, ...liveness }) => write('createSession', () => {
      // Refused before anything is changed, as a savepoint would have it.
      if (ended.has(tokenHash)) throw new Error('the token has ended')
      const former = replaces === undefined ? undefined : byId(replaces)?.[0]
      if (live.has(tokenHash) && former !== tokenHash) throw new Error('the token exists')
      if (former !== undefined) live.delete(former)
      const evicted: EndedSession[] = []
      if (limit !== null) {
        const key = limit.policy === 'evict-idle' ? 'lastActiveAt' : 'createdAt'
        const own = [...live].filter(([, record]) => record.userId === session.userId && isLive(liveness)(record)).sort(([, a], [, b]) => a[key] - b[key])
        if (own.length >= limit.max && limit.policy === 'reject') return { created: false, live: own.length }
        for (const [hash, record] of own.slice(0, Math.max(0, own.length - limit.max + 1))) evicted.push(bury(hash, record, 'limit', liveness.now))
      }
      live.set(tokenHash, { ...session })
      return { created: true, evicted, known: device === null ? null : noteDevice(session.userId, device, session.createdAt) }
    }),
    rotateSession: ({ sessionId, fromHash, toHash, now, graceUntil, reauthenticated }) => write('rotateSession', () => {
      const record = live.get(fromHash)
      if (record?.id !== sessionId) return false
      live.delete(fromHash)
      // Without grace, what is left of earlier ones ends as well.
      if (graceUntil <= now) for (const tombstone of ended.values()) if (tombstone.sessionId === sessionId) tombstone.graceUntil = Math.min(tombstone.graceUntil, now)
      ended.set(fromHash, { sessionId, userId: record.userId, reason: 'rotated', endedAt: now, graceUntil })
      live.set(toHash, {
        ...record,
        rotatedAt: now,
        lastActiveAt: Math.max(record.lastActiveAt, now),
        ...reauthenticated === null ? {} : { authenticatedAt: now, expiresAt: reauthenticated.expiresAt }
      })
      return true
    }),
    updateSessionData: (id, data) => write('updateSessionData', () => {
      const record = byId(id)?.[1]
      if (record !== undefined) record.data = data
      return record !== undefined
    }),
    touchSessions: touches => write('touchSessions', () => {
      for (const { sessionId, at, ip, userAgent, flagged } of touches) {
        const record = byId(sessionId)?.[1]
        if (record === undefined) continue
        if (at >= record.lastActiveAt) {
          record.lastIp = ip ?? record.lastIp
          record.lastUserAgent = userAgent ?? record.lastUserAgent
        }
        record.lastActiveAt = Math.max(record.lastActiveAt, at)
        record.flagged ||= flagged
      }
    }),
    endSessions: (selection, reason, now) => write('endSessions', () =>
      [...live].filter(([, record]) => matches(selection)(record)).map(([hash, record]) => bury(hash, record, reason, now))),
    changeCounter () {
      call('changeCounter')
      return ended.size
    },
    async listSessionDevices (userId, limit) {
      call('listSessionDevices')
      return (devices.get(userId) ?? []).slice(0, limit)
    },
    async listSessions ({ userId, ip, limit, after, ...liveness }: SessionListParams): Promise<Page<SessionRecord>> {
      call('listSessions')
      const all = [...live.values()]
        .filter(record => isLive(liveness)(record) && (userId ?? record.userId) === record.userId && (ip === undefined || ip === record.ip || ip === record.lastIp))
        .sort((a, b) => b.createdAt - a.createdAt)
      const start = after === undefined ? 0 : all.findIndex(({ id }) => id === after[1]) + 1
      const items = all.slice(start, start + limit).map(record => ({ ...record }))
      return { items, next: start + limit < all.length ? [items.at(-1)!.createdAt, items.at(-1)!.id] : null }
    }
  }
  return storage
}

export interface ManualQueue extends RowQueue<SessionTouch> {
  rows: SessionTouch[]
  limit: number
}

/** A queue that sends its rows when the test says so: `flush`. */
export function createManualQueue (commit: (rows: SessionTouch[]) => Promise<unknown>): ManualQueue {
  const queue = {
    rows: [] as SessionTouch[],
    limit: Infinity,
    offer (row: SessionTouch) {
      if (queue.rows.length >= queue.limit) return false
      queue.rows.push(row)
      return true
    },
    async flush () {
      const { rows } = queue
      queue.rows = []
      await commit(rows)
    }
  }
  return queue as unknown as ManualQueue
}
