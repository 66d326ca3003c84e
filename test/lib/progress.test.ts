/** Progress on a terminal and in a log. */
import t from 'tap'
import { createProgress } from '../../lib/progress.js'

function setUp (isTerminal: boolean) {
  const state = { now: 0, text: '' }
  const progress = createProgress({ write (text) { state.text += text }, isTerminal, monotonic: () => state.now })
  const taken = () => {
    const { text } = state
    state.text = ''
    return text
  }
  return { state, progress, taken }
}

t.test('on a terminal: a bar that is drawn over itself, and taken away', async t => {
  const { state, progress, taken } = setUp(true)
  progress.show('pass 1, ip_logs', 0, 4_000_000)
  t.equal(taken(), '\r[........................] pass 1, ip_logs: 0 %, 0 of 4,000,000 rows\x1b[K')
  state.now = 99
  progress.show('pass 1, ip_logs', 100_000, 4_000_000)
  t.equal(taken(), '', 'not more often than ten times a second')
  state.now = 1000
  progress.show('pass 1, ip_logs', 1_000_000, 4_000_000)
  t.equal(taken(), '\r[######..................] pass 1, ip_logs: 25 %, 1,000,000 of 4,000,000 rows, 3 s left\x1b[K')
  state.now = 1100
  progress.show('comparing ip_logs', 1_000_000, 4_000_000)
  t.match(taken(), /rows\x1b/, 'a new step has no speed yet') // eslint-disable-line no-control-regex
  state.now = 1300
  progress.show('comparing ip_logs', 5_000_000, 4_000_000)
  t.match(taken(), '[########################] comparing ip_logs: 100 %, 5,000,000 of 4,000,000 rows, 0 s left')
  progress.end()
  t.equal(taken(), '\r\x1b[K')
  progress.end()
  t.equal(taken(), '')
})

t.test('elsewhere: a line now and then, and nothing to take away', async t => {
  const { state, progress, taken } = setUp(false)
  progress.show('pass 1, sessions', 0, 0)
  t.equal(taken(), 'pass 1, sessions: 0 %, 0 of 0 rows\n')
  state.now = 9999
  progress.show('pass 1, sessions', 10, 20)
  t.equal(taken(), '')
  state.now = 10_000
  progress.show('pass 1, sessions', 10, 20)
  t.equal(taken(), 'pass 1, sessions: 50 %, 10 of 20 rows, 10 s left\n')
  progress.end()
  t.equal(taken(), '')
})
