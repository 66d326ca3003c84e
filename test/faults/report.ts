/** The table of what the fault suite measured: for the terminal, and as the page docs/reliability.md. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import type { Performance } from './perform.js'

const MARK = ['<!-- measured: written by npm run test:faults -->', '<!-- end of measured -->'] as const

export function printTable (performances: readonly Performance[]): void {
  const lines = performances.flatMap(({ scenario, results }) => results.map(({ what, measured, required, pass }) => [`${scenario.number}`, what, first(measured), required, pass ? 'pass' : 'FAIL']))
  const head = ['', 'measured', '', 'required', '']
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map(line => line[column]!.length)))
  console.log()
  for (const line of [head, ...lines]) console.log(line.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd())
  const failed = lines.filter(line => line[4] === 'FAIL').length
  const seconds = performances.reduce((sum, performance) => sum + performance.seconds, 0)
  console.log(`\n${lines.length - failed} of ${lines.length} requirements met, ${(seconds / 60).toFixed(1)} minutes`)
}

/** Replaces the measured part of the page; the words around it stay. */
export function writePage (performances: readonly Performance[], root: string): void {
  const path = join(root, 'docs/reliability.md')
  const page = readFileSync(path, 'utf8')
  const start = page.indexOf(MARK[0])
  const end = page.indexOf(MARK[1])
  if (start === -1 || end < start) throw new Error(`${path} has lost its marks: ${MARK.join(' ... ')}`)
  writeFileSync(path, `${page.slice(0, start)}${MARK[0]}\n\n${measured(performances)}\n${page.slice(end)}`)
  console.log(`written: ${path}`)
}

function measured (performances: readonly Performance[]): string {
  const results = performances.flatMap(({ results }) => results)
  const minutes = performances.reduce((sum, { seconds }) => sum + seconds, 0) / 60
  const sqlite = (JSON.parse(readFileSync('node_modules/better-sqlite3/package.json', 'utf8')) as { version: string }).version
  const lines = [
    `${new Date().toISOString().slice(0, 10)}, commit ${execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()}: ${results.filter(({ pass }) => pass).length} of ${results.length} requirements met in ${minutes.toFixed(1)} minutes.`,
    `${cpus().length} × ${cpus()[0]!.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GB, ${type()} ${release().split('-')[0]}, Node ${process.versions.node}, better-sqlite3 ${sqlite}. Clients, services and foreign programs share the machine.`,
    ''
  ]
  for (const { scenario, results, seconds } of performances) {
    lines.push(`### ${scenario.number}. ${scenario.title}`, '', `${seconds.toFixed(0)} s.`, '', '| Measured | Result | Required | |', '| --- | --- | --- | --- |')
    for (const { what, measured, required, pass } of results) lines.push(`| ${cell(what)} | ${cell(first(measured))} | ${cell(required)} | ${pass ? 'pass' : '**FAIL**'} |`)
    lines.push('')
  }
  return lines.join('\n')
}

const first = (text: string) => text.split('\n', 1)[0]!
const cell = (text: string) => text.replaceAll('|', '\\|')
