/**
 * The engine on a server: PostgreSQL, and what speaks its protocol. Composes the parts; each of them takes its connections from the pool. See
 * docs/architecture.md for what happens when the server goes away.
 */
import { doormanError, type DoormanError } from '../../errors.js'
import { asHealth } from '../../lib/health.js'
import type { EndReason } from '../../lib/vocabulary.js'
import type {
  ActivityFilter, AddressErased, AddressExport, BlockRecord, CleanupRun, CloseReport, ConnectionReport, EndedSession, Health, IpLogFilter, LeaseParams, LogAppendResult, LogBatch, MaintainResult, Page,
  PageParams, SeriesPoint, SessionCreateParams, SessionCreateResult, SessionDevice, SessionListParams, SessionLookup, SessionRecord, SessionRotateParams, SessionSelection,
  SessionTouch, SqlResult, SqlRow, SqlStatement, Storage, StorageFacts, StorageOptions, StorageStats, StoredActivity, StoredIpLog, SweepParams, SweepTarget,
  TokenHash, TopBy, TopEntry, UserErased, UserExport
} from '../storage.js'
import { NO_TOKEN } from '../storage.js'
import { AddressData } from './address-scan.js'
import { addBlock, changeCounter, listBlocks, removeBlock } from './blocks.js'
import { acquireLease, addCleanupRun, listCleanupRuns, releaseLease } from './cleanup-records.js'
import type { Pages } from './counters.js'
import { allRows, runBatch } from './host-statements.js'
import { assertNoImport } from './import-state.js'
import { askSizes, check, describeConnection } from './inspection.js'
import type { PostgresLocation } from './location.js'
import { LogAppender } from './log-append.js'
import { LogQueries } from './log-queries.js'
import { Lookups } from './lookups.js'
import { openParts, type EngineOptions, type Parts } from './open-parts.js'
import type { PostgresPool } from './pool.js'
import { Retention } from './retention.js'
import { listSessionDevices } from './session-devices.js'
import { getSession, listSessions } from './session-queries.js'
import { SessionWrites } from './session-writes.js'
import { UserData } from './user-data.js'

export type { EngineOptions } from './open-parts.js'

/** Every request with a session waits for its lookup: past this, ms, it says that sessions cannot be checked. */
const LOOKUP_WAIT_MS = 5000

/**
 * Opens a storage.
 * @throws what `openParts` throws, and DOORMAN_MIGRATION_UNFINISHED
 */
export async function openPostgres (location: PostgresLocation, options: StorageOptions, engineOptions: EngineOptions = {}): Promise<Storage> {
  const parts = await openParts(location, options, engineOptions)
  try {
    await parts.pool.run({ lane: 'interactive', uncounted: true, readOnly: true }, client => assertNoImport(client, `"${location.name}" on ${location.where}`))
    return new PostgresStorage(parts)
  } catch (error) {
    await parts.pool.close(0)
    throw error
  }
}

class PostgresStorage implements Storage {
  readonly facts: StorageFacts
  /** The server may be gone for ever, and come back the next minute: nothing is ever given up. */
  readonly failure: DoormanError | undefined = undefined
  #parts: Parts
  #pool: PostgresPool
  #lookups: Lookups
  #lookupWait: number
  #sessions: SessionWrites
  #appender: LogAppender
  #queries: LogQueries
  #retention: Retention
  #users: UserData
  #addresses: AddressData
  #sizes: Record<'main' | 'log', Pages> = { main: { pageCount: 0, pageSize: 0 }, log: { pageCount: 0, pageSize: 0 } }
  #closed: Promise<CloseReport> | undefined

  constructor (parts: Parts) {
    const { pool, partitions, random, busyTimeout } = this.#parts = parts
    this.facts = Object.freeze({ engine: 'postgres', shared: true, synchronousReads: false, partitions: partitions.partitioned, freePages: false, placeholders: 'numbered' })
    this.#pool = pool
    this.#lookupWait = Math.min(LOOKUP_WAIT_MS, busyTimeout)
    this.#lookups = new Lookups(pool, this.#lookupWait)
    this.#sessions = new SessionWrites(pool, random)
    this.#appender = new LogAppender(pool, partitions)
    this.#queries = new LogQueries(pool)
    this.#addresses = new AddressData(pool, this.#queries)
    this.#retention = new Retention(pool, partitions, this.#addresses)
    this.#users = new UserData(pool, this.#queries)
  }

  async findSession (tokenHash: TokenHash, now: number): Promise<SessionLookup | null> { return this.#lookups.find(tokenHash, now) }
  /** Ends in the same lookup as any check. */
  async probeSessions (): Promise<void> { await this.#lookups.find(NO_TOKEN, 0) }
  async changeCounter (name: 'blocks' | 'sessions'): Promise<number> { return changeCounter(this.#pool, name, this.#lookupWait) }
  async getSession (id: string): Promise<SessionRecord | null> { return getSession(this.#pool, id) }
  async createSession (params: SessionCreateParams): Promise<SessionCreateResult> { return this.#sessions.create(params) }
  async rotateSession (params: SessionRotateParams): Promise<boolean> { return this.#sessions.rotate(params) }
  async updateSessionData (id: string, data: string): Promise<boolean> { return this.#sessions.updateData(id, data) }
  async touchSessions (touches: SessionTouch[]): Promise<void> { return this.#sessions.touch(touches) }
  async endSessions (selection: SessionSelection, reason: EndReason, now: number): Promise<EndedSession[]> { return this.#sessions.end(selection, reason, now) }
  async listSessions (params: SessionListParams): Promise<Page<SessionRecord>> { return listSessions(this.#pool, params) }
  async listSessionDevices (userId: string, limit: number): Promise<SessionDevice[]> { return listSessionDevices(this.#pool, userId, limit) }

  async appendLog (batch: LogBatch): Promise<LogAppendResult> { return this.#appender.append(batch) }
  async listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>> { return this.#queries.listIpLogs(filter, page) }
  async topIpLogs (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]> { return this.#queries.topIpLogs(by, filter, limit) }
  async seriesIpLogs (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]> { return this.#queries.seriesIpLogs(filter, bucketMs, limit) }
  async listActivity (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>> { return this.#queries.listActivity(filter, page) }

  async listBlocks (now: number): Promise<BlockRecord[]> { return listBlocks(this.#pool, now) }
  async addBlock (block: BlockRecord): Promise<void> { return addBlock(this.#pool, block) }
  async removeBlock (id: string): Promise<boolean> { return removeBlock(this.#pool, id) }

  async sweep (params: SweepParams): Promise<number> { return this.#retention.sweep(params) }
  async countSweepable (cutoffs: Record<SweepTarget, number>, now: number): Promise<Record<SweepTarget, number>> { return this.#retention.countSweepable(cutoffs, now) }
  async maintain (): Promise<MaintainResult> { return this.#retention.maintain() }
  async acquireLease (params: LeaseParams): Promise<boolean> { return acquireLease(this.#pool, params) }
  async releaseLease (name: string, holder: string, completedAt: number | null): Promise<void> { return releaseLease(this.#pool, name, holder, completedAt) }
  async addCleanupRun (run: CleanupRun): Promise<void> { return addCleanupRun(this.#pool, run) }
  async listCleanupRuns (page: PageParams): Promise<Page<CleanupRun>> { return listCleanupRuns(this.#pool, page) }

  async exportUser (userId: string, limit: number): Promise<UserExport> { return this.#users.export(userId, limit) }
  async eraseUser (userId: string): Promise<UserErased> { return this.#users.erase(userId) }
  async exportAddress (ip: string, limit: number): Promise<AddressExport> { return this.#addresses.export(ip, limit) }
  async eraseAddress (ip: string): Promise<AddressErased> { return this.#addresses.erase(ip) }

  async batch (statements: readonly SqlStatement[]): Promise<SqlResult[]> { return runBatch(this.#pool, statements) }
  async get (statement: SqlStatement): Promise<SqlRow | undefined> { return (await allRows(this.#pool, statement))[0] }
  async all (statement: SqlStatement): Promise<SqlRow[]> { return allRows(this.#pool, statement) }

  async backup (): Promise<string[]> { throw doormanError('DOORMAN_UNSUPPORTED', ['A backup', 'use pg_dump, or the backups of the service that runs the server']) }
  async check (): Promise<string[]> { return check(this.#pool) }
  async connections (): Promise<ConnectionReport[]> { return [await describeConnection(this.#pool, this.#parts.busyTimeout)] }

  /** Answers also while the server cannot be reached: then with the sizes that were known last. */
  async stats (): Promise<StorageStats> {
    const { connections, counters, version } = this.#parts
    this.#sizes = await askSizes(this.#pool).catch(() => this.#sizes)
    const nothing = { interactive: 0, bulk: 0, maintenance: 0 }
    const pendingOperations = this.#pool.pending
    return {
      engine: 'postgres',
      version,
      // One queue for both: told once, with the sessions.
      files: { main: counters.main.stats(connections.waiting, this.#sizes.main, 0), log: counters.log.stats(nothing, this.#sizes.log, this.#appender.deadLetters) },
      writer: { restarts: 0, pendingOperations },
      reader: { restarts: 0, pendingOperations: 0 }
    }
  }

  health (): Health { return asHealth(this.#parts.circuit.reasons()) }

  close (deadlineMs: number): Promise<CloseReport> {
    this.#closed ??= this.#pool.close(deadlineMs).then(notStored => ({ notStored }))
    return this.#closed
  }
}
