/** Writes the measured parts of the documents, each between its marks, from the published figures. The text around them is written by hand. */
import { readFileSync, writeFileSync } from 'node:fs'
import { measures } from '../measures/list.js'
import { candidates } from '../servers/list.js'
import { markdownTable } from './format.js'
import { comparisonTable, faultLines, measureTable, targetTable } from './tables.js'
import { readLatest } from './results.js'

const START = '<!-- measured: start (written by npm run bench) -->'
const END = '<!-- measured: end -->'
/** What each figure is printed with; the comparison prints the rest by itself. */
const OWN_VERSIONS = ['node', 'fastify', 'better-sqlite3', 'sqlite']
const PAGE_VERSIONS = { benchmarks: OWN_VERSIONS, scaling: [...OWN_VERSIONS, 'pg', 'postgresql'] }
const NO_PEERS = [...PAGE_VERSIONS.scaling, 'autocannon']

const table = ({ head, rows }) => markdownTable(head, rows)

function about ({ at, commit, machine, versions, settings }, page = 'benchmarks') {
  const kept = PAGE_VERSIONS[page].filter(name => name in versions).map(name => `${name} ${versions[name]}`).join(', ')
  return `Measured ${at.slice(0, 10)} at commit ${commit ?? 'unknown'}: ${machine.processor}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}; ${kept}` +
    `${settings.quick ? '; **a quick run, which shows that it works and not how fast it is**' : ''}.`
}

function comparisonPart (comparison) {
  if (comparison === undefined) return ['Nothing has been published yet.']
  const { figures, wide, leftOut, machine, settings, versions } = comparison
  const faults = faultLines([...figures, ...wide])
  return [
    about(comparison),
    `Load by ${settings.generator} on ${settings.connections} connections; server and load generator ${machine.pinned ? 'on a core each' : 'not kept apart'}. ` +
      `Requests per second as a ratio to bare Fastify: median of ${settings.rounds} pairs of ${settings.milliseconds} ms, quartiles in brackets. Processor time per request likewise: whole process · main thread; less is better.`,
    table(comparisonTable(figures)),
    table(targetTable(figures, 'Server with all its threads on one core')),
    table(targetTable(wide, 'Server on every core')),
    ...(faults.length === 0 ? ['Every row and every session of every cell was there.'] : ['What was wrong:', faults.map(line => `- ${line}`).join('\n')]),
    ...leftOut.map(line => `Left out: ${line}.`),
    `Versions of the peers: ${Object.entries(versions).filter(([name]) => !NO_PEERS.includes(name)).map(([name, version]) => `${name} ${version}`).join(', ')}.`
  ]
}

function measuresPart (published, wanted) {
  return Object.entries(measures).filter(([, { page = 'benchmarks' }]) => page === wanted).flatMap(([name, { title }]) => {
    const result = published?.[name]
    const head = `### ${title}`
    if (result === undefined) return [head, 'Not published yet.']
    const notes = result.figures.flatMap(({ note }) => note === undefined ? [] : [note])
    return [head, about(result, wanted), table(measureTable(result.figures)), ...new Set(notes)]
  })
}

const PAGES = {
  benchmarks: ({ comparison, measures: published }) => [
    '## Compared', ...comparisonPart(comparison),
    '## What each does not do', table({ head: ['Server', 'Limits'], rows: candidates.map(({ title, lacks }) => [title, lacks]) }),
    '## Also measured', ...measuresPart(published, 'benchmarks')
  ],
  scaling: ({ measures: published }) => measuresPart(published, 'scaling')
}

/** @returns the files, from the root of the project */
export function writeDocuments () {
  const published = readLatest()
  return Object.entries(PAGES).map(([page, partsOf]) => {
    const name = `docs/${page}.md`
    const file = new URL(`../../${name}`, import.meta.url)
    const text = readFileSync(file, 'utf8')
    const start = text.indexOf(START)
    const end = text.indexOf(END)
    if (start === -1 || end < start) throw new Error(`${name} has not the marks "${START}" and "${END}"`)
    writeFileSync(file, `${text.slice(0, start)}${START}\n\n${partsOf(published).join('\n\n')}\n\n${text.slice(end)}`)
    return name
  })
}
