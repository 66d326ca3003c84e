/** The three modes of anonymisation, and the key that is destroyed at midnight. */
import t from 'tap'
import { setTimeout as sleep } from 'node:timers/promises'
import { createAnonymizer, type Anonymization } from '../../lib/anonymizer.js'
import { until } from '../helper.js'

const MIDNIGHT = Date.UTC(2026, 10, 24)

function at (mode: Anonymization) {
  const keys: Uint8Array[] = []
  const state = { now: MIDNIGHT - 1, keys }
  const anonymizer = createAnonymizer({
    mode,
    clock: () => state.now,
    makeKey (bytes) {
      keys.push(new Uint8Array(bytes).fill(keys.length + 1))
      return keys.at(-1)!
    }
  })
  return { state, anonymizer }
}

t.test('none: as it is', async t => {
  t.equal(at('none').anonymizer.apply('192.0.2.77'), '192.0.2.77')
})

t.test('truncate: the network only', async t => {
  const { anonymizer } = at('truncate')
  t.equal(anonymizer.apply('192.0.2.77'), '192.0.2.0')
  t.equal(anonymizer.apply('2001:db8:1:2:3:4:5:6'), '2001:db8:1::')
  t.equal(anonymizer.apply('not an address'), 'not an address')
})

t.test('hash: the same within a day, another after midnight UTC, with the old key destroyed', async t => {
  const { anonymizer, state } = at('hash')
  const today = anonymizer.apply('192.0.2.77')
  t.match(today, /^h_[\w-]{16}$/)
  t.equal(anonymizer.apply('192.0.2.77'), today)
  t.not(anonymizer.apply('192.0.2.78'), today)
  t.equal(state.keys.length, 1)
  t.equal(state.keys[0]!.length, 32)
  state.now = MIDNIGHT
  t.not(anonymizer.apply('192.0.2.77'), today)
  t.strictSame([...state.keys[0]!], new Array(32).fill(0), 'yesterday cannot be tried again')
  anonymizer.close()
  t.strictSame([...state.keys[1]!], new Array(32).fill(0))
  t.match(anonymizer.apply('192.0.2.77'), /^h_/, 'a request that ends during the close is hashed with a new key')
})

t.test('networks: in the form that may be stored, too', async t => {
  const networks = (mode: Anonymization) => ['192.0.2.77', '2001:db8:1:2:3:4:5:6', '2001:db8:1::6'].map(at(mode).anonymizer.network)
  t.strictSame(networks('none'), ['192.0.2.0/24', '2001:db8:1:2::/64', '2001:db8:1::/64'])
  t.strictSame(networks('truncate'), ['192.0.2.0/24', '2001:db8:1::/48', '2001:db8:1::/48'], 'no more of IPv6 than of an address')
  const { anonymizer } = at('hash')
  t.match(anonymizer.network('192.0.2.77'), /^h_[\w-]{16}$/)
  t.equal(anonymizer.network('192.0.2.77'), anonymizer.network('192.0.2.78'))
  t.not(anonymizer.network('192.0.2.77'), anonymizer.network('192.0.3.77'))
})

t.test('hash: keys are random unless told otherwise', async t => {
  const make = () => createAnonymizer({ mode: 'hash', clock: () => 0 }).apply('192.0.2.77')
  t.not(make(), make())
})

t.test('hash: the key is destroyed at midnight by the clock, also where nobody comes then', async t => {
  const { anonymizer, state } = at('hash')
  const today = anonymizer.apply('192.0.2.77')
  const isDestroyed = () => state.keys[0]!.every(byte => byte === 0)
  await sleep(20)
  t.notOk(isDestroyed(), 'the clock was set back: it is today still')
  t.equal(anonymizer.apply('192.0.2.77'), today)
  state.now = MIDNIGHT
  await until(isDestroyed, 'the key to be destroyed')
  t.equal(state.keys.length, 1)
  t.not(anonymizer.apply('192.0.2.77'), today)
  anonymizer.close()
})
