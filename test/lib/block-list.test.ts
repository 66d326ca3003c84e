/** Blocked addresses and networks in memory, beside those of the storage. */
import t from 'tap'
import { createBlockList } from '../../lib/block-list.js'
import type { BlockRecord } from '../../storage/storage.js'

interface State { now: number, counter: number, stored: BlockRecord[], lists: number, errors: unknown[], list?: () => Promise<BlockRecord[]> }

function make () {
  const state: State = { now: 1000, counter: 0, stored: [], lists: 0, errors: [] }
  const blocks = createBlockList({
    clock: () => state.now,
    random: Math.random,
    onError: error => { state.errors.push(error) },
    storage: {
      changeCounter: () => state.counter,
      async listBlocks () {
        state.lists++
        return state.list === undefined ? [...state.stored] : await state.list()
      },
      async addBlock (block) {
        state.stored.push(block)
        state.counter++
      },
      async removeBlock (id) {
        const before = state.stored.length
        state.stored = state.stored.filter(block => block.id !== id)
        state.counter++
        return state.stored.length < before
      }
    }
  })
  return { state, blocks }
}

const record = (cidr: string, until: number | null = null): BlockRecord => ({ id: `id-${cidr}`, cidr, until, reason: null, createdAt: 0 })
const settled = () => new Promise(resolve => setImmediate(resolve))

t.test('blocks at once, canonical, until it is lifted', async t => {
  const { state, blocks } = make()
  t.equal(blocks.match('192.0.2.9', state.now), null)
  const block = await blocks.add({ cidr: '192.0.2.7/24', reason: 'too\nmany' })
  t.match(block, { id: /^[\da-z]{16}$/, cidr: '192.0.2.0/24', until: null, reason: 'toomany', createdAt: 1000 })
  t.strictSame(state.stored, [block])
  t.strictSame(blocks.match('192.0.2.9', state.now), block)
  t.equal(blocks.match('192.0.3.9', state.now), null)
  t.strictSame(await blocks.list(), [block])
  t.equal(await blocks.remove(block.id), true)
  t.equal(blocks.match('192.0.2.9', state.now), null)
  t.equal(await blocks.remove(block.id), false)
})

t.test('ends by the clock, without any reload', async t => {
  const { state, blocks } = make()
  await blocks.add({ cidr: '2001:db8::1', until: 5000 })
  t.ok(blocks.match('2001:db8::1', 4999))
  t.equal(blocks.match('2001:db8::1', 5000), null)
  t.equal(state.lists, 0)
})

t.test('an ended block does not hide one of the same or a wider network', async t => {
  const { state, blocks } = make()
  state.stored = [record('192.0.2.7/32', 2000), record('192.0.2.0/24')]
  await blocks.load()
  t.equal(blocks.match('192.0.2.7', 1999)?.cidr, '192.0.2.7/32')
  t.equal(blocks.match('192.0.2.7', 2000)?.cidr, '192.0.2.0/24')
})

t.test('learns of other processes\' changes, looking at most once a second', async t => {
  const { state, blocks } = make()
  await blocks.load()
  t.equal(state.lists, 1)
  blocks.refresh(state.now)
  await settled()
  t.equal(state.lists, 1, 'nothing changed')
  state.stored.push(record('192.0.2.0/24'))
  state.counter++
  blocks.refresh(state.now + 999)
  await settled()
  t.equal(blocks.match('192.0.2.1', state.now), null, 'not yet')
  blocks.refresh(state.now + 1000)
  await settled()
  t.ok(blocks.match('192.0.2.1', state.now))
})

t.test('a clock that was set back does not stop the looking', async t => {
  const { state, blocks } = make()
  blocks.refresh(3_600_000)
  await settled()
  state.stored.push(record('192.0.2.0/24'))
  state.counter++
  blocks.refresh(1000)
  await settled()
  t.ok(blocks.match('192.0.2.1', state.now))
})

t.test('a look that is still under way is not doubled', async t => {
  const { state, blocks } = make()
  await blocks.load()
  let answer = (_: BlockRecord[]) => {}
  state.list = () => new Promise(resolve => { answer = resolve })
  state.counter++
  blocks.refresh(10_000)
  await settled()
  blocks.refresh(20_000)
  await settled()
  t.equal(state.lists, 2)
  answer([])
  await settled()
  blocks.refresh(30_000)
  await settled()
  t.equal(state.lists, 2, 'and afterwards nothing has changed')
})

t.test('a list read before an own change does not undo it', async t => {
  const { state, blocks } = make()
  const answers: ((records: BlockRecord[]) => void)[] = []
  state.list = () => new Promise(resolve => { answers.push(resolve) })
  const loading = blocks.load()
  await settled()
  const block = await blocks.add({ cidr: '192.0.2.1' })
  answers[0]!([])
  await settled()
  t.ok(blocks.match('192.0.2.1', state.now))
  t.equal(answers.length, 2, 'read again')
  answers[1]!([block])
  await loading
  t.ok(blocks.match('192.0.2.1', state.now))
})

t.test('storage that fails: what is known stays in force, and the next look tries again', async t => {
  const { state, blocks } = make()
  await blocks.add({ cidr: '192.0.2.1' })
  const failure = new Error('locked')
  state.list = async () => { throw failure }
  blocks.refresh(10_000)
  await settled()
  t.strictSame(state.errors, [failure])
  t.ok(blocks.match('192.0.2.1', state.now))
  delete state.list
  state.stored = []
  blocks.refresh(11_000)
  await settled()
  t.equal(blocks.match('192.0.2.1', state.now), null)
})

t.test('finds the block that covers a whole network', async t => {
  const { state, blocks } = make()
  await blocks.add({ cidr: '192.0.2.0/25', until: 2000 })
  await blocks.add({ cidr: '198.51.100.0/24' })
  t.match(blocks.find('192.0.2.7'), { cidr: '192.0.2.0/25' })
  t.match(blocks.find('192.0.2.0/25'), { cidr: '192.0.2.0/25' })
  t.equal(blocks.find('192.0.2.0/24'), null, 'half of it')
  t.equal(blocks.find('192.0.3.0/24'), null)
  t.match(blocks.find('198.51.100.128/25'), { cidr: '198.51.100.0/24' })
  state.now = 2000
  t.equal(blocks.find('192.0.2.7'), null)
  t.throws(() => blocks.find('somewhere'), { code: 'DOORMAN_VALUE_INVALID', message: /"cidr" must be an address or a network/ })
})

t.test('refuses what is no network, too much, or makes no sense', async t => {
  const { state, blocks } = make()
  const refused = (block: unknown, message: RegExp) => t.rejects(blocks.add(block as { cidr: string }), { code: 'DOORMAN_VALUE_INVALID', message })
  await refused({ cidr: 'everybody' }, /"cidr" must be an address or a network.*"everybody"/)
  await refused({ cidr: 7 }, /"cidr".*got 7/)
  await refused({ cidr: '0.0.0.0/0' }, /lock out everybody/)
  await refused({ cidr: '::/0' }, /lock out everybody/)
  await refused({ cidr: '::ffff:0:0/96' }, /lock out everybody/)
  await refused({ cidr: '192.0.2.1', until: 1000 }, /"until" must be a time in the future/)
  await refused({ cidr: '192.0.2.1', until: 1.5e20 }, /"until"/)
  await refused({ cidr: '192.0.2.1', reason: 7 }, /"reason" must be a text/)
  t.strictSame(state.stored, [])
})
