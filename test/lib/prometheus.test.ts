/** The text format, as promtool and Prometheus read it. */
import t from 'tap'
import { createHistogram, PROMETHEUS_CONTENT_TYPE, renderMetrics } from '../../lib/prometheus.js'

t.test('counters and gauges: help, type, one line per sample', async t => {
  t.equal(renderMetrics([
    { name: 'rows_total', help: 'Rows', type: 'counter', samples: [{ labels: { file: 'main', kind: 'a' }, value: 3 }, { labels: { file: 'log', kind: 'a' }, value: 0.5 }] },
    { name: 'pages', help: 'Pages', type: 'gauge', samples: [{ value: 7 }] }
  ]), '# HELP rows_total Rows\n# TYPE rows_total counter\nrows_total{file="main",kind="a"} 3\nrows_total{file="log",kind="a"} 0.5\n# HELP pages Pages\n# TYPE pages gauge\npages 7\n')
})

t.test('a family without samples is left out', async t => {
  t.equal(renderMetrics([{ name: 'none', help: 'x', type: 'gauge', samples: [] }]), '')
  t.equal(renderMetrics([]), '')
})

t.test('label values and help are escaped', async t => {
  t.equal(renderMetrics([{ name: 'a', help: 'one\ntwo \\ "three"', type: 'gauge', samples: [{ labels: { path: 'C:\\x "y"\nz' }, value: 1 }] }]),
    '# HELP a one\\ntwo \\\\ "three"\n# TYPE a gauge\na{path="C:\\\\x \\"y\\"\\nz"} 1\n')
})

t.test('numbers that are none', async t => {
  t.match(renderMetrics([{ name: 'a', help: 'a', type: 'gauge', samples: [Infinity, -Infinity, NaN, 1e21].map(value => ({ value })) }]), 'a +Inf\na -Inf\na NaN\na 1e+21\n')
})

t.test('histograms: cumulative buckets, +Inf, sum and count', async t => {
  const histogram = createHistogram([0.1, 1])
  for (const value of [0.05, 0.1, 0.5, 1, 7]) histogram.observe(value)
  t.strictSame(histogram.sample(), { buckets: [[0.1, 2], [1, 4]], sum: 8.65, count: 5 }, 'a value on the bound belongs to it')
  t.equal(renderMetrics([{ name: 'd', help: 'D', type: 'histogram', histograms: [histogram.sample({ status: '2xx' })] }]), `# HELP d D
# TYPE d histogram
d_bucket{status="2xx",le="0.1"} 2
d_bucket{status="2xx",le="1"} 4
d_bucket{status="2xx",le="+Inf"} 5
d_sum{status="2xx"} 8.65
d_count{status="2xx"} 5
`)
})

t.test('summaries: quantiles, sum and count', async t => {
  t.equal(renderMetrics([{ name: 's', help: 'S', type: 'summary', summaries: [{ quantiles: [[0.5, 1], [1, 2]], sum: 3, count: 2 }] }]), `# HELP s S
# TYPE s summary
s{quantile="0.5"} 1
s{quantile="1"} 2
s_sum 3
s_count 2
`)
})

t.test('the content type names the version', async t => {
  t.match(PROMETHEUS_CONTENT_TYPE, /^text\/plain; version=0\.0\.4/)
})
