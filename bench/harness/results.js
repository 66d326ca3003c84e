/** Where results are kept: every run in a file of its own, and the published figures in `results/latest.json`. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const folder = new URL('../results/', import.meta.url)
const latest = new URL('latest.json', folder)

/** Ratios and milliseconds need no more, and the published file stays small. */
const short = (_key, value) => typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value
const write = (file, content) => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, `${JSON.stringify(content, short, 2)}\n`)
}

/** @returns {{ comparison?: object, measures?: Record<string, object> }} */
export function readLatest () {
  try {
    return JSON.parse(readFileSync(latest, 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

/** @returns the file's path, from the root of the project */
export function saveRun (run) {
  const name = `${run.at.replaceAll(/[:.]/g, '-')}.json`
  write(new URL(name, folder), run)
  return `bench/results/${name}`
}

/** Takes a comparison or measures into the published figures, beside what is there of the others. */
export function publish (run) {
  const { comparison, measures, ...about } = run
  const before = readLatest()
  write(latest, {
    comparison: comparison === undefined ? before.comparison : { ...about, ...comparison },
    measures: { ...before.measures, ...Object.fromEntries(Object.entries(measures ?? {}).map(([name, figures]) => [name, { ...about, figures }])) }
  })
}
