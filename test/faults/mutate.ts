/**
 * Shows that each scenario can fail: for every entry of `mutations.ts` a copy of the build in which one line is switched off, the scenario's short
 * form performed there, and the named result, which passes without that, must fail. Other results may fail as well.
 */
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { mutations, type Mutation } from './mutations.js'

/** Longest time for the short form of a scenario, ms. What is switched off may be what ends it. */
const LIMIT_MS = 180_000
/** Of the root, besides what begins with a dot: made anew in each copy, or not needed. */
const NOT_COPIED = ['build', 'dist', 'data']

const MARKS = ['<!-- mutations: written by npm run test:faults -- --mutations -->', '<!-- end of mutations -->'] as const

/** A page with the present list between its marks. */
export function withTable (page: string): string {
  const [start, end] = MARKS.map(mark => page.indexOf(mark)) as [number, number]
  if (start === -1 || end < start) throw new Error(`the page has lost its marks: ${MARKS.join(' ... ')}`)
  const cell = (text: string) => text.trim().replaceAll('|', '\\|')
  const lines = [...mutations].sort((a, b) => a.scenario - b.scenario)
    .map(({ scenario, file, why, breaks }) => `| ${scenario} | \`${file.replace(/\.js$/, '.ts')}\` | ${cell(why)} | ${cell(breaks)} |`)
  return `${page.slice(0, start)}${[MARKS[0], '', '| Scenario | File | Switched off | Fails then |', '| --- | --- | --- | --- |', ...lines, '', ''].join('\n')}${page.slice(end)}`
}

/** Performs the mutations of some scenarios, prints a table. @returns whether every named result passed without its mutation and failed with it */
export async function mutate (scenarios: readonly number[]): Promise<boolean> {
  const chosen = mutations.filter(({ scenario }) => scenarios.includes(scenario))
  const table: string[][] = []
  let sound = true
  for (const scenario of new Set(chosen.map(mutation => mutation.scenario))) {
    const without = await performCopy(scenario)
    for (const mutation of chosen.filter(mutation => mutation.scenario === scenario)) {
      const before = outcome(without, mutation)
      const after = outcome(await performCopy(scenario, mutation), mutation)
      const proven = before === 'ok' && after === 'FAIL'
      sound &&= proven
      table.push([`${scenario}`, mutation.file, mutation.why, mutation.breaks, before, after, proven ? 'proven' : 'NOT PROVEN'])
      console.log(`${table.at(-1)!.join(' | ')}`)
    }
  }
  print([['', 'file', 'switched off', 'breaks', 'without', 'with', ''], ...table])
  return sound
}

/** What became of the named result: 'FAIL' when any result of that beginning failed; 'absent' when there was none. */
export function outcome (output: string, { breaks }: Pick<Mutation, 'breaks'>): 'ok' | 'FAIL' | 'absent' {
  const named = output.split('\n').map(line => /^ {3}(ok {2}|FAIL) (.*)/.exec(line)).filter(match => match?.[2]!.startsWith(breaks))
  if (named.length === 0) return 'absent'
  return named.some(match => match![1] === 'FAIL') ? 'FAIL' : 'ok'
}

/** The compiled text of a file with the mutation made. @throws when what is to be changed does not occur exactly once */
export function apply (text: string, { file, from, to }: Pick<Mutation, 'file' | 'from' | 'to'>): string {
  const pieces = text.split(from)
  if (pieces.length !== 2) throw new Error(`${file}: occurs ${pieces.length - 1} times, expected once: ${from}`)
  return pieces.join(to)
}

/** Performs the short form in a copy of the build. @returns what it printed */
async function performCopy (scenario: number, mutation?: Mutation): Promise<string> {
  const parent = mkdtempSync(join(tmpdir(), 'doorman-mutation-'))
  try {
    const root = join(parent, 'copy')
    mkdirSync(root)
    // Everything that is read by its place under or beside the root. Programs of the copy find their modules there, too.
    for (const name of readdirSync('.').filter(name => !name.startsWith('.') && !NOT_COPIED.includes(name))) symlinkSync(resolve(name), join(root, name))
    symlinkSync(resolve('../shared'), join(parent, 'shared'))
    cpSync('build', join(root, 'build'), { recursive: true })
    if (mutation !== undefined) {
      const path = join(root, 'build', mutation.file)
      writeFileSync(path, apply(readFileSync(path, 'utf8'), mutation))
    }
    return await run(root, scenario)
  } finally {
    rmSync(parent, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** In a group of its own, so that what it started ends with it. */
function run (cwd: string, scenario: number): Promise<string> {
  const child = spawn(process.execPath, [...process.execArgv, 'build/test/faults/run.js', '--short', `${scenario}`], { cwd, stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
  const timer = setTimeout(() => { process.kill(-child.pid!, 'SIGKILL') }, LIMIT_MS)
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', () => {
      clearTimeout(timer)
      resolve(output)
    })
  })
}

function print (lines: readonly string[][]): void {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map(line => line[column]!.length)))
  console.log()
  for (const line of lines) console.log(line.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd())
}
