/**
 * Blocked addresses, in memory: asked on every request, loaded from storage when its counter of changes says that somebody,
 * in whatever process, changed them. Own changes apply at once.
 */
import { doormanError, show } from '../errors.js'
import type { BlockRecord, Storage } from '../storage/storage.js'
import { formatBits } from './address.js'
import { createCidrSet, formatCidr, parseCidr, type Cidr } from './cidr.js'
import type { Clock } from './clock.js'
import { clean } from './text.js'

/** How often the counter is looked at, ms: what another process blocks is blocked here within this time. */
const CHECK_INTERVAL = 1000
const REASON_LIMIT = 500
const ID_LENGTH = 16
const ID_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz'

export interface NewBlock {
  /** An address or a network. /0 of a family is refused: it would lock out everybody, the operator included. */
  cidr: string
  /** When it ends, ms since the epoch; null or left out: when removed. */
  until?: number | null
  /** At most 500 characters. */
  reason?: string | null
}

export interface BlockList {
  /** The block in force that covers a canonical address, most specific network first, or null. */
  match (address: string, now: number): BlockRecord | null
  /** Looks for changes of others, at most once a second. Cheap; never waits and never throws. */
  refresh (now: number): void
  /** Loads the blocks. Rejects with the storage's error. */
  load (): Promise<void>
  list (): Promise<BlockRecord[]>
  /** @throws DOORMAN_VALUE_INVALID */
  add (block: NewBlock): Promise<BlockRecord>
  remove (id: string): Promise<boolean>
  /**
   * The block in force that covers a whole address or network, or null.
   * @throws DOORMAN_VALUE_INVALID
   */
  find (cidr: string): BlockRecord | null
}

export interface BlockListOptions {
  storage: Pick<Storage, 'listBlocks' | 'addBlock' | 'removeBlock' | 'changeCounter'>
  clock: Clock
  random: () => number
  /** Called when looking for changes failed; the blocks known stay in force. */
  onError (error: unknown): void
}

export function createBlockList ({ storage, clock, random, onError }: BlockListOptions): BlockList {
  let blocks: readonly BlockRecord[] = []
  let networks = createCidrSet<BlockRecord>()
  let counter = -1
  let checkedAt = -Infinity
  let checking = false
  // Rises with every own change, so that a list read before it does not undo it in memory.
  let ownChanges = 0

  function apply (records: readonly BlockRecord[]) {
    blocks = records
    networks = createCidrSet()
    // Storage holds what `add` wrote: canonical networks.
    for (const block of records) networks.add(parseCidr(block.cidr)!, block)
  }

  async function load () {
    for (;;) {
      const before = ownChanges
      const seen = await storage.changeCounter('blocks')
      const records = await storage.listBlocks(clock())
      if (before !== ownChanges) continue
      counter = seen
      apply(records)
      return
    }
  }

  async function check () {
    if (await storage.changeCounter('blocks') !== counter) await load()
  }

  return {
    match (address, now) {
      if (networks.size === 0) return null
      return networks.find(address).find(block => isInForce(block, now)) ?? null
    },
    refresh (now) {
      // Either way: clocks are set back, too.
      if (checking || Math.abs(now - checkedAt) < CHECK_INTERVAL) return
      checkedAt = now
      checking = true
      check().catch(onError).finally(() => { checking = false })
    },
    load,
    list: () => storage.listBlocks(clock()),
    async add ({ cidr: text, until = null, reason = null }) {
      const cidr = readCidr(text)
      if (cidr.prefix === 0) throw doormanError('DOORMAN_VALUE_INVALID', ['cidr', 'smaller than a whole address family: it would lock out everybody', show(text)])
      const now = clock()
      if (until !== null && !(Number.isSafeInteger(until) && until > now)) throw doormanError('DOORMAN_VALUE_INVALID', ['until', 'a time in the future (ms since the epoch), or null', show(until)])
      if (reason !== null && typeof reason !== 'string') throw doormanError('DOORMAN_VALUE_INVALID', ['reason', 'a text, or null', show(reason)])
      const block: BlockRecord = { id: newId(random), cidr: formatCidr(cidr), until, reason: reason === null ? null : clean(reason, REASON_LIMIT), createdAt: now }
      await storage.addBlock(block)
      ownChanges++
      apply([...blocks.filter(known => known.id !== block.id), block]) // a reload may have brought it already
      return block
    },
    async remove (id) {
      const removed = await storage.removeBlock(id)
      ownChanges++
      apply(blocks.filter(block => block.id !== id))
      return removed
    },
    find (text) {
      const cidr = readCidr(text)
      const now = clock()
      // What covers its first address and is no smaller covers all of it.
      return networks.find(formatBits(cidr)).find(block => isInForce(block, now) && parseCidr(block.cidr)!.prefix <= cidr.prefix) ?? null
    }
  }
}

const isInForce = ({ until }: BlockRecord, now: number) => until === null || until > now

function readCidr (text: unknown): Cidr {
  const cidr = typeof text === 'string' ? parseCidr(text) : null
  if (cidr === null) throw doormanError('DOORMAN_VALUE_INVALID', ['cidr', 'an address or a network such as 192.0.2.0/24', show(text)])
  return cidr
}

/** 82 bits; no secret, only distinct. */
function newId (random: () => number): string {
  return Array.from({ length: ID_LENGTH }, () => ID_ALPHABET[Math.floor(random() * ID_ALPHABET.length)]).join('')
}
