/**
 * The benchmark: compares the suite with bare Fastify and with every peer, or takes measures of the suite alone. Prints tables, writes
 * bench/results/, and from a full run the measured parts of the documents. Fails on wrong results, never on time.
 *
 *   npm run bench -- --help
 */
import { spawnSync } from 'node:child_process'
import { compare } from './harness/compare.js'
import { hasProgram } from './harness/cores.js'
import { writeDocuments } from './harness/document.js'
import { terminalTable } from './harness/format.js'
import { commit, machine, versions } from './harness/machine.js'
import { readOptions, USAGE, UsageError } from './harness/options.js'
import { publish, saveRun } from './harness/results.js'
import { comparisonTable, faultLines, measureTable, targetTable } from './harness/tables.js'
import { defaultGenerator, peersInstalled } from './load/generator.js'
import { measures } from './measures/list.js'
import { candidates } from './servers/list.js'

const say = text => console.error(`${new Date().toISOString().slice(11, 19)} ${text}`)
const print = ({ head, rows }) => console.log(`\n${terminalTable(head, rows)}`)

/** Installs the peers from the lockfile of this folder, once. */
function installPeers () {
  if (peersInstalled()) return
  say('installing the peers (npm ci --prefix bench)')
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', new URL('.', import.meta.url).pathname], { stdio: 'inherit' })
  if (status !== 0) throw new UsageError('the peers could not be installed; --only ours,committed,engineer,port works without them')
}

async function runComparison (options) {
  const asked = candidates.filter(({ id }) => id === 'bare' || options.only === null || options.only.includes(id))
  if (asked.some(({ peer }) => peer)) installPeers()
  options.generator ??= defaultGenerator()
  const able = asked.filter(({ program }) => program === undefined || hasProgram(program))
  const leftOut = asked.filter(candidate => !able.includes(candidate)).map(({ title, program }) => `${title} (there is no ${program} on this machine)`)
  const figures = await compare({ ...options, candidates: able, say })
  print(comparisonTable(figures))
  if (figures.some(({ target }) => target !== null)) print(targetTable(figures))
  const ours = new Set(candidates.filter(({ ours }) => ours).map(({ id }) => id))
  // The suite again, where the system may put its threads on whatever core is free: what a service gets that is not held to one.
  const wide = await compare({ ...options, candidates: able.filter(({ id }) => id === 'bare' || ours.has(id)), serverCores: 'all', say })
  if (wide.length > 0) print(targetTable(wide, 'Target, server on every core'))
  for (const line of leftOut) console.log(`left out: ${line}`)
  for (const line of faultLines([...figures, ...wide])) console.log(`wrong: ${line}`)
  return { comparison: { figures, wide, leftOut }, failed: [...figures, ...wide].some(({ candidate, faults }) => ours.has(candidate) && faults.length > 0) }
}

async function runMeasures (options) {
  const results = {}
  options.generator ??= defaultGenerator()
  for (const name of options.measure) {
    say(`measuring: ${measures[name].title}`)
    const { run } = await import(new URL(`./measures/${name}.js`, import.meta.url).href)
    results[name] = await run({ ...options, say })
    print(measureTable(results[name]))
    for (const note of new Set(results[name].flatMap(({ note }) => note === undefined ? [] : [note]))) console.log(note)
  }
  return { measures: results, failed: false }
}

async function main () {
  const options = readOptions(process.argv.slice(2))
  if (options.help) {
    console.log(USAGE)
    return
  }
  if (!options.docs) {
    const at = new Date().toISOString()
    if (options.generator === 'autocannon') installPeers()
    const { failed, ...content } = await (options.measure === null ? runComparison(options) : runMeasures(options))
    const { quick, generator, rounds, milliseconds, connections, sessions } = options
    const run = { at, commit: commit(), machine: machine(), versions: versions(), settings: { quick, generator, rounds, milliseconds, connections, sessions }, ...content }
    console.log(`\n${saveRun(run)}`)
    if (failed) process.exitCode = 1
    // What stands in the documents is of a full run that went well.
    if (failed || ((options.quick || options.only !== null) && !options.publish)) return
    publish(run)
  }
  for (const file of writeDocuments()) console.log(file)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(error.message)
  process.exitCode = 2
}
