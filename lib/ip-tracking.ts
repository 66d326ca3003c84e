/** What `fastify.ipTracking` is: the log of requests to read, rows of other services to add, and blocked addresses. */
import { doormanError, show } from '../errors.js'
import type { BlockRecord, IpLogFilter, IpLogRow, Page, PageParams, SeriesPoint, Storage, StoredIpLog, TopBy, TopEntry } from '../storage/storage.js'
import { normaliseAddress } from './address.js'
import type { AddressFinding } from './address-check.js'
import { isHashedAddress, type Anonymizer } from './anonymizer.js'
import type { BlockList, NewBlock } from './block-list.js'
import type { Clock } from './clock.js'
import { readReport, type ReportedRequest } from './ip-reports.js'
import type { Durability } from './ip-tracking-options.js'
import type { RowMaker } from './request-row.js'
import type { RequestListener } from './request-tracker.js'
import type { RowQueue } from './row-queue.js'
import type { TrackerStats } from './visit.js'

export interface IpTracking {
  /**
   * Rows of the log, newest first. `filter.ip` may be spelt in any way; it is looked up in the form that is stored.
   * @throws (rejects) DOORMAN_VALUE_INVALID where it is no address
   */
  list (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>>
  /** The most frequent addresses, paths or user agents. */
  top (by: TopBy, filter: IpLogFilter, limit: number): Promise<TopEntry[]>
  /** Counts over time, oldest first; empty buckets are left out. */
  series (filter: IpLogFilter, bucketMs: number, limit: number): Promise<SeriesPoint[]>
  /**
   * Adds rows of requests that other services served. All are checked before any is taken.
   * @returns how many were taken, and whether they are stored already (`durability: 'committed'`) or queued. Fewer than
   * given: the queue is full, the rest was not taken (queued); report it again.
   * @throws (rejects) DOORMAN_VALUE_INVALID; DOORMAN_ROW_NOT_STORED (committed: report all again, those stored are recognised by their requestId)
   */
  report (items: readonly ReportedRequest[]): Promise<{ accepted: number, committed: boolean }>
  blocks: {
    /** Blocks in force, of all processes. */
    list (): Promise<BlockRecord[]>
    /**
     * Blocks an address or network: at once in this process, within a second in others.
     * @throws (rejects) DOORMAN_VALUE_INVALID; DOORMAN_STORAGE_…
     */
    add (block: NewBlock): Promise<BlockRecord>
    /** Lifts a block; false when there is no such block. */
    remove (id: string): Promise<boolean>
    /**
     * The block in force that covers a whole address or network, as far as this process knows: others' within a second. Null: none does.
     * @throws DOORMAN_VALUE_INVALID
     */
    find (cidr: string): BlockRecord | null
  }
  /** The form of an address that may be stored under the `anonymization` in force. Takes canonical addresses. */
  anonymize (address: string): string
  /** The network of a canonical address (/24, /64) in the form that may be stored. */
  anonymizeNetwork (address: string): string
  /** Calls `listener` whenever a request is over, with the status, the ms since it began and the request; also where it leaves no row. What it throws is logged. */
  onRequestEnd (listener: RequestListener): void
  /**
   * What is wrong, or looks wrong, with where addresses come from, oldest first: judged by `trustProxy` at the registration and by the first
   * requests. Empty where nothing was found, and with `addressCheck: false`. Each was logged once, too.
   */
  check (): AddressFinding[]
  /** Counters since start, of this process. */
  stats (): TrackerStats
}

export interface IpTrackingParts {
  storage: Pick<Storage, 'listIpLogs' | 'topIpLogs' | 'seriesIpLogs'>
  queue: RowQueue<IpLogRow>
  blocks: BlockList
  anonymizer: Anonymizer
  makeRow: RowMaker
  durability: Durability
  clock: Clock
  onRequestEnd (listener: RequestListener): void
  check (): AddressFinding[]
  stats (): TrackerStats
}

export function createIpTracking ({ storage, queue, blocks, anonymizer, makeRow, durability, clock, onRequestEnd, check, stats }: IpTrackingParts): IpTracking {
  function storedForm (filter: IpLogFilter): IpLogFilter {
    if (filter.ip === undefined) return filter
    const address = normaliseAddress(filter.ip)
    if (address !== null) return { ...filter, ip: anonymizer.apply(address) }
    // What was copied from a list of hashed addresses is in the stored form already.
    if (isHashedAddress(filter.ip)) return filter
    throw doormanError('DOORMAN_VALUE_INVALID', ['ip', 'an IPv4 or IPv6 address', show(filter.ip)])
  }

  let reported = 0

  async function report (items: readonly ReportedRequest[]) {
    if (!Array.isArray(items)) throw doormanError('DOORMAN_VALUE_INVALID', ['items', 'a list of requests', show(items)])
    const now = clock()
    const rows = items.map((item: ReportedRequest, index) => readReport(item, index, now, makeRow))
    const committed = durability === 'committed'
    const commits: Promise<void>[] = []
    let accepted = 0
    for (const row of rows) {
      if (!await queue.waitForRoom()) break
      if (committed) commits.push(queue.pushCommitted(row))
      else queue.push(row)
      accepted++
    }
    await Promise.all(commits)
    reported += accepted
    if (accepted < rows.length) {
      queue.countDropped('queue-full', rows.length - accepted)
      if (committed) throw doormanError('DOORMAN_ROW_NOT_STORED')
    }
    return { accepted, committed }
  }

  return {
    list: async (filter, page) => storage.listIpLogs(storedForm(filter), page),
    top: async (by, filter, limit) => storage.topIpLogs(by, storedForm(filter), limit),
    series: async (filter, bucketMs, limit) => storage.seriesIpLogs(storedForm(filter), bucketMs, limit),
    report,
    blocks: { list: blocks.list, add: blocks.add, remove: blocks.remove, find: blocks.find },
    anonymize: anonymizer.apply,
    anonymizeNetwork: anonymizer.network,
    onRequestEnd,
    check,
    stats () {
      const counters = stats()
      return { ...counters, outcomes: { ...counters.outcomes, reported } }
    }
  }
}
