/** Metrics as a plugin: the route and its guard, what is in the text, and that it survives an unwell database. */
import fastify from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import type { CleanupRun } from '../../storage/storage.js'
import doorman from '../../plugins/doorman.js'
import metrics, { type MetricsOptions } from '../../plugins/metrics.js'
import { databaseStats, fakeDatabase } from '../fake-database.js'
import { tempFile } from '../helper.js'

function setup (t: Test, options: MetricsOptions, parts: Parameters<typeof fakeDatabase>[0] = {}) {
  const lines: { msg: string, err?: { message: string } }[] = []
  const app = fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
  t.teardown(() => app.close())
  app.register(fakeDatabase({ stats: async () => databaseStats(), clock: Date.now, ...parts }))
  app.register(metrics, options)
  return { app, lines }
}

t.test('serves the text at /metrics', async t => {
  const { app } = setup(t, { guard: false })
  const reply = await app.inject('/metrics')
  t.equal(reply.statusCode, 200)
  t.equal(reply.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.match(reply.body, /^# HELP doorman_database_up .+\n# TYPE doorman_database_up gauge\ndoorman_database_up 1\n/)
  for (const name of ['doorman_queue_rows', 'doorman_event_loop_delay_seconds_count', 'doorman_process_memory_bytes{kind="rss"}', 'doorman_process_start_time_seconds']) t.ok(reply.body.includes(`\n${name}`), name)
  const started = Number(/start_time_seconds (\d\S*)\n/.exec(reply.body)![1])
  t.ok(Math.abs(started - (Date.now() / 1000 - process.uptime())) < 5)
})

t.test('guards protect the route', async t => {
  const deny = async () => { throw Object.assign(new Error('no'), { statusCode: 401 }) }
  const allow = async () => {}
  for (const [guard, status] of [[deny, 401], [allow, 200], [[allow, deny], 401], [[allow, allow], 200]] as const) {
    const { app } = setup(t, { guard, path: '/m' })
    t.equal((await app.inject('/m')).statusCode, status)
    t.equal((await app.inject('/metrics')).statusCode, 404)
  }
})

t.test('an open route must be asked for', async t => {
  for (const guard of [undefined, true, 'key', null, [], [() => {}, 5]]) {
    const { app } = setup(t, (guard === undefined ? {} : { guard }) as MetricsOptions)
    await t.rejects(async () => { await app.ready() }, { code: 'DOORMAN_OPTION_INVALID', message: /"metrics\.guard" must be an onRequest hook, .*or false/ })
  }
  const { app } = setup(t, { path: 'metrics' })
  await t.rejects(async () => { await app.ready() }, { code: 'DOORMAN_OPTION_INVALID', message: /"metrics\.path" must be a path that starts with "\/", or null; got "metrics"/ })
})

t.test('without a path there is no route, and nothing to guard', async t => {
  const { app } = setup(t, { path: null })
  await app.ready()
  t.equal((await app.inject('/metrics')).statusCode, 404)
  t.match(await app.metrics.render(), 'doorman_database_up 1')
  t.match(app.metrics.contentType, /^text\/plain/)
})

t.test('requests are counted by status and duration', async t => {
  const { app } = setup(t, { path: null })
  app.get('/ok', async () => 'ok')
  app.get('/odd', async (request, reply) => {
    reply.hijack()
    reply.raw.writeHead(999).end()
  })
  await app.inject('/ok')
  await app.inject('/ok')
  await app.inject('/none')
  await app.inject('/odd')
  const text = await app.metrics.render()
  for (const line of ['count{status="2xx"} 2', 'count{status="4xx"} 1', 'count{status="9xx"} 1', 'bucket{status="2xx",le="+Inf"} 2']) t.match(text, `doorman_http_request_duration_seconds_${line}\n`)
  t.notMatch(text, 'status="5xx"')
})

t.test('with the IP tracking requests are counted where it sees them end, also those that leave no row', async t => {
  const url = `file:${tempFile()}`
  const app = fastify()
  t.teardown(() => app.close())
  await app.register(doorman, { database: { url }, ipTracking: { ignore: { paths: ['/health'] } } })
  app.get('/health', async () => 'ok')
  app.get('/ok', async () => 'ok')
  for (const url of ['/health', '/ok', '/none']) await app.inject(url)
  // The event comes after the reply.
  await new Promise(resolve => setImmediate(resolve))
  const text = await app.metrics.render()
  for (const line of ['count{status="2xx"} 2', 'count{status="4xx"} 1']) t.match(text, `doorman_http_request_duration_seconds_${line}\n`)
  t.match(text, /doorman_http_request_duration_seconds_sum\{status="2xx"\} 0\.\d/)
})

t.test('the other plugins are shown where they are there, in whatever order', async t => {
  const lastCleanup = { startedAt: 5000, durationMs: 1, complete: true, removed: { ipLogs: 3 } } as unknown as CleanupRun
  const { app } = setup(t, { path: null }, { lastCleanup, eventLoopDelay: { count: 2, mean: 2e7, max: 4e7, percentile: () => 3e7 } })
  app.register(fp(async app => {
    app.decorate('sessions', { stats: () => ({ created: 3, renewed: 0, ended: {}, refused: {}, pendingTouches: 0 }) } as never)
    app.decorate('ipTracking', { stats: () => ({ open: 2, ignored: 0, outcomes: {} }), check: () => [{ code: 'IPLOG_UNIX_SOCKET' }], onRequestEnd () {} } as never)
  }))
  await app.ready()
  const text = await app.metrics.render()
  for (const line of ['doorman_cleanup_last_run_removed_rows{target="ipLogs"} 3', 'doorman_sessions_created_total 3', 'doorman_ip_tracking_open_requests 2', 'doorman_address_findings{code="IPLOG_UNIX_SOCKET"} 1', 'doorman_address_findings{code="IPLOG_NUMERIC_TRUST_PROXY"} 0', 'doorman_event_loop_delay_seconds{quantile="0.99"} 0.03', 'doorman_event_loop_delay_seconds_sum 0.04']) t.match(text, `${line}\n`)
})

t.test('an unwell database takes its own numbers away, not the others', async t => {
  const { app, lines } = setup(t, { guard: false }, { stats: async () => { throw new Error('reader died') } })
  const reply = await app.inject('/metrics')
  t.equal(reply.statusCode, 200)
  t.match(reply.body, 'doorman_database_up 0\n')
  t.match(reply.body, 'doorman_process_memory_bytes')
  t.match(lines, [{ msg: /did not tell its numbers/, err: { message: 'reader died' } }])
})

t.test('wrong wiring stops the start', async t => {
  await t.rejects(async () => { await fastify().register(metrics, { path: null }) }, { code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED' })
  const { app } = setup(t, { path: null })
  app.register(metrics, { path: null })
  await t.rejects(async () => { await app.ready() }, { code: 'DOORMAN_ALREADY_REGISTERED' })
})
