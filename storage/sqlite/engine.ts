/**
 * The embedded engine: point reads on the main thread (read-only, never waiting), everything else in two threads. See
 * docs/architecture.md for the data flow and for what happens when a part fails.
 */
import Database from 'better-sqlite3'
import { statSync } from 'node:fs'
import { parse, resolve } from 'node:path'
import { doormanError } from '../../errors.js'
import type { EndReason } from '../../lib/vocabulary.js'
import type {
  BlockRecord, CleanupRun, CloseReport, ConnectionReport, EndedSession, FileStats, Health, IpLogFilter, LeaseParams, LogAppendResult, LogBatch,
  MaintainParams, MaintainResult, MaybePromise, Page, PageParams, SeriesPoint, SessionCreateParams, SessionCreateResult, SessionListParams,
  SessionLookup, SessionRecord, SessionRotateParams, SessionSelection, SessionTouch, SqlResult, SqlRow, SqlStatement, Storage, StorageFacts,
  StorageOptions, StorageStats, StoredActivity, StoredIpLog, SweepParams, SweepTarget, TopBy, TopEntry, UserErased, UserExport
} from '../storage.js'
import { Connection } from './connection.js'
import { assertOneLibrary, assertSqliteVersion, loadedObjects, prepareLocation } from './guards.js'
import { assertAllowed } from './host-statements.js'
import type { Location } from './location.js'
import { changeCounter, findSession, readHereOrThere } from './point-reads.js'
import type { WriterFileStats } from './protocol.js'
import type { ActivityFilter } from './queries.js'
import { sweepFile, type LogErasure } from './retention-writes.js'
import { ThreadClient, threadHealth } from './thread-client.js'
import { operationName } from './write-operations.js'

/** Rows per step when a user is erased. */
const ERASE_STEP = 1000

/** The version of SQLite; also proves that the native part can be loaded. @throws DOORMAN_SQLITE_MISSING */
export function sqliteVersion (open: () => Database.Database = () => new Database(':memory:')): string {
  let db: Database.Database
  try {
    db = open()
  } catch (error) {
    throw doormanError('DOORMAN_SQLITE_MISSING', [(error as Error).message.split('\n', 1)[0]], error)
  }
  const { version } = db.prepare('SELECT sqlite_version() AS version').get() as { version: string }
  db.close()
  return version
}

/** Opens both files (creating them if missing) and starts the threads. @throws what guards.ts and open-file.ts throw */
export async function openSqlite (location: Location, options: StorageOptions): Promise<Storage> {
  const version = sqliteVersion()
  assertSqliteVersion(version)
  assertOneLibrary(loadedObjects())
  prepareLocation(location.main)
  prepareLocation(location.log)
  const settings = { location, busyTimeout: options.busyTimeout }
  const { maxPending, log } = options
  const writer = new ThreadClient({ name: 'writer', script: new URL('./writer-thread.js', import.meta.url), settings, maxPending, log })
  await writer.ready
  const reader = new ThreadClient({ name: 'reader', script: new URL('./reader-thread.js', import.meta.url), settings, maxPending, log })
  await reader.ready
  return new SqliteStorage(version, location, new Connection({ path: location.main, role: 'main-reader', file: 'main' }), writer, reader)
}

class SqliteStorage implements Storage {
  readonly facts: StorageFacts = Object.freeze({ engine: 'sqlite', shared: true, synchronousReads: true })
  #version: string
  #location: Location
  #local: Connection
  #writer: ThreadClient
  #reader: ThreadClient
  #closed: Promise<CloseReport> | undefined

  constructor (version: string, location: Location, local: Connection, writer: ThreadClient, reader: ThreadClient) {
    this.#version = version
    this.#location = location
    this.#local = local
    this.#writer = writer
    this.#reader = reader
  }

  // -------------------------------------------------------------- sessions

  findSession (tokenHash: Uint8Array, now: number): MaybePromise<SessionLookup | null> {
    return this.#pointRead(() => findSession(this.#local, tokenHash, now), 'findSession', { tokenHash, now })
  }

  changeCounter (name: 'blocks' | 'sessions'): MaybePromise<number> {
    return this.#pointRead(() => changeCounter(this.#local, name), 'changeCounter', { name })
  }

  #pointRead<T> (read: () => T, name: string, params: object): MaybePromise<T> {
    if (this.#closed !== undefined) throw doormanError('DOORMAN_STORAGE_CLOSED')
    return readHereOrThere(read, () => this.#reader.run<T>(name, params))
  }

  getSession (id: string): Promise<SessionRecord | null> { return this.#reader.run('getSession', { id }) }
  createSession (params: SessionCreateParams): Promise<SessionCreateResult> { return this.#writer.run('createSession', params) }
  rotateSession (params: SessionRotateParams): Promise<boolean> { return this.#writer.run('rotateSession', params) }
  updateSessionData (id: string, data: string): Promise<boolean> { return this.#writer.run('updateSessionData', { id, data }) }
  touchSessions (touches: SessionTouch[]): Promise<void> { return this.#writer.run('touchSessions', touches, true) }
  endSessions (selection: SessionSelection, reason: EndReason, now: number): Promise<EndedSession[]> { return this.#writer.run('endSessions', { selection, reason, now }) }
  listSessions (params: SessionListParams): Promise<Page<SessionRecord>> { return this.#reader.run('listSessions', params) }

  // -------------------------------------------------------------- the log

  appendLog (batch: LogBatch): Promise<LogAppendResult> { return this.#writer.run('appendLog', batch, true) }
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>> { return this.#reader.run('listIpLogs', { filter, page }) }
  topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]> { return this.#reader.run('topIpLogs', { by, filter, limit }) }
  seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]> { return this.#reader.run('seriesIpLogs', { filter, bucketMs, limit }) }
  listActivity (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>> { return this.#reader.run('listActivity', { filter, page }) }

  // -------------------------------------------------------------- blocks, retention

  listBlocks (now: number): Promise<BlockRecord[]> { return this.#reader.run('listBlocks', { now }) }
  async addBlock (block: BlockRecord): Promise<void> { await this.#writer.run('addBlock', block) }
  removeBlock (id: string): Promise<boolean> { return this.#writer.run('removeBlock', { id }) }

  sweep (params: SweepParams): Promise<number> { return this.#writer.run(operationName('sweep', sweepFile(params.target)), params) }
  countSweepable (cutoffs: Record<SweepTarget, number>): Promise<Record<SweepTarget, number>> { return this.#reader.run('countSweepable', cutoffs) }
  async maintain (params: MaintainParams): Promise<MaintainResult> {
    const [main, log] = await this.#onBothFiles<MaintainResult>('maintain', params)
    return { freedPages: main.freedPages + log.freedPages, remainingPages: main.remainingPages + log.remainingPages }
  }

  acquireLease (params: LeaseParams): Promise<boolean> { return this.#writer.run('acquireLease', params) }
  async releaseLease (name: string, holder: string, completedAt: number | null): Promise<void> { await this.#writer.run('releaseLease', { name, holder, completedAt }) }
  async addCleanupRun (run: CleanupRun): Promise<void> { await this.#writer.run('addCleanupRun', run) }
  listCleanupRuns (page: PageParams): Promise<Page<CleanupRun>> { return this.#reader.run('listCleanupRuns', page) }

  // -------------------------------------------------------------- a user's data

  async exportUser (userId: string, limit: number): Promise<UserExport> {
    const [held, activity, ipLogs] = await Promise.all([
      this.#reader.run<Pick<UserExport, 'sessions' | 'endedSessions'>>('exportSessions', { userId, limit }),
      this.listActivity({ userId }, { limit }),
      this.listIpLogs({ userId }, { limit })
    ])
    const truncated = activity.next !== null || ipLogs.next !== null || held.sessions.length === limit || held.endedSessions.length === limit
    return { ...held, activity: activity.items, ipLogs: ipLogs.items, truncated }
  }

  async eraseUser (userId: string): Promise<UserErased> {
    const erased: UserErased = { ...await this.#writer.run<Pick<UserErased, 'sessions' | 'endedSessions'>>('eraseSessions', { userId }), activity: 0, ipLogs: 0, deadLetters: 0 }
    for (;;) {
      const step = await this.#writer.run<LogErasure>('eraseLog', { userId, limit: ERASE_STEP })
      if (step.activity + step.ipLogs + step.deadLetters === 0) break
      erased.activity += step.activity
      erased.ipLogs += step.ipLogs
      erased.deadLetters += step.deadLetters
    }
    // The WAL still holds the pages as they were; where a reader prevents cutting it now, the next checkpoints do it.
    await this.#onBothFiles('scrub', null)
    return erased
  }

  #onBothFiles<T> (name: 'maintain' | 'scrub', params: unknown): Promise<[T, T]> {
    return Promise.all([this.#writer.run<T>(operationName(name, 'main'), params), this.#writer.run<T>(operationName(name, 'log'), params)])
  }

  // -------------------------------------------------------------- the host's own tables

  async batch (statements: readonly SqlStatement[]): Promise<SqlResult[]> {
    assertAllowed(statements)
    return this.#writer.run('batch', { statements })
  }

  async get (statement: SqlStatement): Promise<SqlRow | undefined> {
    assertAllowed([statement])
    return this.#reader.run('getRow', statement)
  }

  async all (statement: SqlStatement): Promise<SqlRow[]> {
    assertAllowed([statement])
    return this.#reader.run('allRows', statement)
  }

  // -------------------------------------------------------------- condition

  async backup (file: string): Promise<string[]> {
    const { dir, name, ext } = parse(resolve(file))
    const paths = { main: resolve(file), log: resolve(dir, `${name}-log${ext}`) }
    const present = Object.values(paths).find(path => statSync(path, { throwIfNoEntry: false }) !== undefined)
    if (present !== undefined) throw doormanError('DOORMAN_VALUE_INVALID', ['file', 'a path where nothing exists yet', present])
    return this.#reader.run('backup', paths)
  }

  check (): Promise<string[]> { return this.#reader.run('check', null) }

  async connections (): Promise<ConnectionReport[]> {
    const [writer, reader] = await Promise.all([this.#writer.run<ConnectionReport[]>('connections', null), this.#reader.run<ConnectionReport[]>('connections', null)])
    return [this.#local.report(), ...writer, ...reader]
  }

  async stats (): Promise<StorageStats> {
    const files = await this.#writer.run<Record<'main' | 'log', WriterFileStats>>('stats', null)
    const withPath = (file: 'main' | 'log'): FileStats => ({ path: this.#location[file], ...files[file] })
    return {
      engine: 'sqlite',
      version: this.#version,
      files: { main: withPath('main'), log: withPath('log') },
      writer: { restarts: this.#writer.restarts, pendingOperations: this.#writer.pending },
      reader: { restarts: this.#reader.restarts, pendingOperations: this.#reader.pending }
    }
  }

  health (): Health {
    return threadHealth({ writer: this.#writer, reader: this.#reader })
  }

  close (deadlineMs: number): Promise<CloseReport> {
    this.#closed ??= this.#shutDown(deadlineMs)
    return this.#closed
  }

  /** The writer last: the last connection to close copies the WAL back and removes it. */
  async #shutDown (deadlineMs: number): Promise<CloseReport> {
    await this.#reader.close(deadlineMs)
    this.#local.close()
    return { notStored: await this.#writer.close(deadlineMs) }
  }
}
