/** The measures beside the comparison, by the name of `--measure` and of their file here. */
export const measures = {
  latency: { title: 'Latency' },
  writer: { title: 'Writer' },
  disk: { title: 'Disk' },
  growth: { title: 'Growth' },
  memory: { title: 'Memory' },
  start: { title: 'Start' },
  processes: { title: 'Many processes' }
}
