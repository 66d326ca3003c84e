/** Credentials of a request, and its session. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { NO_SESSION, readCredential, RequestSession, requestSession, sessionOf } from '../../lib/request-session.js'
import type { SessionView } from '../../lib/session-types.js'
import { createToken } from '../../lib/token.js'

const token = createToken(randomBytes)
const other = createToken(randomBytes)

t.test('R7: credentials come from the cookie or a bearer token of ours', async t => {
  const read = (headers: { cookie?: string, authorization?: string }, bearer = true) => readCredential(headers, 'sid', bearer)
  t.equal(read({}), null)
  t.same(read({ cookie: `a=b; sid=${token}` }), { token, source: 'cookie' })
  t.same(read({ authorization: `Bearer ${token}` }), { token, source: 'bearer' })
  t.same(read({ authorization: `bEARER   ${token} ` }), { token, source: 'bearer' })
  t.same(read({ authorization: 'Bearer dm_junk' }), { token: 'dm_junk', source: 'bearer' }, 'claims to be ours')
  t.same(read({ cookie: `sid=${token}`, authorization: `Bearer ${other}` }), { token: other, source: 'bearer' }, 'what is sent on purpose goes first')
  t.same(read({ cookie: `sid=${token}`, authorization: 'Bearer key-of-the-host' }), { token, source: 'cookie' })
  t.equal(read({ authorization: 'Bearer key-of-the-host' }), null)
  t.equal(read({ authorization: `Basic ${token}` }), null)
  t.equal(read({ authorization: token }), null)
  t.equal(read({ authorization: `Bearer ${token}` }, false), null)
})

t.test('R8: the token does not show', async t => {
  const state = new RequestSession({ id: 's_1' } as SessionView, null, 'cookie', token)
  t.equal(state.token, token)
  const request = { [requestSession]: state }
  for (const text of [JSON.stringify(state), JSON.stringify(request), inspect(request, { depth: 10, showHidden: true }), String(state)]) t.notMatch(text, token)
})

t.test('the session of a request, whatever the decorator is called', async t => {
  const session = { id: 's_1' } as SessionView
  t.equal(sessionOf({ [requestSession]: new RequestSession(session, null, 'cookie', token) }), session)
  t.equal(sessionOf({ [requestSession]: NO_SESSION }), null)
  t.equal(sessionOf({ [requestSession]: null }), null)
  t.equal(sessionOf({}), null)
})
