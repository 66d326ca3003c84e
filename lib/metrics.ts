/** Which numbers of the suite are exported for Prometheus, under which names. Units are seconds and bytes. */
import type { AbuseStats } from './abuse.js'
import type { CleanupRun, FileStats, HistogramBuckets, LaneStats } from '../storage/storage.js'
import type { DatabaseStats } from './database.js'
import { ADDRESS_FINDINGS, type AddressFinding } from './address-check.js'
import { EVENT_LOOP_RESOLUTION_MS, type DelayHistogram } from './event-loop.js'
import type { Histogram, Labels, MetricFamily, Sample } from './prometheus.js'
import type { TrackerStats } from './request-tracker.js'
import type { RowQueueStats } from './row-queue.js'
import type { SessionStats } from './session-types.js'

/** One line of a table: the value is a number, or several numbers told apart by a label of that name. */
type Get<T> = (item: T) => number | Record<string, number>
type Row<T> = readonly [name: string, type: 'counter' | 'gauge', help: string, get: Get<T>, label?: string]

const FILE_METRICS: readonly Row<FileStats>[] = [
  ['commits_total', 'counter', 'Write transactions committed', s => s.commits],
  ['rows_total', 'counter', 'Rows written', s => s.rows],
  ['busy_total', 'counter', 'Transactions tried again after a lock, by code', s => ({ SQLITE_BUSY: 0, ...s.busy }), 'code'],
  ['lane_operations', 'gauge', 'Operations that wait in the writer, by lane', s => byLane(s, 'operations'), 'lane'],
  ['lane_bytes', 'gauge', 'Estimate of what they carry', s => byLane(s, 'bytes'), 'lane'],
  ['lock_wait_seconds_max', 'gauge', 'Longest wait for a lock since start', s => s.lockWaitMsMax / 1000],
  ['transaction_seconds_max', 'gauge', 'Longest write transaction since start', s => s.transactionMsMax / 1000],
  ['checkpoint_seconds_max', 'gauge', 'Longest time the writer took to copy the WAL back, since start', s => s.checkpointMsMax / 1000],
  ['dead_letters_total', 'counter', 'Rows refused by a constraint and kept in dead_letters', s => s.deadLetters],
  ['wal_frames', 'gauge', 'Frames in the write-ahead log', s => s.walFrames],
  ['wal_backlog_frames', 'gauge', 'Frames not yet copied back into the file; stays high while a reader is pinned', s => s.walBacklog],
  ['oldest_reader_seconds', 'gauge', 'For how long at least a reader has kept the write-ahead log from being copied back; 0 when none does', s => s.oldestReaderMs / 1000],
  ['pages', 'gauge', 'Pages of the file', s => s.pageCount],
  ['free_pages', 'gauge', 'Pages of the file that hold nothing', s => s.freePages],
  ['size_bytes', 'gauge', 'Size of the file', s => s.pageCount * s.pageSize]
]

const byLane = ({ lanes }: FileStats, what: keyof LaneStats): Record<string, number> =>
  Object.fromEntries(Object.entries(lanes).map(([lane, stats]) => [lane, stats[what]]))

/** A histogram per file. `unit`: how many of the numbers' units make one of the exported ones. */
type HistogramRow = readonly [name: string, help: string, unit: number, get: (stats: FileStats) => { buckets: HistogramBuckets, sum: number, count: number }]

const FILE_HISTOGRAMS: readonly HistogramRow[] = [
  ['lock_wait_seconds', 'Waits for a lock: of transactions, and of operations that the deadline ended', 1000, s => ({ buckets: s.lockWaitMsBuckets, sum: s.lockWaitMsTotal, count: s.lockWaits })],
  ['rows_per_commit', 'Rows of each write transaction', 1, s => ({ buckets: s.rowsPerCommitBuckets, sum: s.rows, count: s.commits })]
]

const QUEUE_METRICS: readonly Row<RowQueueStats>[] = [
  ['rows', 'gauge', 'Rows and places held, by state', s => ({ queued: s.queued, in_flight: s.inFlight, reserved: s.reserved }), 'state'],
  ['bytes', 'gauge', 'Estimate of what the rows queued and in flight hold', s => s.bytes],
  ['limit', 'gauge', 'Most rows held at once', s => s.limit],
  ['pushed_total', 'counter', 'Rows put into the queue', s => s.pushed],
  ['committed_total', 'counter', 'Rows committed', s => s.committed],
  ['batches_total', 'counter', 'Batches committed', s => s.batches],
  ['retries_total', 'counter', 'Batches sent again', s => s.retries],
  ['dropped_total', 'counter', 'Rows given up, by reason', s => ({ 'queue-full': 0, 'close-deadline': 0, ...s.dropped }), 'reason'],
  ['healthy', 'gauge', '1 while commits work', s => s.healthy ? 1 : 0]
]

const THREAD_METRICS: readonly Row<{ restarts: number, pendingOperations: number }>[] = [
  ['restarts_total', 'counter', 'Times the thread died and was started again', s => s.restarts],
  ['pending_operations', 'gauge', 'Operations waiting for the thread', s => s.pendingOperations]
]

/** The database and the queues in front of it; `null` when it does not tell. */
export function databaseMetrics (stats: DatabaseStats | null): MetricFamily[] {
  const up = gauge('doorman_database_up', '1 when the database told its numbers', [{ value: stats === null ? 0 : 1 }])
  if (stats === null) return [up]
  const { storage, queues, health } = stats
  return [
    up,
    gauge('doorman_database_info', 'Engine and its version', [{ labels: { engine: storage.engine, version: storage.version }, value: 1 }]),
    gauge('doorman_healthy', '1 while nothing is degraded', [{ value: health.status === 'ok' ? 1 : 0 }]),
    gauge('doorman_degraded', '1 for each reason why something is degraded', health.status === 'ok' ? [] : health.reasons.map(reason => ({ labels: { reason }, value: 1 }))),
    ...table('doorman_database_', 'file', storage.files, FILE_METRICS),
    ...FILE_HISTOGRAMS.map(row => histogram('doorman_database_', storage.files, row)),
    ...table('doorman_thread_', 'thread', { writer: storage.writer, reader: storage.reader }, THREAD_METRICS),
    ...table('doorman_queue_', 'queue', queues, QUEUE_METRICS)
  ]
}

/** The latest cleanup of this process. */
export function cleanupMetrics (run: CleanupRun | null): MetricFamily[] {
  if (run === null) return []
  return [
    gauge('doorman_cleanup_last_run_timestamp_seconds', 'When the latest cleanup of this process started', [{ value: run.startedAt / 1000 }]),
    gauge('doorman_cleanup_last_run_duration_seconds', 'How long it took', [{ value: run.durationMs / 1000 }]),
    gauge('doorman_cleanup_last_run_success', '1 when it got to the end', [{ value: run.complete ? 1 : 0 }]),
    gauge('doorman_cleanup_last_run_removed_rows', 'What it removed, by kind', Object.entries(run.removed).map(([target, value]) => ({ labels: { target }, value })))
  ]
}

const SESSION_METRICS: readonly Row<SessionStats>[] = [
  ['created_total', 'counter', 'Sessions created', s => s.created],
  ['renewed_total', 'counter', 'Sessions that got a new token', s => s.renewed],
  ['ended_total', 'counter', 'Sessions ended, by reason', s => s.ended, 'reason'],
  ['refused_total', 'counter', 'Tokens refused, by reason', s => s.refused, 'reason'],
  ['pending_touches', 'gauge', 'Last uses that wait to be written', s => s.pendingTouches]
]

const TRACKER_METRICS: readonly Row<TrackerStats>[] = [
  ['requests_total', 'counter', 'Requests logged, by how they ended', s => s.outcomes, 'outcome'],
  ['ignored_total', 'counter', 'Requests left out by ignore rules', s => s.ignored],
  ['open_requests', 'gauge', 'Requests that have begun and have no row yet', s => s.open]
]

const ABUSE_METRICS: readonly Row<AbuseStats>[] = [
  ['signals_total', 'counter', 'Signals of abuse', s => s.signals, 'signal'],
  ['blocks_total', 'counter', 'Networks blocked automatically', s => s.blocks.total],
  ['blocks_skipped_total', 'counter', 'Signals that did not block, by reason', s => s.blocks.skipped, 'reason'],
  ['networks', 'gauge', 'Networks, or addresses, that are watched', s => s.watched, 'signal']
]

/** Sessions, as this process has seen them. */
export function sessionMetrics (stats: SessionStats): MetricFamily[] {
  return SESSION_METRICS.map(row => family('doorman_sessions_', row, [[{}, stats]]))
}

/** The log of requests, as this process writes it. */
export function trackerMetrics (stats: TrackerStats): MetricFamily[] {
  return TRACKER_METRICS.map(row => family('doorman_ip_tracking_', row, [[{}, stats]]))
}

/** What is wrong with where addresses come from; see lib/address-check.ts. */
export function addressMetrics (findings: readonly Pick<AddressFinding, 'code'>[]): MetricFamily[] {
  const samples = ADDRESS_FINDINGS.map(code => ({ labels: { code }, value: Number(findings.some(finding => finding.code === code)) }))
  return [gauge('doorman_address_findings', '1 for what was found wrong with where addresses come from', samples)]
}

/** Signals of abuse, of this process. */
export function abuseMetrics (stats: AbuseStats): MetricFamily[] {
  return ABUSE_METRICS.map(row => family('doorman_abuse_', row, [[{}, stats]]))
}

/** Durations of requests; the position is the first digit of the status. */
export function requestMetrics (durations: readonly Histogram[]): MetricFamily[] {
  const histograms = durations.map((histogram, digit) => histogram.sample({ status: `${digit}xx` })).filter(({ count }) => count > 0)
  return [{ name: 'doorman_http_request_duration_seconds', help: 'Time from the request to the end of its reply', type: 'histogram', histograms }]
}

/** The process. `memory` is what process.memoryUsage() tells. */
export function processMetrics (memory: NodeJS.MemoryUsage, startedAt: number): MetricFamily[] {
  return [
    gauge('doorman_process_memory_bytes', 'Memory of the process, by kind', Object.entries(memory).map(([kind, value]) => ({ labels: { kind }, value }))),
    gauge('doorman_process_start_time_seconds', 'When the process started', [{ value: startedAt / 1000 }])
  ]
}

/** How late the event loop was since start. */
export function eventLoopMetrics (delay: DelayHistogram): MetricFamily[] {
  // mean is NaN before the first sample.
  const sum = delay.count === 0 ? 0 : delay.mean * delay.count / 1e9
  return [{
    name: 'doorman_event_loop_delay_seconds',
    help: `Time between two turns of the event loop, sampled every ${EVENT_LOOP_RESOLUTION_MS} ms; ${EVENT_LOOP_RESOLUTION_MS / 1000} is no delay`,
    type: 'summary',
    summaries: [{ quantiles: [0.5, 0.9, 0.99, 0.999, 1].map(q => [q, delay.count === 0 ? 0 : delay.percentile(q * 100) / 1e9]), sum, count: delay.count }]
  }]
}

function gauge (name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { name, help, type: 'gauge', samples }
}

function histogram (prefix: string, files: Record<string, FileStats>, [name, help, unit, get]: HistogramRow): MetricFamily {
  const histograms = Object.entries(files).map(([file, stats]) => {
    const { buckets, sum, count } = get(stats)
    return { labels: { file }, buckets: buckets.map(([bound, n]) => [bound / unit, n] as const), sum: sum / unit, count }
  })
  return { name: prefix + name, help, type: 'histogram', histograms }
}

/** One family per row of the table, with the items told apart by a label. */
function table<T> (prefix: string, itemLabel: string, items: Record<string, T>, rows: readonly Row<T>[]): MetricFamily[] {
  const labelled = Object.entries(items).map(([item, stats]) => [{ [itemLabel]: item }, stats] as const)
  return rows.map(row => family(prefix, row, labelled))
}

/** One sample per item, or one per entry where an item has several. */
function family<T> (prefix: string, [name, type, help, get, label = 'kind']: Row<T>, items: readonly (readonly [Labels, T])[]): MetricFamily {
  const samples = items.flatMap(([labels, stats]): Sample[] => {
    const value = get(stats)
    if (typeof value === 'number') return [{ labels, value }]
    return Object.entries(value).map(([key, n]) => ({ labels: { ...labels, [label]: key }, value: n }))
  })
  return { name: prefix + name, type, help, samples }
}
