/**
 * Automatic blocks: a signal of abuse makes a block in the list that all processes share. Only so many at once, never of addresses
 * that the host names, and never of those that stand for many people: then it would be the block that does the damage.
 */
import type { BlockRecord } from '../storage/storage.js'
import type { AbuseSignal, ResolvedAbuseBlock } from './abuse-options.js'
import { network } from './address.js'
import type { NewBlock } from './block-list.js'
import { formatCidr, overlap, parseCidr } from './cidr.js'
import { formatDuration } from './duration.js'

/** RFC 1122 and 4291. Whoever is there has the machine. */
const LOOPBACK = ['127.0.0.0/8', '::1/128']
/**
 * Private (RFC 1918, 4193), link-local (RFC 3927, 4291), shared (RFC 6598), and what translators of IPv4 use (RFC 6052, 8215; all of IPv4
 * is in one /64 there). Seen from outside one's own network, each is a proxy or a gateway whose clients' addresses are not told.
 */
const SHARED = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16', '100.64.0.0/10', 'fc00::/7', 'fe80::/10', '64:ff9b::/96', '64:ff9b:1::/48']

/** A full list, or a database that fails, does so for every signal: one line a minute, with their number, says as much. */
const LOG_EVERY = 60_000
/** How often the blocks that count are compared with those in force, ms: somebody may have lifted some. */
const RECOUNT_EVERY = 1000

/** Why there was no block: `max` are in force, it would hold a protected address, or it could not be stored. */
export const SKIP_REASONS = ['max', 'protected', 'failed'] as const
export type SkipReason = typeof SKIP_REASONS[number]

/** What a block is made of. The address is the real one. */
export interface BlockCause {
  signal: AbuseSignal
  address: string
  count: number
  /** ms */
  window: number
  /** The form of its network that may be logged. */
  shown: string
}

export interface AutoBlocks {
  /** Blocks where a signal comes from, if that may be. Goes on in the background and never throws. */
  add (cause: BlockCause): void
  /** Blocks of this process in force now. */
  inForce (): number
  stats (): { total: number, skipped: Record<SkipReason, number> }
}

export interface AutoBlocksOptions {
  options: ResolvedAbuseBlock
  blocks: { add (block: NewBlock): Promise<BlockRecord>, find (cidr: string): BlockRecord | null }
  clock: () => number
  log: { warn (fields: object, message: string): void, error (fields: object, message: string): void }
}

export function createAutoBlocks ({ options, blocks, clock, log }: AutoBlocksOptions): AutoBlocks {
  const spared = [...LOOPBACK, ...options.blockPrivate ? [] : SHARED, ...options.allow].map(text => parseCidr(text)!)
  // By network, from the one that ends first. A place is taken before the block is stored, so that a slow database lets no more through.
  const own = new Map<string, { until: number, stored: boolean }>()
  const skipped = Object.fromEntries(SKIP_REASONS.map(reason => [reason, 0])) as Record<SkipReason, number>
  const loggedAt: Partial<Record<SkipReason, number>> = {}
  let total = 0
  let recountedAt = -Infinity

  function skip (reason: SkipReason, write: (number: number) => void) {
    const number = ++skipped[reason]
    const now = clock()
    // Either way: clocks are set back, too.
    if (Math.abs(now - (loggedAt[reason] ?? -Infinity)) < LOG_EVERY) return
    loggedAt[reason] = now
    write(number)
  }

  function dropEnded (now: number) {
    for (const [cidr, { until }] of own) {
      if (until > now) break
      own.delete(cidr)
    }
  }

  function recount (now: number) {
    recountedAt = now
    for (const [cidr, { stored }] of own) if (stored && blocks.find(cidr) === null) own.delete(cidr)
  }

  function hasRoom (now: number): boolean {
    if (own.size >= options.max && Math.abs(now - recountedAt) >= RECOUNT_EVERY) recount(now)
    return own.size < options.max
  }

  function store (cidr: string, until: number, { signal, count, window, shown }: BlockCause) {
    const entry = { until, stored: false }
    own.set(cidr, entry)
    blocks.add({ cidr, until, reason: `automatic: ${signal}, ${count} in ${formatDuration(window)}` }).then(({ id }) => {
      entry.stored = true
      total++
      log.warn({ signal, network: shown, block: id, until }, 'a network was blocked for abuse')
    }, err => {
      own.delete(cidr)
      skip('failed', failures => log.error({ err, signal, network: shown, failures }, 'an automatic block could not be stored; it is tried again at the next signal'))
    })
  }

  return {
    add (cause) {
      const { signal, address, shown } = cause
      const now = clock()
      const cidr = parseCidr(signal === 'excess_users_from_address' ? address : network(address))!
      if (spared.some(other => overlap(cidr, other))) {
        skip('protected', number => log.warn({ signal, network: shown, skipped: number }, 'no automatic block: the address is on the list of those allowed, or private. Where all clients come from one private address, set Fastify\'s trustProxy to the proxy\'s'))
        return
      }
      dropEnded(now)
      const text = formatCidr(cidr)
      // On its way, or blocked by anybody.
      if (own.get(text)?.stored === false || blocks.find(text) !== null) return
      // If it was there, somebody has lifted it.
      own.delete(text)
      if (hasRoom(now)) store(text, now + options.for, cause)
      else skip('max', number => log.warn({ signal, network: shown, max: options.max, skipped: number }, 'no automatic block: as many as allowed are in force'))
    },
    inForce () {
      const now = clock()
      dropEnded(now)
      recount(now)
      return own.size
    },
    stats: () => ({ total, skipped: { ...skipped } })
  }
}
