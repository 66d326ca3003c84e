/** What a run of the fuzzer says in the end. */
import type { Report } from './campaign.js'

/** Prints the tables and the last line. @returns how many problems there were */
export function printReport ({ requests, counts, kinds, facts, problems, seed }: Report, print: (text: string) => void): number {
  const statuses = [...new Set([...counts.values()].flatMap(by => [...by.keys()]))].sort((a, b) => a - b)
  print('')
  print(['replies'.padEnd(36), ...statuses.map(status => `${status}`.padStart(7))].join(''))
  for (const [label, by] of [...counts].sort(([a], [b]) => a < b ? -1 : 1)) print([label.padEnd(36), ...statuses.map(status => `${by.get(status) ?? ''}`.padStart(7))].join(''))
  print('')
  print(`odd about them: ${[...kinds].sort(([, a], [, b]) => b - a).map(([kind, n]) => `${kind} ${n}`).join(', ')}`)
  for (const fact of facts) print(fact)
  for (const [what, n] of problems) print(`PROBLEM, ${n} times: ${what}`)
  const total = [...problems.values()].reduce((sum, n) => sum + n, 0)
  print(`${total} problems in ${requests} requests (seed ${seed})`)
  return total
}
