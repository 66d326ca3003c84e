/** Last uses wait to be stored, one per session. */
import t from 'tap'
import { createTouches } from '../../lib/touches.js'
import type { SessionRecord, SessionTouch } from '../../storage/storage.js'
import { createManualQueue, type ManualQueue } from '../fake-storage.js'

const record = { id: 's_1', lastActiveAt: 100, lastIp: 'a', lastUserAgent: 'u', flagged: false } as SessionRecord
const touch = (at: number, rest: Partial<SessionTouch> = {}): SessionTouch => ({ sessionId: 's_1', at, ip: null, userAgent: null, flagged: false, ...rest })

function setUp () {
  const stored: SessionTouch[][] = []
  let queue!: ManualQueue
  const state = { failure: null as Error | null }
  const touches = createTouches({
    async store (rows) {
      if (state.failure !== null) throw state.failure
      stored.push(structuredClone(rows))
    },
    createQueue: commit => (queue = createManualQueue(commit))
  })
  return { touches, queue, stored, state }
}

t.test('one row per session waits, later uses are merged into it', async t => {
  const { touches, queue, stored } = setUp()
  t.equal(touches.oldest(), null)
  t.equal(touches.lastActiveAt('s_1'), 0)
  t.equal(touches.overlay(record), record)
  touches.add(touch(300, { ip: 'b', flagged: true }))
  touches.add(touch(200, { userAgent: 'v' }))
  touches.add({ ...touch(150), sessionId: 's_2' })
  t.equal(queue.rows.length, 2)
  t.equal(touches.size, 2)
  t.equal(touches.oldest(), 150)
  t.equal(touches.lastActiveAt('s_1'), 300)
  t.equal(touches.lastActiveAt('s_3'), 0)
  const other = { ...record, id: 's_3' }
  t.equal(touches.overlay(other), other)
  t.same(touches.overlay(record), { ...record, lastActiveAt: 300, lastIp: 'b', lastUserAgent: 'v', flagged: true })
  t.equal(record.lastActiveAt, 100, 'the record itself is left alone')
  await queue.flush()
  t.same(stored, [[touch(300, { ip: 'b', userAgent: 'v', flagged: true }), { ...touch(150), sessionId: 's_2' }]])
  t.equal(touches.size, 0)
  t.equal(touches.overlay(record), record)
})

t.test('a use during the writing of an earlier one is a row of its own, and seen until it is stored', async t => {
  const { touches, queue, stored } = setUp()
  touches.add(touch(200, { flagged: true }))
  const flushed = queue.flush()
  touches.add(touch(300))
  t.equal(queue.rows.length, 1)
  await flushed
  t.equal(touches.size, 1)
  t.match(touches.overlay(record), { lastActiveAt: 300, flagged: true })
  await queue.flush()
  t.same(stored, [[touch(200, { flagged: true })], [touch(300, { flagged: true })]])
  t.equal(touches.size, 0)
})

t.test('what could not be stored stays in sight', async t => {
  const { touches, queue, state } = setUp()
  state.failure = new Error('locked')
  touches.add(touch(200))
  await t.rejects(queue.flush(), { message: 'locked' })
  t.equal(touches.overlay(record).lastActiveAt, 200)
})

t.test('a full queue leaves a use out', async t => {
  const { touches, queue } = setUp()
  queue.limit = 0
  touches.add(touch(200))
  t.equal(touches.size, 0)
  queue.limit = 1
  touches.add(touch(201))
  t.equal(touches.size, 1)
})

t.test('what was stored stays in sight of the reads that began before it was', async t => {
  const { touches, queue } = setUp()
  const seen = (found: SessionRecord) => touches.overlay(found).lastActiveAt
  const reads = Array.from({ length: 3 }, () => {
    let end!: (found: SessionRecord) => void
    const read = new Promise<SessionRecord>(resolve => { end = resolve })
    return { read, end: () => end(record) }
  })
  const [first, second, third] = reads as [typeof reads[0], typeof reads[0], typeof reads[0]]
  const before = touches.during(first.read, seen)
  touches.add(touch(200))
  await queue.flush()
  const between = touches.during(second.read, seen)
  touches.add({ ...touch(300), sessionId: 's_2' })
  await queue.flush()
  const after = touches.during(third.read, seen)
  t.equal(touches.size, 2)
  second.end()
  await between
  t.equal(touches.size, 2, 'an earlier read may still miss both')
  first.end()
  t.equal(await before, 200)
  t.equal(touches.size, 0, 'the last read began after both were stored')
  third.end()
  t.equal(await after, 100)

  touches.add(touch(400))
  const failed = touches.during(Promise.reject(new Error('lost')), seen)
  await queue.flush()
  await t.rejects(failed, { message: 'lost' })
  t.equal(touches.size, 0)

  const slow = touches.during(new Promise<SessionRecord>(resolve => { setImmediate(() => resolve(record)) }), seen)
  touches.add(touch(500))
  await queue.flush()
  touches.add(touch(600))
  t.equal(await slow, 600)
  t.equal(touches.size, 1, 'the later one waits on')
})
