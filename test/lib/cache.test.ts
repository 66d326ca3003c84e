/** The bounded cache. */
import t from 'tap'
import { createCache } from '../../lib/cache.js'

t.test('remembers what is in use, forgets the rest, and stays bounded', async t => {
  const cache = createCache<number>(2)
  cache.set('a', 1)
  cache.set('b', 2)
  cache.set('c', 3)
  t.equal(cache.get('a'), 1, 'the generation before is still known')
  cache.set('d', 4)
  cache.set('e', 5)
  t.equal(cache.get('a'), 1, 'what was used survived the change of generations')
  t.equal(cache.get('b'), undefined)
  t.equal(cache.get('never'), undefined)
})

t.test('can be emptied', async t => {
  const cache = createCache<number>(1)
  cache.set('a', 1)
  cache.set('b', 2)
  cache.clear()
  t.equal(cache.get('a'), undefined)
  t.equal(cache.get('b'), undefined)
})
