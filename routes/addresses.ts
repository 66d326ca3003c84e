/** Everything held with an address: hand it out, or erase it. */
import { Type, type FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { doormanError, show } from '../errors.js'
import { addressBits, normaliseAddress } from '../lib/address.js'
import { isHashedAddress } from '../lib/anonymizer.js'
import type { BlockRecord } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { ActivityReply, activityReply } from './activity.js'
import { BlockReply, blockReply } from './blocks.js'
import { IpLogReply, ipLogReply } from './ip-logs.js'
import { Address, iso, replies, strict, Time } from './schemas.js'
import { EXPORT_LIMIT, FLUSH_WAIT, HeldDeadLetter, heldDeadLetter, HeldSession, heldSession } from './users.js'

const tags = ['admin: addresses']

const ExportReply = Type.Object({
  address: Type.String({ description: 'In the form that is stored' }),
  exportedAt: Time,
  truncated: Type.Boolean({ description: `True when there are more than ${EXPORT_LIMIT} rows of a kind` }),
  sessions: Type.Array(HeldSession, { description: 'Live sessions that began, or were last used, at it' }),
  activity: Type.Array(ActivityReply),
  ipLogs: Type.Array(IpLogReply),
  deadLetters: Type.Array(HeldDeadLetter, { description: 'Refused rows that mention it' }),
  blocks: Type.Array(BlockReply, { description: 'Blocks of exactly this address' }),
  relayed: Type.Integer({ description: 'Requests of others that came through it, a proxy' })
})

const ErasedReply = Type.Object({
  ipLogs: Type.Integer({ description: 'Requests from it, removed' }),
  relayed: Type.Integer({ description: 'Requests that came through it; they stay, without it' }),
  activity: Type.Integer({ description: 'Entries that stay, without it' }),
  sessions: Type.Integer({ description: 'Sessions that live on, without it' }),
  deadLetters: Type.Integer({ description: 'Refused rows that mentioned it, removed' }),
  blocks: Type.Integer({ description: 'Blocks of exactly this address, lifted and removed' }),
  blocksKept: Type.Integer({ description: 'Blocks of exactly this address that are kept: more than 0 means that it is still stored' })
})

/**
 * The forms of an address as it was given: as it is stored, and the CIDR a block of it alone has (never anonymised; null where only a hash is known).
 * @throws DOORMAN_VALUE_INVALID
 */
function formsOf (app: FastifyInstance, given: string): { stored: string, cidr: string | null } {
  if (isHashedAddress(given)) return { stored: given, cidr: null }
  const address = normaliseAddress(given)
  if (address === null) throw doormanError('DOORMAN_VALUE_INVALID', ['ip', 'an IPv4 or IPv6 address', show(given)])
  return { stored: app.ipTracking.anonymize(address), cidr: `${address}/${addressBits(address)!.bits}` }
}

/** Those over, too, as long as they are stored. */
async function blocksOf (app: FastifyInstance, cidr: string | null): Promise<BlockRecord[]> {
  return (await app.database.storage.listBlocks(0)).filter(block => block.cidr === cidr)
}

// Their path is the address: rows have the route's pattern.
const config = { ...API_KEY, ipTracking: { path: 'route' } } as const
const params = strict({ ip: Address })

export const addressesRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/addresses/:ip/export', {
    config,
    schema: { tags, summary: 'Everything held with an address', params, response: replies({ 200: ExportReply }, 401, 429) }
  }, async request => {
    const { stored, cidr } = formsOf(app, request.params.ip)
    await app.database.flush(FLUSH_WAIT)
    const held = await app.database.storage.exportAddress(stored, EXPORT_LIMIT)
    return {
      address: stored,
      exportedAt: iso(app.database.clock()),
      truncated: held.truncated,
      sessions: held.sessions.map(heldSession),
      activity: held.activity.map(activityReply),
      ipLogs: held.ipLogs.map(ipLogReply),
      deadLetters: held.deadLetters.map(heldDeadLetter),
      blocks: (await blocksOf(app, cidr)).map(blockReply),
      relayed: held.relayed
    }
  })

  app.delete('/admin/addresses/:ip', {
    config,
    schema: {
      tags,
      summary: 'Erase an address wherever it is stored; requests from it go, sessions live on',
      params,
      querystring: strict({ blocks: Type.Optional(Type.Boolean({ description: 'Whether blocks of exactly this address are lifted, too. Otherwise they stay, and the address with them' })) }),
      response: replies({ 200: ErasedReply }, 401, 429)
    }
  }, async request => {
    const { stored, cidr } = formsOf(app, request.params.ip)
    const blocks = await blocksOf(app, cidr)
    const lift = request.query.blocks === true
    if (lift) for (const { id } of blocks) await app.ipTracking.blocks.remove(id)
    await app.database.flush(FLUSH_WAIT)
    const erased = await app.database.storage.eraseAddress(stored)
    return { ...erased, blocks: lift ? blocks.length : 0, blocksKept: lift ? 0 : blocks.length }
  })
  done()
}
