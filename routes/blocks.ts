/** Addresses that are refused. */
import { Type, type FastifyPluginCallbackTypebox, type Static } from '@fastify/type-provider-typebox'
import { doormanError, show } from '../errors.js'
import { createCidrSet, parseCidr } from '../lib/cidr.js'
import type { BlockRecord } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { Empty, iso, isoOrNull, Nullable, NullableText, replies, strict, Time, time } from './schemas.js'

const tags = ['admin: blocks']

export const BlockReply = Type.Object({
  id: Type.String(),
  cidr: Type.String(),
  until: Nullable(Time),
  reason: NullableText,
  createdAt: Time
})

export const blockReply = (block: BlockRecord): Static<typeof BlockReply> =>
  ({ ...block, until: isoOrNull(block.until), createdAt: iso(block.createdAt) })

/** Whether a network, as it was written, has a canonical address in it. */
function holds (text: string, address: string): boolean {
  const cidr = parseCidr(text)
  // Said by `blocks.add`.
  if (cidr === null) return false
  const network = createCidrSet<true>()
  network.add(cidr, true)
  return network.find(address).length > 0
}

export const blocksRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/blocks', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'All blocks in force',
      querystring: strict({}),
      response: replies({ 200: Type.Object({ items: Type.Array(BlockReply), nextCursor: Type.Null({ description: 'The list is always complete' }) }) }, 401, 429)
    }
  }, async () => ({ items: (await app.ipTracking.blocks.list()).map(blockReply), nextCursor: null }))

  app.post('/admin/blocks', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Refuse an address or a network',
      body: strict({
        cidr: Type.String({ minLength: 1, maxLength: 100, description: 'An address, or a network such as 192.0.2.0/24' }),
        until: Type.Optional(Nullable(Time)),
        reason: Type.Optional(Nullable(Type.String({ maxLength: 500 })))
      }),
      response: replies({ 201: BlockReply }, 401, 429)
    }
  }, async (request, reply) => {
    const { cidr, until = null, reason = null } = request.body
    const own = request.clientAddress
    if (own !== null && holds(cidr, own)) {
      throw doormanError('DOORMAN_VALUE_INVALID', ['cidr', `a network without your own address (${own}): you would lock yourself out, also from lifting the block`, show(cidr)])
    }
    const block = await app.ipTracking.blocks.add({ cidr, reason, until: until === null ? null : time('until', until) })
    reply.code(201)
    return blockReply(block)
  })

  app.delete('/admin/blocks/:id', {
    config: API_KEY,
    schema: { tags, summary: 'Let an address in again', params: strict({ id: Type.String() }), response: replies({ 204: Empty }, 401, 404, 429) }
  }, async (request, reply) => {
    if (!await app.ipTracking.blocks.remove(request.params.id)) throw doormanError('DOORMAN_BLOCK_NOT_FOUND')
    reply.code(204)
    return null
  })
  done()
}
