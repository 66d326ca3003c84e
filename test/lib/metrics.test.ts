/** Names, units and labels of the exported numbers. */
import t from 'tap'
import { addressMetrics, cleanupMetrics, databaseMetrics, eventLoopMetrics, processMetrics, requestMetrics, sessionMetrics, trackerMetrics } from '../../lib/metrics.js'
import { createHistogram, renderMetrics, type MetricFamily } from '../../lib/prometheus.js'
import { nothingRemoved } from '../../lib/sweep-run.js'
import type { TrackerStats } from '../../lib/request-tracker.js'
import type { SessionStats } from '../../lib/session-types.js'
import { databaseStats } from '../fake-database.js'

/** The sample lines, for looking up. */
const lines = (families: MetricFamily[]) => renderMetrics(families).split('\n').filter(line => line !== '' && !line.startsWith('#'))

t.test('the database: one sample per file, thread and queue', async t => {
  const text = lines(databaseMetrics(databaseStats()))
  for (const line of [
    'doorman_database_up 1',
    'doorman_database_info{engine="sqlite",version="3.53.2"} 1',
    'doorman_healthy 0',
    'doorman_degraded{reason="the disk is \\"full\\""} 1',
    'doorman_database_commits_total{file="main"} 1',
    'doorman_database_commits_total{file="log"} 1',
    'doorman_database_rows_total{file="log"} 2',
    'doorman_database_busy_total{file="log",code="SQLITE_BUSY"} 3',
    'doorman_database_lane_operations{file="log",lane="interactive"} 10',
    'doorman_database_lane_operations{file="log",lane="bulk"} 12',
    'doorman_database_lane_operations{file="main",lane="maintenance"} 14',
    'doorman_database_lane_bytes{file="log",lane="interactive"} 11',
    'doorman_database_lane_bytes{file="log",lane="bulk"} 13',
    'doorman_database_lane_bytes{file="log",lane="maintenance"} 15',
    'doorman_database_lock_wait_seconds_bucket{file="log",le="0.001"} 0',
    'doorman_database_lock_wait_seconds_bucket{file="log",le="0.25"} 3',
    'doorman_database_lock_wait_seconds_bucket{file="log",le="+Inf"} 4',
    'doorman_database_lock_wait_seconds_sum{file="log"} 1.5',
    'doorman_database_lock_wait_seconds_count{file="log"} 4',
    'doorman_database_rows_per_commit_bucket{file="main",le="2"} 1',
    'doorman_database_rows_per_commit_sum{file="main"} 2',
    'doorman_database_rows_per_commit_count{file="main"} 1',
    'doorman_database_lock_wait_seconds_max{file="log"} 0.25',
    'doorman_database_transaction_seconds_max{file="log"} 0.02',
    'doorman_database_checkpoint_seconds_max{file="log"} 0.03',
    'doorman_database_dead_letters_total{file="log"} 5',
    'doorman_database_wal_frames{file="log"} 6',
    'doorman_database_wal_backlog_frames{file="log"} 7',
    'doorman_database_oldest_reader_seconds{file="log"} 1.6',
    'doorman_database_pages{file="log"} 8',
    'doorman_database_free_pages{file="log"} 9',
    'doorman_database_size_bytes{file="log"} 32768',
    'doorman_thread_restarts_total{thread="writer"} 1',
    'doorman_thread_pending_operations{thread="reader"} 4',
    'doorman_queue_rows{queue="log",state="queued"} 1',
    'doorman_queue_rows{queue="log",state="in_flight"} 2',
    'doorman_queue_rows{queue="log",state="reserved"} 3',
    'doorman_queue_bytes{queue="log"} 900',
    'doorman_queue_limit{queue="log"} 100',
    'doorman_queue_pushed_total{queue="log"} 10',
    'doorman_queue_committed_total{queue="log"} 7',
    'doorman_queue_batches_total{queue="log"} 4',
    'doorman_queue_retries_total{queue="log"} 5',
    'doorman_queue_dropped_total{queue="log",reason="queue-full"} 6',
    'doorman_queue_dropped_total{queue="log",reason="close-deadline"} 0',
    'doorman_queue_healthy{queue="log"} 1',
    'doorman_queue_healthy{queue="touches"} 0'
  ]) t.ok(text.includes(line), line)
  t.ok(lines(databaseMetrics({ ...databaseStats(), health: { status: 'ok' } })).includes('doorman_healthy 1'))
})

t.test('a database that tells nothing is down', async t => {
  t.strictSame(lines(databaseMetrics(null)), ['doorman_database_up 0'])
})

t.test('the latest cleanup', async t => {
  t.strictSame(cleanupMetrics(null), [])
  const run = { id: 'x', startedAt: 5000, durationMs: 250, dryRun: false, trigger: 'manual' as const, complete: true, removed: { ...nothingRemoved(), ipLogs: 3 }, freedPages: 0, error: null }
  const text = lines(cleanupMetrics(run))
  for (const line of [
    'doorman_cleanup_last_run_timestamp_seconds 5', 'doorman_cleanup_last_run_duration_seconds 0.25', 'doorman_cleanup_last_run_success 1',
    'doorman_cleanup_last_run_removed_rows{target="ipLogs"} 3', 'doorman_cleanup_last_run_removed_rows{target="blocks"} 0'
  ]) t.ok(text.includes(line), line)
  t.ok(lines(cleanupMetrics({ ...run, complete: false })).includes('doorman_cleanup_last_run_success 0'))
})

t.test('sessions and requests', async t => {
  const sessions = { created: 1, renewed: 2, ended: { idle: 3 }, refused: { unknown: 4 }, pendingTouches: 5 } as unknown as SessionStats
  t.strictSame(lines(sessionMetrics(sessions)), [
    'doorman_sessions_created_total 1', 'doorman_sessions_renewed_total 2', 'doorman_sessions_ended_total{reason="idle"} 3',
    'doorman_sessions_refused_total{reason="unknown"} 4', 'doorman_sessions_pending_touches 5'
  ])
  const tracker = { open: 1, ignored: 2, outcomes: { replied: 3 } } as unknown as TrackerStats
  t.strictSame(lines(trackerMetrics(tracker)), [
    'doorman_ip_tracking_requests_total{outcome="replied"} 3', 'doorman_ip_tracking_ignored_total 2', 'doorman_ip_tracking_open_requests 1'
  ])
  t.strictSame(lines(addressMetrics([{ code: 'IPLOG_UNIX_SOCKET' }])), [
    ...['UNEXPECTED_FORWARDED', 'PERMISSIVE_TRUST_PROXY', 'NUMERIC_TRUST_PROXY', 'SINGLE_PRIVATE_ADDRESS'].map(name => `doorman_address_findings{code="IPLOG_${name}"} 0`),
    'doorman_address_findings{code="IPLOG_UNIX_SOCKET"} 1'
  ])
})

t.test('durations of requests, by the first digit of their status', async t => {
  const durations = [0, 1, 2].map(() => createHistogram([1]))
  durations[2]!.observe(0.5)
  t.strictSame(lines(requestMetrics(durations)), [
    'doorman_http_request_duration_seconds_bucket{status="2xx",le="1"} 1', 'doorman_http_request_duration_seconds_bucket{status="2xx",le="+Inf"} 1',
    'doorman_http_request_duration_seconds_sum{status="2xx"} 0.5', 'doorman_http_request_duration_seconds_count{status="2xx"} 1'
  ])
})

t.test('the event loop, also before its first sample', async t => {
  t.strictSame(lines(eventLoopMetrics({ count: 2, mean: 2e9, max: 3e9, percentile: p => p * 1e7 })), [
    ...[0.5, 0.9, 0.99, 0.999, 1].map(q => `doorman_event_loop_delay_seconds{quantile="${q}"} ${q * 100 * 1e7 / 1e9}`),
    'doorman_event_loop_delay_seconds_sum 4', 'doorman_event_loop_delay_seconds_count 2'
  ])
  t.ok(lines(eventLoopMetrics({ count: 0, mean: NaN, max: 0, percentile: () => 511 })).every(line => line.endsWith(' 0')))
})

t.test('the process', async t => {
  t.strictSame(lines(processMetrics({ rss: 1, heapTotal: 2, heapUsed: 3, external: 4, arrayBuffers: 5 }, 6000)), [
    ...['rss', 'heapTotal', 'heapUsed', 'external', 'arrayBuffers'].map((kind, i) => `doorman_process_memory_bytes{kind="${kind}"} ${i + 1}`),
    'doorman_process_start_time_seconds 6'
  ])
})

t.test('names and label names are valid, and no name comes twice', async t => {
  const families = [
    ...databaseMetrics(databaseStats()),
    ...cleanupMetrics({ id: 'x', startedAt: 0, durationMs: 0, dryRun: false, trigger: 'manual', complete: true, removed: nothingRemoved(), freedPages: 0, error: null }),
    ...addressMetrics([]),
    ...processMetrics(process.memoryUsage(), 0)
  ]
  for (const { name, type } of families) {
    t.match(name, /^doorman_[a-z_]+$/)
    t.equal(name.endsWith('_total'), type === 'counter', `${name} is a ${type}`)
  }
  t.equal(new Set(families.map(({ name }) => name)).size, families.length)
  for (const line of lines(families)) t.match(line, /^[a-z_]+(\{[a-z_]+="([^"\\\n]|\\["\\n])*"(,[a-z_]+="([^"\\\n]|\\["\\n])*")*\})? \d/)
})
