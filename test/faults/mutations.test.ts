/** The list of mutations against the build and the page; performing them is `npm run test:faults -- --mutations`. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { apply, outcome, withTable } from './mutate.js'
import { mutations } from './mutations.js'
import { scenarios } from './scenarios/index.js'

t.test('what a mutation changes occurs exactly once in the compiled file, and is changed', async t => {
  for (const mutation of mutations) {
    const text = readFileSync(join('build', mutation.file), 'utf8')
    t.not(apply(text, mutation), text, `${mutation.scenario}: ${mutation.why}`)
  }
})

t.test('every scenario has one, and none is for a scenario that does not exist', async t => {
  const numbers = (list: readonly number[]) => [...new Set(list)].sort((a, b) => a - b)
  t.strictSame(numbers(mutations.map(({ scenario }) => scenario)), numbers(scenarios.map(({ number }) => number)))
})

t.test('docs/reliability.md lists them all, and no others', async t => {
  const page = readFileSync('docs/reliability.md', 'utf8')
  t.equal(withTable(page), page, 'npm run test:faults -- --mutations writes it')
  t.throws(() => withTable(''), /lost its marks/)
})

t.test('the outcome of a named result is read from what a run prints', async t => {
  const output = ['1. Title', '   ok   rows lost: 0 (required: 0)', '   FAIL pause, first: 9 ms (required: <= 5 ms)', '   ok   pause, second: 1 ms (required: <= 5 ms)', '1  pause  9 ms  FAIL'].join('\n')
  t.equal(outcome(output, { breaks: 'rows lost' }), 'ok')
  t.equal(outcome(output, { breaks: 'pause' }), 'FAIL', 'any of that beginning')
  t.equal(outcome(output, { breaks: 'pause, second' }), 'ok')
  t.equal(outcome(output, { breaks: 'FAIL' }), 'absent')
  t.throws(() => apply('a a', { file: 'x.js', from: 'a', to: 'b' }), { message: 'x.js: occurs 2 times, expected once: a' })
  t.throws(() => apply('', { file: 'x.js', from: 'a', to: 'b' }), { message: 'x.js: occurs 0 times, expected once: a' })
  t.equal(apply('a$&', { file: 'x.js', from: 'a', to: '$&' }), '$&$&', 'text, not a pattern')
})
