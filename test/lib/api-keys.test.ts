/** API keys: compared without telling how much of one was right. */
import t from 'tap'
import { createApiKeys, generateApiKey } from '../../lib/api-keys.js'

t.test('a set of keys knows its own', async t => {
  const keys = createApiKeys(['first-key', 'second-key'])
  t.ok(keys.has('first-key'))
  t.ok(keys.has('second-key'))
  for (const other of ['', 'first', 'first-keyx', 'FIRST-KEY', 'x'.repeat(100_000)]) t.notOk(keys.has(other))
  t.notOk(createApiKeys([]).has(''), 'an empty set knows none')
})

t.test('the keys cannot be read from it', async t => {
  t.notMatch(JSON.stringify(createApiKeys(['first-key'])), 'first')
})

t.test('a generated key carries all the random bits', async t => {
  t.equal(generateApiKey(size => Buffer.alloc(size, 0xff)), `dk_${'_'.repeat(42)}8`)
  t.match(generateApiKey(), /^dk_[\w-]{43}$/)
  t.not(generateApiKey(), generateApiKey())
})
