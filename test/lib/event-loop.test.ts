/** The delay of the event loop is measured while it is asked for, and no longer. */
import t from 'tap'
import { delayStats, EVENT_LOOP_RESOLUTION_MS, watchEventLoop } from '../../lib/event-loop.js'
import { until } from '../helper.js'

t.test('nanoseconds become milliseconds, and nothing becomes zeros', async t => {
  t.same(delayStats({ count: 2, mean: 2e7, max: 5e7, percentile: p => p * 1e6 }), { samples: 2, mean: 20, p50: 50, p99: 99, p999: 99.9, max: 50 })
  t.same(delayStats({ count: 0, mean: NaN, max: 0, percentile: () => 511 }), { samples: 0, mean: 0, p50: 0, p99: 0, p999: 0, max: 0 })
})

t.test('a turn that takes long is seen; after the stop nothing is counted', async t => {
  const watch = watchEventLoop()
  t.teardown(() => watch.stop())
  await until(() => watch.stats().samples > 2, 'the first samples')
  const end = performance.now() + 150
  while (performance.now() < end);
  await until(() => watch.stats().max >= 140, 'the long turn to be seen')
  t.ok(watch.stats().p50 >= EVENT_LOOP_RESOLUTION_MS / 2)
  watch.stop()
  const { count } = watch.histogram
  await new Promise(resolve => setTimeout(resolve, 4 * EVENT_LOOP_RESOLUTION_MS))
  t.equal(watch.histogram.count, count)
})
