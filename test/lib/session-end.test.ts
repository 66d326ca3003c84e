/** Why a session has ended, as a sentence. */
import t from 'tap'
import { describeEnd, toSessionEnd } from '../../lib/session-end.js'
import { END_REASONS } from '../../lib/vocabulary.js'

t.test('a sentence for every reason', async t => {
  const sentences = END_REASONS.map(describeEnd)
  for (const sentence of sentences) t.match(sentence, /^You were signed out[^.]{10,}\.$/)
  t.equal(new Set(sentences).size, END_REASONS.length)
})

t.test('of a refusal, what is known of the session', async t => {
  t.equal(toSessionEnd({ valid: false, reason: 'unknown' }), null)
  t.strictSame(toSessionEnd({ valid: false, reason: 'limit', at: 0, sessionId: 's_1', userId: 'ada' }), { reason: 'limit', at: 0, sessionId: 's_1', userId: 'ada' })
})
