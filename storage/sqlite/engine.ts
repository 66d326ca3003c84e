/**
 * The embedded engine: point reads on the main thread (read-only, never waiting), everything else in two threads. See
 * docs/architecture.md for the data flow and for what happens when a part fails.
 */
import { statSync } from 'node:fs'
import { parse, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError, type DoormanError } from '../../errors.js'
import { asHealth } from '../../lib/health.js'
import type { EndReason } from '../../lib/vocabulary.js'
import { isAddressTarget } from '../storage.js'
import type {
  ActivityFilter, AddressErased, AddressExport, BlockRecord, CleanupRun, CloseReport, ConnectionReport, EndedSession, FileStats, Health, IpLogFilter, LeaseParams, LogAppendResult, LogBatch,
  MaintainParams, MaintainResult, MaybePromise, Page, PageParams, SeriesPoint, SessionCreateParams, SessionCreateResult, SessionDevice, SessionListParams,
  SessionLookup, SessionRecord, SessionRotateParams, SessionSelection, SessionTouch, SqlResult, SqlRow, SqlStatement, Storage, StorageFacts, StorageLogger,
  StorageOptions, StorageStats, StoredActivity, StoredIpLog, SweepParams, SweepTarget, TokenHash, TopBy, TopEntry, UserErased, UserExport
} from '../storage.js'
import { AddressData } from './address-data.js'
import type { Connection } from './connection.js'
import { assertWritableDirectory } from './guards.js'
import { assertAllowed } from './host-statements.js'
import type { Location } from './location.js'
import { packRows, type PackedBatch } from './log-wire.js'
import { changeCounter, findSession, probeSessions, readHereOrThere } from './point-reads.js'
import type { WriterFileStats } from './protocol.js'
import { sweepFile } from './retention-writes.js'
import { openParts, type Parts } from './parts.js'
import { failedThreads, type ThreadClient } from './thread-client.js'
import { SessionCache } from './session-cache.js'
import { UserData, type UserDataOptions } from './user-data.js'
import { operationName } from './write-operations.js'

/** An erasure tries this often, with this pause, to cut the WAL: two seconds, longer than any list takes. */
const CUT_ATTEMPTS = 20
const CUT_PAUSE_MS = 100
/** Answers to lists may be lost by a close; what is to be stored may not. So readers get little of the deadline, ms. */
const READERS_CLOSE_MS = 1000

/** Opens both files (creating them if missing) and starts the threads. @throws what guards.ts and open-file.ts throw */
export async function openSqlite (location: Location, options: StorageOptions): Promise<Storage> {
  return new SqliteStorage(location, await openParts(location, options), options.log)
}

class SqliteStorage implements Storage {
  readonly facts: StorageFacts = Object.freeze({ engine: 'sqlite', shared: true, synchronousReads: true, partitions: false, freePages: true, placeholders: 'sqlite' })
  #location: Location
  #parts: Parts
  #local: Connection
  #writer: ThreadClient
  /** For lists. Started when the first one is asked for: many services never do, and a thread costs 20 MB and a fifth of the start. */
  #lists: ThreadClient | undefined
  /** A second reader for what reads whole files (backup, check, counts): lists must not wait behind it. */
  #inspector: ThreadClient | undefined
  #sessions: SessionCache
  #users: UserData
  #addresses: AddressData
  #log: StorageLogger
  /** The WAL, or the file behind it, still holds what was erased or swept: a reader needed it, or the cleanup is not at its end. */
  #cutPending = false
  /** Something was erased since the files were written anew. */
  #rewritePending = false
  #closed: Promise<CloseReport> | undefined

  constructor (location: Location, parts: Parts, log: StorageLogger) {
    this.#location = location
    this.#parts = parts
    this.#local = parts.local
    this.#sessions = new SessionCache({
      read: (tokenHash, now) => findSession(this.#local, tokenHash, now),
      counter: () => changeCounter(this.#local, 'sessions'),
      monotonic: () => performance.now()
    })
    this.#writer = parts.writer
    const personal: UserDataOptions = {
      read: (name, params) => this.#ask(name, params),
      inspect: (name, params) => this.#inspect(name, params),
      write: (name, params) => this.#change(name, params, true),
      listActivity: (filter, page) => this.listActivity(filter, page),
      listIpLogs: (filter, page) => this.listIpLogs(filter, page)
    }
    this.#users = new UserData(personal)
    this.#addresses = new AddressData(personal)
    this.#log = log
  }

  // -------------------------------------------------------------- sessions

  findSession (tokenHash: TokenHash, now: number, idleBefore = Infinity): MaybePromise<SessionLookup | null> {
    this.#assertReadable()
    return this.#sessions.remembered(tokenHash, idleBefore) ?? this.#pointRead(() => this.#sessions.find(tokenHash, now, idleBefore), 'findSession', { tokenHash, now })
  }

  probeSessions (): MaybePromise<void> { return this.#pointRead(() => probeSessions(this.#local), 'probeSessions', {}) }

  changeCounter (name: 'blocks' | 'sessions'): MaybePromise<number> {
    return this.#pointRead(() => changeCounter(this.#local, name), 'changeCounter', { name })
  }

  #pointRead<T> (read: () => T, name: string, params: object): MaybePromise<T> {
    this.#assertReadable()
    try {
      return readHereOrThere(read, () => this.#ask<T>(name, params))
    } catch (error) {
      this.#parts.failures.note(error as DoormanError)
      throw error
    }
  }

  /** A change of the main file. Whatever became of it, the next check of a session looks whether sessions have changed. */
  #change<T> (name: string, params: unknown, uncounted = false): Promise<T> {
    return this.#writer.run<T>(name, params, uncounted).finally(() => { this.#sessions.recheck() })
  }

  getSession (id: string): Promise<SessionRecord | null> { return this.#ask('getSession', { id }) }
  createSession (params: SessionCreateParams): Promise<SessionCreateResult> { return this.#change('createSession', params) }
  rotateSession (params: SessionRotateParams): Promise<boolean> { return this.#change('rotateSession', params) }
  updateSessionData (id: string, data: string): Promise<boolean> { return this.#change('updateSessionData', { id, data }) }
  async touchSessions (touches: SessionTouch[]): Promise<void> {
    await this.#change('touchSessions', touches, true)
    for (const { sessionId } of touches) this.#sessions.forget(sessionId)
  }

  endSessions (selection: SessionSelection, reason: EndReason, now: number): Promise<EndedSession[]> { return this.#change('endSessions', { selection, reason, now }) }
  listSessions (params: SessionListParams): Promise<Page<SessionRecord>> { return this.#ask('listSessions', params) }
  listSessionDevices (userId: string, limit: number): Promise<SessionDevice[]> { return this.#ask('listSessionDevices', { userId, limit }) }

  // -------------------------------------------------------------- the log

  appendLog (batch: LogBatch): Promise<LogAppendResult> { return this.#writer.run('appendLog', { ...batch, rows: packRows(batch.rows) } satisfies PackedBatch, true) }
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>> { return this.#ask('listIpLogs', { filter, page }) }
  topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]> { return this.#ask('topIpLogs', { by, filter, limit }) }
  seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]> { return this.#ask('seriesIpLogs', { filter, bucketMs, limit }) }
  listActivity (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>> { return this.#ask('listActivity', { filter, page }) }

  // -------------------------------------------------------------- blocks, retention

  listBlocks (now: number): Promise<BlockRecord[]> { return this.#writer.run('listBlocks', { now }, true) }
  async addBlock (block: BlockRecord): Promise<void> { await this.#writer.run('addBlock', block) }
  removeBlock (id: string): Promise<boolean> { return this.#writer.run('removeBlock', { id }) }

  async sweep (params: SweepParams): Promise<number> {
    const changed = isAddressTarget(params.target)
      ? await this.#addresses.sweep(params.target, params)
      : await this.#change<number>(operationName('sweep', sweepFile(params.target)), params, true)
    // Until it is copied back, the file has the pages as they were.
    this.#cutPending ||= changed > 0
    return changed
  }

  countSweepable (cutoffs: Record<SweepTarget, number>, now: number): Promise<Record<SweepTarget, number>> { return this.#inspect('countSweepable', { cutoffs, now }) }
  async maintain (params: MaintainParams): Promise<MaintainResult> {
    if (this.#rewritePending) {
      this.#rewritePending = !(await this.#onBothFiles<boolean>('rewrite', null)).every(Boolean)
      this.#cutPending = true
    }
    const [main, log] = await this.#onBothFiles<MaintainResult>('maintain', params)
    if (this.#cutPending) this.#cutPending = !await this.#cutWal()
    return { freedPages: main.freedPages + log.freedPages, remainingPages: main.remainingPages + log.remainingPages }
  }

  acquireLease (params: LeaseParams): Promise<boolean> { return this.#writer.run('acquireLease', params, true) }
  async releaseLease (name: string, holder: string, completedAt: number | null): Promise<void> { await this.#writer.run('releaseLease', { name, holder, completedAt }, true) }
  async addCleanupRun (run: CleanupRun): Promise<void> { await this.#writer.run('addCleanupRun', run, true) }
  listCleanupRuns (page: PageParams): Promise<Page<CleanupRun>> { return this.#ask('listCleanupRuns', page) }

  // -------------------------------------------------------------- personal data

  exportUser (userId: string, limit: number): Promise<UserExport> { return this.#users.export(userId, limit) }

  async eraseUser (userId: string): Promise<UserErased> {
    const erased = await this.#users.erase(userId)
    await this.#overwrite()
    return erased
  }

  exportAddress (ip: string, limit: number): Promise<AddressExport> { return this.#addresses.export(ip, limit) }

  async eraseAddress (ip: string): Promise<AddressErased> {
    const erased = await this.#addresses.erase(ip)
    await this.#overwrite()
    return erased
  }

  /** What was erased is gone from the pages it was in; here it goes from the WAL, and, with the next cleanup, from pages that once were divided. */
  async #overwrite (): Promise<void> {
    this.#rewritePending = true
    for (let i = 1; !await this.#cutWal(); i++) {
      if (i === CUT_ATTEMPTS) {
        this.#cutPending = true
        this.#log.warn({}, 'what was erased is still in the WAL, because a reader needs it: the next cleanup cuts it')
        break
      }
      await sleep(CUT_PAUSE_MS)
    }
  }

  /** The WAL holds pages as they were; cutting it is refused, at once, while any reader is on it. */
  async #cutWal (): Promise<boolean> {
    return (await this.#onBothFiles<boolean>('scrub', null)).every(Boolean)
  }

  #onBothFiles<T> (name: 'maintain' | 'scrub' | 'rewrite', params: unknown): Promise<[T, T]> {
    return Promise.all([this.#writer.run<T>(operationName(name, 'main'), params, true), this.#writer.run<T>(operationName(name, 'log'), params, true)])
  }

  // -------------------------------------------------------------- the host's own tables

  async batch (statements: readonly SqlStatement[]): Promise<SqlResult[]> {
    assertAllowed(statements)
    return this.#change('batch', { statements })
  }

  async get (statement: SqlStatement): Promise<SqlRow | undefined> {
    assertAllowed([statement])
    return this.#ask('getRow', statement)
  }

  async all (statement: SqlStatement): Promise<SqlRow[]> {
    assertAllowed([statement])
    return this.#ask('allRows', statement)
  }

  // -------------------------------------------------------------- condition

  async backup (file: string): Promise<string[]> {
    const { dir, name, ext } = parse(resolve(file))
    assertWritableDirectory(dir)
    const paths = { main: resolve(file), log: resolve(dir, `${name}-log${ext}`) }
    const present = Object.values(paths).find(path => statSync(path, { throwIfNoEntry: false }) !== undefined)
    if (present !== undefined) throw doormanError('DOORMAN_VALUE_INVALID', ['file', 'a path where nothing exists yet', present])
    return this.#inspect('backup', paths)
  }

  check (): Promise<string[]> { return this.#inspect('check', null) }

  /** @throws DOORMAN_STORAGE_CLOSED, DOORMAN_STORAGE_REPLACED */
  #assertReadable (): void {
    const { replaced } = this.#parts.failures
    if (replaced !== undefined) throw replaced
    if (this.#closed !== undefined) throw doormanError('DOORMAN_STORAGE_CLOSED')
  }

  async #ask<T> (name: string, params: unknown): Promise<T> {
    this.#assertReadable()
    this.#lists ??= this.#parts.start('reader')
    return this.#lists.run(name, params)
  }

  async #inspect<T> (name: string, params: unknown): Promise<T> {
    this.#assertReadable()
    this.#inspector ??= this.#parts.start('reader')
    return this.#inspector.run(name, params)
  }

  async connections (): Promise<ConnectionReport[]> {
    const lists = await this.#ask<ConnectionReport[]>('connections', null)
    const threads = [this.#writer, ...this.#inspector === undefined ? [] : [this.#inspector]]
    const reports = await Promise.all(threads.map(thread => thread.run<ConnectionReport[]>('connections', null)))
    return [this.#local.report(), ...reports.flat(), ...lists, this.#parts.held.report()]
  }

  async stats (): Promise<StorageStats> {
    const files = await this.#writer.run<Record<'main' | 'log', WriterFileStats>>('stats', null)
    const withPath = (file: 'main' | 'log'): FileStats => ({ path: this.#location[file], ...files[file] })
    return {
      engine: 'sqlite',
      version: this.#parts.version,
      files: { main: withPath('main'), log: withPath('log') },
      writer: { restarts: this.#writer.restarts, pendingOperations: this.#writer.pending },
      reader: { restarts: this.#lists?.restarts ?? 0, pendingOperations: this.#lists?.pending ?? 0 }
    }
  }

  health (): Health {
    return asHealth([...failedThreads({ writer: this.#writer, reader: this.#lists }), ...this.#parts.notices.reasons(), ...this.#parts.failures.reasons()])
  }

  get failure (): DoormanError | undefined {
    return this.#parts.failures.fatal
  }

  close (deadlineMs: number): Promise<CloseReport> {
    this.#closed ??= this.#shutDown(deadlineMs)
    return this.#closed
  }

  /** The writer last: the last connection to close copies the WAL back and removes it. All within one deadline. */
  async #shutDown (deadlineMs: number): Promise<CloseReport> {
    const end = performance.now() + deadlineMs
    // Are these still our files? The writer has to learn it while there are readers, see writer-thread.ts.
    const asked = this.#writer.run('assertSame', null, true).catch(() => {})
    await Promise.race([asked, sleep(Math.min(deadlineMs, READERS_CLOSE_MS), undefined, { ref: false })])
    await Promise.all([this.#lists, this.#inspector].map(thread => thread?.close(Math.min(deadlineMs, READERS_CLOSE_MS))))
    this.#local.close()
    this.#parts.held.close()
    return { notStored: await this.#writer.close(Math.max(0, end - performance.now())) }
  }
}
