/** The measures beside the comparison, by the name of `--measure` and of their file here; `page`: the document they are printed in, if not the benchmarks'. */
export const measures = {
  latency: { title: 'Latency' },
  writer: { title: 'Writer' },
  disk: { title: 'Disk' },
  growth: { title: 'Growth' },
  memory: { title: 'Memory' },
  start: { title: 'Start' },
  processes: { title: 'Many processes' },
  postgres: { title: 'Requests on PostgreSQL', page: 'scaling' },
  'postgres-log': { title: 'The log on PostgreSQL', page: 'scaling' }
}
