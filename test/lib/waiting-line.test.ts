/** First come, first served; nobody waits longer than the wait. */
import t from 'tap'
import { createWaitingLine } from '../../lib/waiting-line.js'

// The timers under test do not keep the process alive; a server does.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

t.test('admits in the order of arrival', async t => {
  const line = createWaitingLine(10_000)
  const order: string[] = []
  const joined = ['a', 'b', 'c'].map(name => line.join().then(admitted => { if (admitted) order.push(name) }))
  t.ok(line.admit())
  t.ok(line.admit())
  t.ok(line.admit())
  t.notOk(line.admit(), 'nobody is left')
  await Promise.all(joined)
  t.strictSame(order, ['a', 'b', 'c'])
})

t.test('who waited long enough leaves, and is not admitted afterwards', async t => {
  const line = createWaitingLine(1)
  t.equal(await line.join(), false)
  t.notOk(line.admit())
  const [a, b] = [line.join(), line.join()]
  t.strictSame(await Promise.all([a, b]), [false, false])
  const later = line.join()
  t.ok(line.admit(), 'the line works on')
  t.equal(await later, true)
})

t.test('dismiss sends everybody away', async t => {
  const line = createWaitingLine(10_000)
  const all = [line.join(), line.join()]
  line.dismiss()
  t.strictSame(await Promise.all(all), [false, false])
  t.notOk(line.admit())
})
