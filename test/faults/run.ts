/**
 * The fault suite in full, or a part of it. Prints one table; the whole of it is written to docs/reliability.md.
 *
 *   npm run test:faults                      every scenario
 *   npm run test:faults -- 1 7               these only; the page stays as it is
 *   npm run test:faults -- --short           the short form, as `npm test` runs it
 *   npm run test:faults -- --mutations 1 7   shows that these scenarios (or all) fail when what they test is switched off;
 *                                          also writes the list of that into the page
 *   npm run test:faults -- --json            one line of JSON with the results instead of the table
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { scenarios } from './scenarios/index.js'
import { mutate, withTable } from './mutate.js'
import { perform, type Performance } from './perform.js'
import { printTable, writePage } from './report.js'

const PAGE = 'docs/reliability.md'
const OPTIONS = ['--short', '--mutations', '--json']
const args = process.argv.slice(2)
const full = !args.includes('--short')
const wanted = args.filter(arg => !OPTIONS.includes(arg)).map(Number)
const chosen = wanted.length === 0 ? scenarios : scenarios.filter(({ number }) => wanted.includes(number))
if (wanted.some(number => !scenarios.some(scenario => scenario.number === number))) {
  console.error(`Scenarios are numbers: ${scenarios.map(({ number }) => number).join(', ')}; options are ${OPTIONS.join(', ')}; got ${args.join(' ')}`)
  process.exit(2)
}
if (args.includes('--mutations')) {
  writeFileSync(PAGE, withTable(readFileSync(PAGE, 'utf8')))
  process.exit(await mutate(chosen.map(({ number }) => number)) ? 0 : 1)
}

const performances: Performance[] = []
for (const scenario of chosen) {
  console.log(`\n${scenario.number}. ${scenario.title}`)
  performances.push(await perform(scenario, full, text => { console.log(`   ${text}`) }))
}
if (args.includes('--json')) console.log(JSON.stringify(performances.flatMap(({ results }) => results)))
else printTable(performances)
if (full && chosen === scenarios) writePage(performances, process.cwd())
process.exitCode = performances.some(({ results }) => results.some(({ pass }) => !pass)) ? 1 : 0
