/** What a route may say about sessions. */
import t from 'tap'
import { createPolicyReader, NOT_LOOKED_AT, OPTIONAL, REQUIRED } from '../../lib/session-policy.js'

t.test('what routes may say', async t => {
  const read = createPolicyReader(OPTIONAL, 900_000)
  t.equal(read(undefined, 'GET /'), OPTIONAL)
  t.equal(read({}, 'GET /'), OPTIONAL)
  t.equal(read({ session: 'required' }, 'GET /'), REQUIRED)
  t.equal(read({ session: 'optional' }, 'GET /'), OPTIONAL)
  t.equal(read({ session: false }, 'GET /'), NOT_LOOKED_AT)
  t.same(read({ session: { fresh: '5m' } }, 'GET /'), { look: true, required: true, maxAge: 300_000 })
  t.same(read({ session: { fresh: 1000 } }, 'GET /'), { look: true, required: true, maxAge: 1000 })
  t.same(read({ session: { fresh: true } }, 'GET /'), { look: true, required: true, maxAge: 900_000 })
  t.equal(createPolicyReader(NOT_LOOKED_AT, 1)({}, 'GET /'), NOT_LOOKED_AT)
  const config = { session: { fresh: '5m' } }
  t.equal(read(config, 'GET /'), read(config, 'GET /'), 'read once')
})

t.test('anything else is an error that names the route', async t => {
  const read = createPolicyReader(OPTIONAL, 1)
  for (const session of [true, null, 'require', 1, {}, { fresh: '5m', other: 1 }, []]) {
    t.throws(() => read({ session }, 'GET /x'), { code: 'DOORMAN_OPTION_INVALID', message: /config\.session of GET \/x.*"required", "optional", false/ }, JSON.stringify(session))
  }
  for (const fresh of ['soon', 0, -1, false]) t.throws(() => read({ session: { fresh } }, 'GET /x'), { code: 'DOORMAN_OPTION_INVALID', message: /config\.session\.fresh of GET \/x/ })
})
