/**
 * The short form of the fault suite: every scenario, some seconds each. What depends on how fast the machine is just then is printed
 * and not judged here; `npm run test:faults` judges it, too.
 *
 * Each scenario is a process of its own, without what tap adds to the processes it starts: what is measured there is what users run.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Result } from './kit/scenario.js'
import { scenarios } from './scenarios/index.js'

const SUITE = fileURLToPath(new URL('./run.js', import.meta.url))
const ADDED_BY_TAP = ['NODE_OPTIONS', 'NODE_V8_COVERAGE']

for (const { number, title } of scenarios) {
  t.test(`${number}. ${title}`, async t => {
    const child = spawn('env', [...ADDED_BY_TAP.flatMap(name => ['-u', name]), process.execPath, SUITE, '--short', '--json', `${number}`], { stdio: ['ignore', 'pipe', 'inherit'] })
    let results: Result[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.startsWith('[')) results = JSON.parse(line) as Result[]
      else if (line !== '') t.comment(line)
    }
    t.not(results.length, 0, 'something was measured')
    for (const { what, measured, required, pass, timing } of results) t.ok(pass || timing, `${what}: ${measured} (required: ${required})`)
  })
}
