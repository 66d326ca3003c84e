/**
 * A few seconds of the benchmark for CI: bare Fastify and the suite with both durabilities, one short pair per workload, by the load generator
 * that needs no dependencies. Fails when a request fails or what is stored does not agree with what was answered, never on time.
 */
import { compare } from './harness/compare.js'
import { terminalTable } from './harness/format.js'
import { comparisonTable, faultLines } from './harness/tables.js'
import { candidates } from './servers/list.js'

const figures = await compare({
  candidates: candidates.filter(({ id, ours }) => ours || id === 'bare'),
  rounds: 1,
  milliseconds: 300,
  connections: 20,
  sessions: 20,
  generator: 'plain',
  warmCells: 0,
  say () {}
})
const { head, rows } = comparisonTable(figures)
console.log(terminalTable(head, rows))
const wrong = faultLines(figures)
for (const line of wrong) console.error(`wrong: ${line}`)
console.log(wrong.length === 0 ? 'every row and every session is there; how fast says npm run bench' : 'the database does not agree with the requests')
if (wrong.length > 0) process.exitCode = 1
