/**
 * The self-test on a real database: are the settings what they should be, do a single connection and five concurrent workers
 * get every write in, does a foreign lock delay instead of fail, are the files sound. It writes as a user of its own, and
 * takes all of that away again, also when a check fails.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { MaybePromise, SessionRecord, Storage } from '../storage/storage.js'
import type { Clock } from './clock.js'

/** The outcome of one check. */
export interface Finding {
  check: string
  ok: boolean
  /** What was seen, one line. */
  detail: string
  ms: number
}

export interface DoctorOptions {
  storage: Storage
  /** Opens the same database once more, as another process would. */
  openAnother (): Promise<Storage>
  /** Locks the database against writing; the result lets go. Null where the engine has no such lock. */
  holdLock: ((path: string) => MaybePromise<() => void>) | null
  clock: Clock
  /** Told of each finding as it comes. */
  onFinding? (finding: Finding): void
}

const WORKERS = 5
const WRITES_PER_WORKER = 20
const LOCK_MS = 500
const CLOSE_MS = 10_000

/** What every connection must report, where its engine has the setting. */
const SETTINGS: Record<string, string | number> = { journal_mode: 'wal', synchronous: 1, cache_size: 10_000, temp_store: 2, foreign_keys: 1, trusted_schema: 0 }

/** Runs every check, also after one has failed. Never rejects because of the database: that is a finding. */
export async function runDoctor ({ storage, openAnother, holdLock, clock, onFinding = () => {} }: DoctorOptions): Promise<Finding[]> {
  const userId = `doorman-doctor-${randomUUID()}`
  const checks: [string, () => Promise<string>][] = [
    ['settings of every connection', () => checkSettings(storage)],
    ['single connection: write and read back', () => writeAndRead(storage, userId, clock)],
    [`${WORKERS} concurrent workers`, () => concurrentWorkers(openAnother, userId, clock)],
    ['a foreign lock', () => foreignLock(storage, holdLock, userId, clock)],
    ['integrity', () => checkIntegrity(storage)],
    ['own rows removed', () => removeRows(storage, userId)]
  ]
  const findings: Finding[] = []
  for (const [check, run] of checks) {
    const start = performance.now()
    const finding = await run().then(detail => ({ ok: true, detail }), (error: Error) => ({ ok: false, detail: error.message }))
    findings.push({ check, ...finding, ms: Math.round(performance.now() - start) })
    onFinding(findings.at(-1)!)
  }
  return findings
}

async function checkSettings (storage: Storage): Promise<string> {
  const connections = await storage.connections()
  for (const { role, file, pragmas } of connections) {
    for (const [name, expected] of Object.entries(SETTINGS)) {
      if (name in pragmas && pragmas[name] !== expected) throw new Error(`${name} of ${role} (${file}) is ${pragmas[name]}, not ${expected}`)
    }
  }
  return `${connections.length} connections as they should be`
}

async function writeAndRead (storage: Storage, userId: string, clock: Clock): Promise<string> {
  const id = await openSession(storage, userId, clock)
  await storage.updateSessionData(id, '{"doctor":true}')
  const data = (await storage.getSession(id))?.data
  if (data !== '{"doctor":true}') throw new Error(`read back ${data}`)
  return 'what was written was read back'
}

async function concurrentWorkers (openAnother: () => Promise<Storage>, userId: string, clock: Clock): Promise<string> {
  const workers = await Promise.all(Array.from({ length: WORKERS }, openAnother))
  try {
    const owner = `${userId}-workers`
    await Promise.all(workers.flatMap(worker => Array.from({ length: WRITES_PER_WORKER }, () => openSession(worker, owner, clock))))
    const { sessions } = await workers[0]!.exportUser(owner, 2 * WORKERS * WRITES_PER_WORKER)
    if (sessions.length !== WORKERS * WRITES_PER_WORKER) throw new Error(`${sessions.length} of ${WORKERS * WRITES_PER_WORKER} writes arrived`)
    return `${sessions.length} of ${sessions.length} writes arrived`
  } finally {
    await Promise.all(workers.map(worker => worker.close(CLOSE_MS)))
  }
}

async function foreignLock (storage: Storage, holdLock: DoctorOptions['holdLock'], userId: string, clock: Clock): Promise<string> {
  const { path } = (await storage.stats()).files.main
  if (holdLock === null || path === null) return 'not needed: this engine has no lock on the whole database'
  const release = await holdLock(path)
  const start = performance.now()
  const pulse = startPulse()
  try {
    const write = openSession(storage, userId, clock)
    // Held on to, so that a write that fails at once is no unhandled rejection while the lock still stands.
    write.catch(() => {})
    await delay(LOCK_MS)
    release()
    await write
  } finally {
    pulse.stop()
  }
  return `held for ${LOCK_MS} ms: the write was stored after ${Math.round(performance.now() - start)} ms, the event loop stood still for at most ${pulse.longest()} ms`
}

/** Measures the longest pause between two turns of the event loop. */
function startPulse () {
  let last = performance.now()
  let longest = 0
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }, 1)
  return { stop: () => clearInterval(timer), longest: () => Math.round(longest) }
}

async function checkIntegrity (storage: Storage): Promise<string> {
  const findings = await storage.check()
  if (findings.length > 0) throw new Error(findings.join('; '))
  return 'both files are sound'
}

async function removeRows (storage: Storage, userId: string): Promise<string> {
  const owners = [userId, `${userId}-workers`]
  for (const owner of owners) await storage.eraseUser(owner)
  const left = await Promise.all(owners.map(owner => storage.exportUser(owner, 1000)))
  const rows = left.reduce((sum, held) => sum + held.sessions.length + held.endedSessions.length + held.devices.length, 0)
  if (rows > 0) throw new Error(`${rows} rows are left of user ${userId}`)
  return 'nothing is left of the test'
}

async function openSession (storage: Storage, userId: string, clock: Clock): Promise<string> {
  const now = clock()
  const session: SessionRecord = {
    id: randomUUID(),
    userId,
    createdAt: now,
    lastActiveAt: now,
    authenticatedAt: now,
    rotatedAt: now,
    expiresAt: now + 3_600_000,
    ip: null,
    lastIp: null,
    userAgent: null,
    lastUserAgent: null,
    device: null,
    flagged: false,
    data: '{}'
  }
  // Not the hash of any token: nobody can log in with these sessions.
  await storage.createSession({ tokenHash: randomBytes(32).toString('hex'), session, limit: null, now, idleBefore: 0 })
  return session.id
}
