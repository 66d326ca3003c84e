/** When a signal becomes a block, and when not. */
import t from 'tap'
import { createAutoBlocks, type BlockCause } from '../../lib/abuse-blocks.js'
import { resolveAbuse, type AbuseBlockOptions } from '../../lib/abuse-options.js'
import { formatCidr, overlap, parseCidr } from '../../lib/cidr.js'
import type { BlockRecord } from '../../storage/storage.js'
import { recordingLogger } from '../helper.js'

const MINUTE = 60_000

function make (block: AbuseBlockOptions = {}) {
  const state = { now: 1_000_000, stored: [] as BlockRecord[], attempts: 0, store: async () => {} }
  const log = recordingLogger()
  const { block: options } = resolveAbuse({ block })
  if (options === false) throw new Error('on')
  const auto = createAutoBlocks({
    options,
    log,
    clock: () => state.now,
    blocks: {
      async add ({ cidr, until = null, reason = null }) {
        state.attempts++
        await state.store()
        const block = { id: `id ${state.attempts}`, cidr, until, reason, createdAt: state.now }
        state.stored.push(block)
        return block
      },
      find: text => state.stored.find(({ cidr, until }) => until! > state.now && overlap(parseCidr(cidr)!, parseCidr(text)!)) ?? null
    }
  })
  const add = async (address: string, signal: BlockCause['signal'] = 'malicious_excess_404') => {
    auto.add({ signal, address, count: 134, window: MINUTE, shown: 'shown' })
    await new Promise(setImmediate)
  }
  return { auto, state, log, add, cidrs: () => state.stored.map(({ cidr }) => cidr) }
}

t.test('the network of a signal, for a while; of many users the address alone', async t => {
  const { auto, state, log, add } = make()
  await add('192.0.2.77')
  await add('2001:db8:1:2:3:4:5:6', 'session_token_guessing')
  await add('198.51.100.77', 'excess_users_from_address')
  await add('2001:db8:9::9', 'excess_users_from_address')
  t.match(state.stored, [
    { cidr: '192.0.2.0/24', until: 1_000_000 + 15 * MINUTE, reason: 'automatic: malicious_excess_404, 134 in 1m' },
    { cidr: '2001:db8:1:2::/64', reason: 'automatic: session_token_guessing, 134 in 1m' },
    { cidr: '198.51.100.77/32' },
    { cidr: '2001:db8:9::9/128' }
  ])
  t.equal(auto.inForce(), 4)
  t.strictSame(auto.stats(), { total: 4, skipped: { max: 0, protected: 0, failed: 0 } })
  t.match(log.lines[0], { level: 'warn', fields: { signal: 'malicious_excess_404', network: 'shown', block: 'id 1', until: Number } })
  t.notMatch(JSON.stringify(log.lines), '192.0.2', 'only what may be logged')
})

t.test('not twice, by whoever it was blocked', async t => {
  const { auto, state, add } = make()
  await add('192.0.2.1')
  await add('192.0.2.2')
  state.stored.push({ id: 'theirs', cidr: '198.51.100.0/22', until: Infinity, reason: null, createdAt: 0 })
  await add('198.51.100.1')
  t.equal(state.attempts, 1)
  state.now += 15 * MINUTE
  t.equal(auto.inForce(), 0)
  await add('192.0.2.1')
  t.equal(state.attempts, 2, 'but again when it is over')
})

t.test('nor while it is being stored', async t => {
  const { auto, state, add } = make({ max: 1 })
  let stored = () => {}
  state.store = () => new Promise(resolve => { stored = resolve })
  await add('192.0.2.1')
  await add('192.0.2.2')
  await add('198.51.100.1')
  t.equal(state.attempts, 1)
  t.equal(auto.stats().skipped.max, 1, 'it takes its place at once')
  t.equal(auto.inForce(), 1)
  stored()
})

t.test('only so many at once', async t => {
  const { auto, state, log, add, cidrs } = make({ max: 2, for: '1m' })
  for (let i = 1; i <= 5; i++) await add(`192.0.${i}.1`)
  t.strictSame(cidrs(), ['192.0.1.0/24', '192.0.2.0/24'])
  t.equal(auto.stats().skipped.max, 3)
  t.match(log.lines.filter(({ message }) => message.includes('as many as allowed')), [{ level: 'warn', fields: { max: 2, skipped: 1 } }], 'one line a minute')

  state.stored.shift()
  await add('192.0.6.1')
  t.equal(auto.stats().skipped.max, 4, 'whether somebody lifted one is looked at once a second')
  state.now += 1000
  await add('192.0.6.1')
  t.equal(cidrs().at(-1), '192.0.6.0/24')
  await add('192.0.7.1')
  state.now += 59_000
  await add('192.0.7.1')
  t.equal(cidrs().at(-1), '192.0.7.0/24', 'one is over')
  await add('192.0.8.1')
  t.match(log.lines.filter(({ message }) => message.includes('as many as allowed')), [{}, { fields: { skipped: 6 } }])
})

t.test('one that was lifted is blocked again at the next signal', async t => {
  const { state, add } = make()
  await add('192.0.2.1')
  state.stored.length = 0
  await add('192.0.2.1')
  t.equal(state.attempts, 2)
})

t.test('never what the host allows, nor a network with any of it', async t => {
  const { auto, add, cidrs } = make({ allow: ['192.0.2.200', '198.51.0.0/16', '2001:db8::/32', '2001:dead:1:2:3::/80'] })
  for (const address of ['192.0.2.1', '198.51.100.1', '2001:db8::1', '2001:dead:1:2::7']) await add(address)
  t.strictSame(cidrs(), [])
  t.equal(auto.stats().skipped.protected, 4)
  await add('192.0.2.1', 'excess_users_from_address')
  await add('2001:dead:1:3::7')
  t.strictSame(cidrs(), ['192.0.2.1/32', '2001:dead:1:3::/64'])
})

const LOOPBACK = ['127.0.0.1', '127.8.8.8', '::1']
const PRIVATE = ['10.1.2.3', '172.16.0.1', '172.31.255.1', '192.168.1.1', '169.254.1.1', '100.64.0.1', 'fd00::1', 'fe80::1', '64:ff9b::c000:201', '64:ff9b:1::1']

t.test('never what stands for many: loopback, private, link-local and shared addresses', async t => {
  const { auto, log, add, cidrs } = make()
  for (const address of [...LOOPBACK, ...PRIVATE]) await add(address)
  t.strictSame(cidrs(), [])
  t.equal(auto.stats().skipped.protected, LOOPBACK.length + PRIVATE.length)
  t.match(log.lines, [{ level: 'warn', fields: { skipped: 1 }, message: /trustProxy/ }], 'said once a minute')
  for (const address of ['11.0.0.1', '172.15.0.1', '172.32.0.1', '192.169.0.1', '100.128.0.1', '128.0.0.1']) await add(address)
  t.equal(cidrs().length, 6, 'their neighbours are ordinary')
})

t.test('private ones on demand, loopback never', async t => {
  const { add, cidrs } = make({ blockPrivate: true })
  for (const address of [...LOOPBACK, ...PRIVATE]) await add(address)
  t.equal(cidrs().length, PRIVATE.length)
  t.notOk(cidrs().some(cidr => LOOPBACK.some(address => overlap(parseCidr(cidr)!, parseCidr(address)!))))
})

t.test('a block that cannot be stored: said, and tried again at the next signal', async t => {
  const { auto, state, log, add } = make()
  const failure = new Error('locked')
  state.store = async () => { throw failure }
  await add('192.0.2.1')
  await add('192.0.3.1')
  t.strictSame(auto.stats(), { total: 0, skipped: { max: 0, protected: 0, failed: 2 } })
  t.equal(auto.inForce(), 0)
  t.match(log.lines, [{ level: 'error', fields: { err: failure, failures: 1 } }])
  state.store = async () => {}
  await add('192.0.2.1')
  t.equal(auto.inForce(), 1)
})

t.test('networks overlap when one is within the other', async t => {
  const cidr = (text: string) => parseCidr(text)!
  for (const [a, b, expected] of [
    ['192.0.2.0/24', '192.0.2.7', true], ['192.0.2.0/24', '192.0.3.0/24', false], ['192.0.2.0/24', '192.0.0.0/16', true], ['0.0.0.0/0', '192.0.2.1', true],
    ['2001:db8::/64', '2001:db8::/48', true], ['2001:db8:1::/64', '2001:db8:2::/64', false], ['::/0', '192.0.2.1', false], ['192.0.2.1', '::', false]
  ] as const) {
    t.equal(overlap(cidr(a), cidr(b)), expected, `${a} ${b}`)
    t.equal(overlap(cidr(b), cidr(a)), expected, `${b} ${a}`)
    t.equal(overlap(cidr(a), cidr(a)), true, formatCidr(cidr(a)))
  }
})
