/**
 * Sends the replies of one turn of the event loop together, which makes each of them cheaper under load. Needs no other
 * plugin, has no options. Hook: onSend. How, and what it costs whom: lib/reply-batch.ts.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { doormanError } from '../errors.js'
import { createReplyBatch } from '../lib/reply-batch.js'

const NAME = 'doorman-reply-batching'
const kBatching = Symbol('doorman.reply-batching')

async function replyBatching (fastify: FastifyInstance) {
  if (fastify.hasDecorator(kBatching)) throw doormanError('DOORMAN_ALREADY_REGISTERED', [NAME])
  fastify.decorate(kBatching, true)
  const hold = createReplyBatch()
  fastify.addHook('onSend', (_request, _reply, payload, done) => {
    // A stream goes on at once: until Fastify has it in its hands, nobody listens for its errors.
    if (typeof payload === 'string' || payload == null || Buffer.isBuffer(payload)) hold(done)
    else done()
  })
}

export default fp(replyBatching, { name: NAME, fastify: '5.x' })
