/** The checks of `doorman doctor`, on a sound database and on ones with each fault. */
import t, { type Test } from 'tap'
import { runDoctor, type Finding } from '../../lib/doctor.js'
import { openStorage } from '../../storage/open.js'
import { holdLock } from '../../storage/sqlite/hold-lock.js'
import type { Storage } from '../../storage/storage.js'
import { tempFile } from '../helper.js'

const quiet = { info () {}, warn () {}, error () {}, fatal () {} }

async function setup (t: Test, busyTimeout = 10_000) {
  const url = `file:${tempFile()}`
  const open = () => openStorage({ url, logUrl: null, busyTimeout, maxPending: 1000, log: quiet })
  const storage = await open()
  t.teardown(() => storage.close(1000))
  return { storage, open }
}

/** The same storage with some operations replaced. */
const changed = (storage: Storage, changes: Partial<Storage>): Storage => new Proxy(storage, {
  get (target, name) {
    const value = (changes as Record<string | symbol, unknown>)[name] ?? target[name as keyof Storage]
    return typeof value === 'function' ? value.bind(target) : value
  }
})

const failed = (findings: Finding[]) => findings.filter(finding => !finding.ok).map(({ check, detail }) => `${check}: ${detail}`)

t.test('a sound database passes every check, and nothing is left of the test', async t => {
  const { storage, open } = await setup(t)
  const heard: Finding[] = []
  const findings = await runDoctor({ storage, openAnother: open, holdLock, clock: Date.now, onFinding: finding => heard.push(finding) })
  t.strictSame(failed(findings), [])
  t.strictSame(heard, findings)
  t.strictSame(findings.map(finding => finding.check), [
    'settings of every connection', 'single connection: write and read back', '5 concurrent workers', 'a foreign lock', 'integrity', 'own rows removed'
  ])
  t.match(findings[2]!.detail, '100 of 100 writes arrived')
  t.match(findings[3]!.detail, /^held for 500 ms: the write was stored after (4[5-9]\d|[5-9]\d\d|\d{4,}) ms/)
  t.strictSame((await storage.listSessions({ now: Date.now(), idleBefore: 0, limit: 10 })).items, [])
})

t.test('each check finds what it is for, and the others still run', async t => {
  const { storage } = await setup(t)
  // Opening takes threads; one storage does here for all, and the workers must not close it.
  const shared = changed(storage, { close: async () => ({ notStored: 0 }) })
  const doctor = (changes: Partial<Storage>, more: Partial<Parameters<typeof runDoctor>[0]> = {}) =>
    runDoctor({ storage: changed(storage, changes), openAnother: async () => shared, holdLock: null, clock: Date.now, ...more })
  const empty = { sessions: [], endedSessions: [], devices: [], activity: [], ipLogs: [], deadLetters: [], truncated: false }

  const [report] = await storage.connections()
  t.strictSame(failed(await doctor({ connections: async () => [{ ...report!, pragmas: { journal_mode: 'delete' } }] })), [
    'settings of every connection: journal_mode of main-reader (main) is delete, not wal'
  ])
  t.strictSame(failed(await doctor({ getSession: async () => null })), ['single connection: write and read back: read back undefined'])
  t.strictSame(failed(await doctor({}, { openAnother: async () => changed(shared, { exportUser: async () => empty }) })), ['5 concurrent workers: 0 of 100 writes arrived'])
  t.strictSame(failed(await doctor({ check: async () => ['row 7 missing', 'page 3 lost'] })), ['integrity: row 7 missing; page 3 lost'])
  t.match(failed(await doctor({ eraseUser: async () => ({ sessions: 0, endedSessions: 0, devices: 0, activity: 0, ipLogs: 0, deadLetters: 0 }) })), [
    /^own rows removed: 101 rows are left of user doorman-doctor-/
  ])
  const findings = await doctor({})
  t.strictSame(failed(findings), [])
  t.match(findings[3], { ok: true, detail: /^not needed/ }, 'an engine without a lock on the whole database is not tested for it')
})

t.test('a write that does not survive the lock is a finding', async t => {
  const { storage } = await setup(t, 0)
  const shared = changed(storage, { close: async () => ({ notStored: 0 }) })
  const findings = await runDoctor({ storage, openAnother: async () => shared, holdLock, clock: Date.now })
  t.strictSame(failed(findings), ['a foreign lock: The database stayed locked for longer than 0 ms: try again later'])
})
