/**
 * Whatever happens in whatever order, the store ends up with every row once and in order. The store of these tests behaves
 * like the real one: it may fail before or after having stored a batch, and knows a repeated batch by its number.
 */
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { createRowQueue } from '../../lib/row-queue.js'

const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

/** What the store does with the batch in flight, if there is one, or what the callers do. */
const op = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant('offer' as const), rows: fc.integer({ min: 1, max: 7 }) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('pushCommitted' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('waitForRoom' as const), use: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('succeed' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('fail' as const), stored: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('turn' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('flush' as const) }) }
)

type Op = typeof op extends fc.Arbitrary<infer T> ? T : never

class Store {
  rows: number[] = []
  seq = 0
  problems: string[] = []
  #inFlight: { settle: (error?: Error) => void, store: () => void } | null = null
  #last: number[] = []
  #free = false

  commit (rows: number[], seq: number): Promise<void> {
    if (this.#inFlight !== null) this.problems.push(`batch ${seq} while another is in flight`)
    if (seq === this.seq) {
      if (rows.join() !== this.#last.join()) this.problems.push(`batch ${seq} came again with other rows`)
    } else if (seq !== this.seq + 1) this.problems.push(`batch ${seq} after ${this.seq}`)
    const copy = [...rows]
    return new Promise((resolve, reject) => {
      this.#inFlight = {
        settle: error => error === undefined ? resolve() : reject(error),
        store: () => {
          if (seq === this.seq) return
          this.seq = seq
          this.#last = copy
          this.rows.push(...copy)
        }
      }
      if (this.#free) this.succeed()
    })
  }

  succeed () {
    this.#end(true)
  }

  fail (stored: boolean) {
    this.#end(stored, new Error('lost'))
  }

  /** From now on everything succeeds at once. */
  free () {
    this.#free = true
    this.succeed()
  }

  #end (stored: boolean, error?: Error) {
    const batch = this.#inFlight
    if (batch === null) return
    this.#inFlight = null
    if (stored) batch.store()
    batch.settle(error)
  }
}

async function play (ops: Op[], limit: number, batchSize: number, linger: number, closeEarly: boolean) {
  const store = new Store()
  const accepted: number[] = []
  const acknowledged: { row: number, stored: boolean }[] = []
  const waiting: Promise<unknown>[] = []
  let row = 0
  const queue = createRowQueue<number>({ name: 'p', limit, batchSize, linger, wait: 60_000, commit: (rows, seq) => store.commit(rows, seq), clock: () => 0, random: () => 0 })
  const committed = () => {
    const mine = ++row
    accepted.push(mine)
    waiting.push(queue.pushCommitted(mine).then(() => acknowledged.push({ row: mine, stored: store.rows.includes(mine) })))
  }
  for (const step of ops) {
    if (step.op === 'offer') {
      for (let i = 0; i < step.rows; i++) {
        if (queue.offer(++row)) accepted.push(row)
      }
    } else if (step.op === 'pushCommitted') {
      if (queue.reserve()) committed()
    } else if (step.op === 'waitForRoom') {
      waiting.push(queue.waitForRoom().then(taken => {
        if (taken && step.use) committed()
        else if (taken) queue.release()
      }))
    } else if (step.op === 'succeed') store.succeed()
    else if (step.op === 'fail') store.fail(step.stored)
    else if (step.op === 'flush') {
      const before = [...accepted]
      waiting.push(queue.flush().then(() => { if (!before.every(row => store.rows.includes(row))) store.problems.push('flush too early') }))
    } else await turn()
    const { queued, inFlight, reserved } = queue.stats()
    if (queued + inFlight + reserved > limit || Math.min(queued, inFlight, reserved) < 0) store.problems.push('places miscounted')
  }
  const closing = closeEarly ? queue.close(60_000) : null
  store.free()
  await Promise.all(waiting)
  await queue.flush()
  const report = await (closing ?? queue.close(60_000))
  return { store, accepted, acknowledged, report, stats: queue.stats(), offered: row }
}

t.test('no row is lost, doubled or moved', async t => {
  await fc.assert(fc.asyncProperty(
    fc.array(op, { maxLength: 40 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 5 }), fc.constantFrom(0, 1, 1000), fc.boolean(),
    async (ops, limit, batchSize, linger, closeEarly) => {
      const { store, accepted, acknowledged, report, stats, offered } = await play(ops, limit, batchSize, linger, closeEarly)
      if (store.problems.length > 0) throw new Error(store.problems.join('; '))
      if (store.rows.join() !== accepted.join()) throw new Error(`stored ${store.rows} of ${accepted}`)
      if (!acknowledged.every(({ stored }) => stored)) throw new Error('acknowledged before it was stored')
      if (report.notStored !== 0 || stats.committed !== accepted.length || stats.pushed !== accepted.length) throw new Error('miscounted')
      if (accepted.length + (stats.dropped['queue-full'] ?? 0) !== offered) throw new Error('a row is neither accepted nor counted as dropped')
      if (stats.queued !== 0 || stats.inFlight !== 0 || stats.reserved !== 0) throw new Error('places left over')
    }
  ), { numRuns: 500 })
  t.pass('500 random schedules')
})

t.test('a close that is cut off loses the tail only, and says how much', async t => {
  await fc.assert(fc.asyncProperty(
    fc.array(op, { maxLength: 20 }), fc.integer({ min: 1, max: 5 }),
    async (ops, batchSize) => {
      const stored: number[] = []
      let seen = 0
      const queue = createRowQueue<number>({
        name: 'p',
        limit: 1000,
        batchSize,
        linger: 0,
        wait: 0,
        async commit (rows) {
          if (++seen > 2) await new Promise(() => {}) // hangs from the third batch on
          stored.push(...rows)
        },
        clock: () => 0,
        random: () => 0
      })
      let pushed = 0
      for (const step of ops) {
        if (step.op === 'offer') for (let i = 0; i < step.rows; i++) queue.offer(++pushed)
        else await turn()
      }
      const { notStored } = await queue.close(1)
      if (stored.length + notStored !== pushed) throw new Error(`${stored.length} + ${notStored} != ${pushed}`)
      if (stored.some((row, i) => row !== i + 1)) throw new Error('not the first ones')
      if ((queue.stats().dropped['close-deadline'] ?? 0) !== notStored) throw new Error('not counted')
    }
  ), { numRuns: 100 })
  t.pass('100 random schedules')
})
