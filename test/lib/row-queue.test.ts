/** The queue in front of a store: batches, linger, places, retries, health, and what becomes of rows at the end. */
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { doormanError } from '../../errors.js'
import { createRowQueue, type DropReason, type RowQueueOptions } from '../../lib/row-queue.js'

// The timers under test do not keep the process alive; a server does.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

interface Call { rows: number[], seq: number, resolve: () => void, reject: (error: Error) => void }

/** A store whose commits the test ends; `next` waits for the next one. */
function setup (options: Partial<RowQueueOptions<number>> = {}) {
  const calls: Call[] = []
  const stored: number[] = []
  const health: string[] = []
  const drops: [DropReason, number][] = []
  let arrived = () => {}
  const queue = createRowQueue<number>({
    name: 'test',
    limit: 100,
    batchSize: 10,
    linger: 0,
    wait: 10_000,
    commit: (rows, seq) => new Promise<void>((resolve, reject) => {
      calls.push({ rows: [...rows], seq, resolve () { stored.push(...rows); resolve() }, reject })
      arrived()
    }),
    clock: () => 1000,
    random: () => 0, // the shortest pauses
    onHealth ({ healthy, error }) { health.push(healthy ? 'healthy' : error!.message) },
    onDrop (reason, rows) { drops.push([reason, rows]) },
    ...options
  })
  let taken = 0
  async function next (): Promise<Call> {
    if (calls.length <= taken) await new Promise<void>(resolve => { arrived = resolve })
    return calls[taken++]!
  }
  const push = (...rows: number[]) => rows.forEach(row => { queue.reserve(); queue.push(row) })
  return { queue, calls, stored, health, drops, next, push }
}

t.test('batches', async t => {
  t.test('rows of one turn of the event loop share a batch', async t => {
    const { queue, next, push, calls } = setup()
    push(1, 2)
    await Promise.resolve()
    push(3)
    t.equal(calls.length, 0, 'never sent within push')
    const call = await next()
    t.strictSame(call.rows, [1, 2, 3])
    t.equal(call.seq, 1)
    call.resolve()
    await queue.flush()
    t.match(queue.stats(), { queued: 0, inFlight: 0, pushed: 3, committed: 3, batches: 1, retries: 0 })
  })

  t.test('and those of the next turns, while each brings more', async t => {
    const { next, push } = setup({ monotonic: () => 0 })
    let coming = turn() // before the queue's own look at the end of the turn
    push(1)
    for (const row of [2, 3]) {
      await coming
      coming = turn()
      push(row)
    }
    const { rows, resolve } = await next()
    t.strictSame(rows, [1, 2, 3])
    resolve()
  })

  t.test('but not for ever', async t => {
    let now = 0
    const { next, push } = setup({ monotonic: () => { now += 0.3; return now } })
    let coming = turn()
    for (const row of [1, 2, 3, 4, 5, 6]) {
      push(row)
      await coming
      coming = turn()
    }
    const { rows, resolve } = await next()
    t.strictSame(rows, [1, 2, 3, 4, 5], 'a millisecond later, although every turn brought a row')
    resolve()
  })

  t.test('the statistics estimate what is held, queued or in flight', async t => {
    const { queue, next, push } = setup()
    t.equal(queue.stats().bytes, 0)
    push(1, 2)
    const call = await next()
    push(...Array.from({ length: 11 }, (_, i) => i))
    t.match(queue.stats(), { inFlight: 2, queued: 11, bytes: 13 * 16 }, 'a place and a number each')
    call.resolve()
    for (let batches = 0; batches < 2; batches++) (await next()).resolve()
    await queue.flush()
    t.equal(queue.stats().bytes, 0)
  })

  t.test('group commit: what arrives while the store is at work leaves together, one batch at a time', async t => {
    const { queue, next, push, calls, stored } = setup()
    push(0)
    const first = await next()
    push(...Array.from({ length: 12 }, (_, i) => i + 1))
    await turn()
    t.equal(calls.length, 1, 'one batch in flight')
    t.match(queue.stats(), { queued: 12, inFlight: 1 })
    first.resolve()
    const second = await next()
    t.strictSame(second.rows, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 'up to batchSize')
    second.resolve()
    const third = await next()
    t.strictSame(third.rows, [11, 12])
    t.strictSame([first.seq, second.seq, third.seq], [1, 2, 3])
    third.resolve()
    await queue.flush()
    t.strictSame(stored, [...Array(13).keys()])
  })

  t.test('a lone row waits for company as long as the linger says, and no longer', async t => {
    const { next, push, calls, queue } = setup({ linger: 20 })
    push(1)
    await turn()
    push(2)
    t.equal(calls.length, 0)
    const first = await next()
    t.strictSame(first.rows, [1, 2])
    first.resolve()
    await queue.flush()
    push(3)
    const second = await next()
    t.strictSame(second.rows, [3], 'the timer works again')
    second.resolve()
  })

  t.test('a full batch does not linger', async t => {
    const { next, push } = setup({ linger: 60_000, batchSize: 2 })
    push(1, 2)
    const call = await next()
    t.strictSame(call.rows, [1, 2])
    call.resolve()
  })

  t.test('a committed row takes the lingering ones along, and their timer then finds nothing to do', async t => {
    const { queue, next, push, calls } = setup({ linger: 20 })
    push(1)
    queue.reserve()
    const committed = queue.pushCommitted(2)
    const call = await next()
    t.strictSame(call.rows, [1, 2])
    call.resolve()
    await committed
    await delay(40)
    t.equal(calls.length, 1)
    t.equal(queue.stats().committed, 2)
  })
})

t.test('pushCommitted and flush resolve after the commit, not before', async t => {
  const { queue, next, push } = setup({ linger: 60_000 })
  await queue.flush()
  t.pass('nothing to flush')
  let committed = false
  queue.reserve()
  const promise = queue.pushCommitted(1).then(() => { committed = true })
  const call = await next()
  const inFlight = queue.flush()
  await turn()
  t.notOk(committed)
  call.resolve()
  await Promise.all([promise, inFlight])
  push(2, 3)
  const flushed = queue.flush()
  const second = await next()
  t.strictSame(second.rows, [2, 3], 'without linger')
  second.resolve()
  await flushed
})

t.test('rows pushed committed in one turn share a batch', async t => {
  const { queue, next } = setup()
  const promises = [1, 2, 3].map(row => { queue.reserve(); return queue.pushCommitted(row) })
  const call = await next()
  t.strictSame(call.rows, [1, 2, 3])
  call.resolve()
  await Promise.all(promises)
})

t.test('places', async t => {
  t.test('the limit counts rows queued, in flight and places taken', async t => {
    const { queue, next, push } = setup({ limit: 3 })
    push(1)
    const call = await next()
    push(2)
    t.ok(queue.reserve())
    t.match(queue.stats(), { queued: 1, inFlight: 1, reserved: 1, limit: 3 })
    t.notOk(queue.reserve(), 'full')
    queue.release()
    t.ok(queue.reserve(), 'a place given back is free')
    call.resolve()
    const second = await next()
    t.ok(queue.reserve(), 'and so is that of a committed row')
    t.notOk(queue.reserve())
    second.resolve()
  })

  t.test('a freed place goes to the longest waiter, and nobody gets ahead', async t => {
    const { queue } = setup({ limit: 1 })
    t.ok(await queue.waitForRoom(), 'at once where there is room')
    const order: number[] = []
    const waiting = [1, 2].map(n => queue.waitForRoom().then(taken => { order.push(n); return taken }))
    queue.release()
    t.notOk(queue.reserve(), 'the place is the waiter\'s')
    t.ok(await waiting[0])
    t.strictSame(order, [1])
    queue.release()
    t.ok(await waiting[1])
  })

  t.test('a commit frees as many places as it had rows', async t => {
    const { queue, next, push } = setup({ limit: 2 })
    push(1, 2)
    const call = await next()
    const waiting = [queue.waitForRoom(), queue.waitForRoom(), queue.waitForRoom()]
    call.resolve()
    t.strictSame(await Promise.all(waiting.slice(0, 2)), [true, true])
    t.match(queue.stats(), { reserved: 2 })
    queue.release()
    t.ok(await waiting[2])
  })

  t.test('who waits too long gets no place', async t => {
    const { queue } = setup({ limit: 1, wait: 1 })
    queue.reserve()
    t.equal(await queue.waitForRoom(), false)
    queue.release()
    t.match(queue.stats(), { reserved: 0 }, 'and does not take one later')
  })

  t.test('with no wait the answer comes at once', async t => {
    const { queue } = setup({ limit: 1, wait: 0 })
    queue.reserve()
    t.equal(await queue.waitForRoom(), false)
  })

  t.test('offer takes a place or counts the row as dropped', async t => {
    const { queue, next, drops } = setup({ limit: 1 })
    t.ok(queue.offer(1))
    t.notOk(queue.offer(2))
    queue.countDropped('queue-full', 3)
    t.strictSame(drops, [['queue-full', 1], ['queue-full', 3]])
    t.strictSame(queue.stats().dropped, { 'queue-full': 4 })
    ;(await next()).resolve()
  })
})

t.test('failures', async t => {
  t.test('a failed batch is sent again with the same rows and number, before anything newer', async t => {
    const { queue, next, push, stored } = setup()
    push(1, 2)
    const first = await next()
    push(3)
    first.reject(new Error('locked'))
    const again = await next()
    t.strictSame([again.rows, again.seq], [[1, 2], 1])
    again.reject(new Error('locked'))
    const third = await next()
    t.strictSame([third.rows, third.seq], [[1, 2], 1])
    third.resolve()
    const newer = await next()
    t.strictSame([newer.rows, newer.seq], [[3], 2])
    newer.resolve()
    await queue.flush()
    t.strictSame(stored, [1, 2, 3])
    t.match(queue.stats(), { retries: 2, batches: 2, committed: 3 })
  })

  t.test('a commit that throws is a commit that rejects', async t => {
    let calls = 0
    const { queue, push } = setup({ commit () { if (calls++ === 0) throw new Error('at once'); return Promise.resolve() } })
    push(1)
    await queue.flush()
    t.match(queue.stats(), { committed: 1, retries: 1 })
  })

  t.test('health is told once when it fails and once when it works again', async t => {
    const { queue, next, push, health } = setup()
    push(1)
    ;(await next()).reject(new Error('first'))
    ;(await next()).reject(new Error('second'))
    const last = await next()
    t.match(queue.stats(), { healthy: false, failingSince: 1000 })
    last.resolve()
    await queue.flush()
    t.match(queue.stats(), { healthy: true, failingSince: null })
    push(2)
    ;(await next()).resolve()
    await queue.flush()
    t.strictSame(health, ['first', 'healthy'])
  })

  t.test('nobody needs to listen', async t => {
    let calls = 0
    const queue = createRowQueue<number>({
      name: 'quiet',
      limit: 1,
      batchSize: 1,
      linger: 0,
      wait: 0,
      commit: () => calls++ === 0 ? Promise.reject(new Error('once')) : Promise.resolve(),
      clock: () => 0,
      random: () => 0
    })
    t.ok(queue.offer(1))
    t.notOk(queue.offer(2))
    await queue.flush()
    t.match(queue.stats(), { committed: 1, dropped: { 'queue-full': 1 } })
  })
})

t.test('close', async t => {
  t.test('stores what is queued, lingering rows included, and refuses new places', async t => {
    const { queue, next, push, stored } = setup({ linger: 60_000, limit: 3 })
    push(1, 2)
    queue.reserve()
    const waiting = queue.waitForRoom()
    const closing = queue.close(10_000)
    t.equal(await waiting, false, 'waiters are sent away')
    t.notOk(queue.reserve())
    t.equal(await queue.waitForRoom(), false)
    t.notOk(queue.offer(9))
    t.strictSame(queue.stats().dropped, { 'close-deadline': 1 })
    queue.push(3)
    const call = await next()
    t.strictSame(call.rows, [1, 2, 3], 'a row whose place was taken before is stored')
    t.equal(queue.close(0), closing, 'closing twice is closing once')
    call.resolve()
    t.strictSame(await closing, { notStored: 0 })
    t.strictSame(stored, [1, 2, 3])
    await queue.flush()
  })

  t.test('an empty queue closes at once', async t => {
    const { queue } = setup()
    t.strictSame(await queue.close(10_000), { notStored: 0 })
  })

  t.test('waits for the rows of places still taken', async t => {
    const { queue, next, stored } = setup({ linger: 60_000 })
    queue.reserve()
    queue.reserve()
    let closed = false
    const closing = queue.close(10_000).then(report => { closed = true; return report })
    await turn()
    t.notOk(closed)
    queue.push(1)
    ;(await next()).resolve()
    await turn()
    t.notOk(closed)
    queue.release()
    t.strictSame(await closing, { notStored: 0 })
    t.strictSame(stored, [1])
  })

  for (const inPause of [true, false]) {
    t.test(`does not sit out a long pause ${inPause ? 'that has begun' : 'after the attempt under way'}`, async t => {
      let failures = 0
      const { queue, next, push } = setup({ random: () => failures < 8 ? 0 : 0.99 }) // the pause after the eighth failure is 4950 ms
      push(1)
      while (failures < 8) {
        const call = await next()
        failures++
        call.reject(new Error('not yet'))
      }
      if (inPause) await turn()
      next().then(call => call.resolve())
      const before = performance.now()
      t.strictSame(await queue.close(60_000), { notStored: 0 })
      t.ok(performance.now() - before < 3000)
      t.equal(queue.stats().committed, 1)
    })
  }

  t.test('a pause does not outlast the deadline', async t => {
    const { queue, push } = setup({ random: () => 0.99, commit: () => Promise.reject(new Error('never')) })
    push(1)
    t.strictSame(await queue.close(20), { notStored: 1 })
    t.equal(queue.stats().inFlight, 0)
  })

  t.test('at the deadline gives up: rows are counted, promises are rejected with the reason', async t => {
    const { queue, next, push, drops } = setup({ batchSize: 2 })
    push(1)
    const call = await next()
    const waitsForIt = queue.flush()
    push(2)
    queue.reserve()
    const committed = queue.pushCommitted(3)
    push(4)
    const flushed = queue.flush()
    call.reject(new Error('still locked'))
    await turn()
    const closing = queue.close(20)
    t.strictSame(await closing, { notStored: 4 })
    for (const promise of [waitsForIt, committed, flushed]) {
      await t.rejects(promise, { code: 'DOORMAN_ROW_NOT_STORED', cause: { code: 'DOORMAN_CLOSE_INCOMPLETE', message: /20 ms: 4 / } })
    }
    t.strictSame(drops, [['close-deadline', 4]])
    t.match(queue.stats(), { queued: 0, inFlight: 0, bytes: 0, pushed: 4, committed: 0, dropped: { 'close-deadline': 4 } })
  })

  t.test('a deadline that passes before a batch was sent: it is not sent any more', async t => {
    const { queue, push, calls, drops } = setup()
    await turn() // so that timers come before the queue's next look
    push(1)
    const closed = queue.close(0)
    const passed = performance.now() + 5
    while (performance.now() < passed);
    t.strictSame(await closed, { notStored: 1 })
    await turn()
    await turn()
    t.strictSame([calls, drops], [[], [['close-deadline', 1]]])
  })

  t.test('a commit that ends after the deadline changes nothing any more', async t => {
    const { queue, next, push, calls } = setup()
    push(1)
    const call = await next()
    t.strictSame(await queue.close(1), { notStored: 1 })
    call.resolve()
    await turn()
    t.match(queue.stats(), { committed: 0, dropped: { 'close-deadline': 1 } })
    t.equal(calls.length, 1)
  })

  t.test('nor does one that fails then', async t => {
    const { queue, next, push, calls } = setup()
    push(1)
    const call = await next()
    t.strictSame(await queue.close(1), { notStored: 1 })
    call.reject(new Error('too late'))
    await delay(5)
    t.equal(calls.length, 1, 'it is not tried again')
  })

  t.test('a row that comes after the end is counted, and its promise rejects', async t => {
    const { queue, drops } = setup()
    queue.reserve()
    queue.reserve()
    t.strictSame(await queue.close(1), { notStored: 0 }, 'the deadline bounds the wait for places, too')
    queue.push(1)
    await t.rejects(queue.pushCommitted(2), { code: 'DOORMAN_ROW_NOT_STORED' })
    t.strictSame(drops, [['close-deadline', 1], ['close-deadline', 1]])
    await queue.flush()
  })
})

t.test('whoever waits for a commit is told when the store is in trouble; the rows stay', async t => {
  const commit = (queue: ReturnType<typeof setup>['queue'], row: number) => {
    queue.reserve()
    return queue.pushCommitted(row)
  }

  t.test('at the second failure in a row, those in the batches behind too', async t => {
    const { queue, next, stored } = setup({ batchSize: 1 })
    const first = commit(queue, 1)
    const call = await next()
    const second = commit(queue, 2)
    let told = false
    first.catch(() => { told = true })
    call.reject(new Error('once'))
    const again = await next()
    t.equal(told, false, 'one failure may be an accident')
    again.reject(new Error('twice'))
    for (const promise of [first, second]) await t.rejects(promise, { code: 'DOORMAN_ROW_DELAYED', statusCode: 503, cause: { message: 'twice' } })
    const third = commit(queue, 3)
    const flushed = queue.flush()
    for (let i = 0; i < 3; i++) (await next()).resolve()
    await third
    await flushed
    t.strictSame(stored, [1, 2, 3], 'in order, none lost')
  })

  t.test('at once when the store has waited its whole time for a lock', async t => {
    const { queue, next, stored } = setup()
    const committed = commit(queue, 1)
    const call = await next()
    call.reject(doormanError('DOORMAN_STORAGE_BUSY', [30]))
    await t.rejects(committed, { code: 'DOORMAN_ROW_DELAYED', cause: { code: 'DOORMAN_STORAGE_BUSY' } })
    const flushed = queue.flush()
    const again = await next()
    again.resolve()
    await flushed
    t.strictSame(stored, [1])
  })
})
