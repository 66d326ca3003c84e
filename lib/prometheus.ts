/** The Prometheus text format, version 0.0.4: families in, text out. Also a histogram that counts into fixed buckets. */

/** What to answer as content type. */
export const PROMETHEUS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export type Labels = Readonly<Record<string, string>>
export interface Sample { labels?: Labels, value: number }

/** Samples of one name. Names and label names are the caller's constants and must be valid; label values may be anything. */
export type MetricFamily =
  | { name: string, help: string, type: 'counter' | 'gauge', samples: readonly Sample[] }
  | { name: string, help: string, type: 'histogram', histograms: readonly HistogramSample[] }
  | { name: string, help: string, type: 'summary', summaries: readonly SummarySample[] }

/** `buckets`: upper bound and count of the values up to it (cumulative), ascending, without +Inf. */
export interface HistogramSample { labels?: Labels, buckets: readonly (readonly [bound: number, count: number])[], sum: number, count: number }
/** `quantiles`: from 0 to 1, and the value at it. */
export interface SummarySample { labels?: Labels, quantiles: readonly (readonly [quantile: number, value: number])[], sum: number, count: number }

/** Writes the families in the order given. Families without samples are left out. */
export function renderMetrics (families: readonly MetricFamily[]): string {
  let text = ''
  for (const family of families) {
    const lines = familyLines(family)
    if (lines.length > 0) text += `# HELP ${family.name} ${escapeHelp(family.help)}\n# TYPE ${family.name} ${family.type}\n${lines.join('')}`
  }
  return text
}

function familyLines (family: MetricFamily): string[] {
  const { name } = family
  switch (family.type) {
    case 'histogram': return family.histograms.flatMap(({ labels, buckets, sum, count }) => [
      ...[...buckets, [Infinity, count] as const].map(([bound, n]) => line(`${name}_bucket`, { ...labels, le: number(bound) }, n)),
      line(`${name}_sum`, labels, sum),
      line(`${name}_count`, labels, count)
    ])
    case 'summary': return family.summaries.flatMap(({ labels, quantiles, sum, count }) => [
      ...quantiles.map(([quantile, value]) => line(name, { ...labels, quantile: number(quantile) }, value)),
      line(`${name}_sum`, labels, sum),
      line(`${name}_count`, labels, count)
    ])
    default: return family.samples.map(({ labels, value }) => line(name, labels, value))
  }
}

function line (name: string, labels: Labels | undefined, value: number): string {
  const pairs = Object.entries(labels ?? {}).map(([key, text]) => `${key}="${escapeLabel(text)}"`)
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${number(value)}\n`
}

function number (value: number): string {
  return value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)
}

const escapeHelp = (text: string) => text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')
const escapeLabel = (text: string) => escapeHelp(text).replace(/"/g, '\\"')

/** Counts values into buckets; observing one allocates nothing. */
export interface Histogram {
  observe (value: number): void
  sample (labels?: Labels): HistogramSample
}

/** @param bounds upper bounds, ascending */
export function createHistogram (bounds: readonly number[]): Histogram {
  const counts = new Float64Array(bounds.length + 1)
  let sum = 0
  return {
    observe (value) {
      let i = 0
      while (i < bounds.length && value > bounds[i]!) i++
      counts[i]! += 1
      sum += value
    },
    sample (labels) {
      let count = 0
      const buckets = bounds.map((bound, i) => {
        count += counts[i]!
        return [bound, count] as const
      })
      return { ...(labels === undefined ? {} : { labels }), buckets, sum, count: count + counts[bounds.length]! }
    }
  }
}
