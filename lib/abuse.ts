/**
 * Signals of abuse, from what passes anyway: replies with 404, refused tokens, logins. Counted in this process's memory by the real address;
 * what goes out of it has the form that may be stored. Nothing is read from the database, and an ordinary request costs two comparisons.
 */
import { doormanError, show } from '../errors.js'
import { createAutoBlocks, SKIP_REASONS, type AutoBlocks, type AutoBlocksOptions, type SkipReason } from './abuse-blocks.js'
import { ABUSE_SIGNALS, type AbuseSignal, type ResolvedAbuse } from './abuse-options.js'
import { createCount, createDistinct, createWatch, type Tally, type Watch } from './abuse-watch.js'
import { network } from './address.js'
import type { Clock } from './clock.js'
import { requestSession, type SessionCarrier } from './request-session.js'
import { realAddressOf, type SessionEvent } from './session-events.js'
import { hashToken } from './token.js'

export interface AbuseEvent {
  readonly name: AbuseSignal
  /** ms since the epoch. */
  readonly at: number
  /** The /24 or /64 it comes from, in the form that may be stored. */
  readonly network: string
  /** The address that reached the limit, in that form. */
  readonly address: string
  /** How many there were in the window. Tokens and users are counted up to the limit. */
  readonly count: number
  /** ms */
  readonly window: number
  readonly limit: number
}
export type AbuseListener = (event: AbuseEvent) => unknown

/** Counters since start, of this process. */
export interface AbuseStats {
  signals: Record<AbuseSignal, number>
  /** Automatic blocks: made, and those not made by reason. */
  blocks: { total: number, skipped: Record<SkipReason, number> }
  /** Networks (for the last signal addresses) remembered now: at most 10 000 of each signal, and as many signalled ones. */
  watched: Record<AbuseSignal, number>
}

/** What `fastify.abuse` offers. */
export interface Abuse {
  readonly options: ResolvedAbuse
  /**
   * Calls `listener` with each signal of that name, or with all of them. What it throws is logged.
   * @throws DOORMAN_VALUE_INVALID for a name that is none
   */
  on (name: AbuseSignal | '*', listener: AbuseListener): void
  /** @throws DOORMAN_VALUE_INVALID for a name that is none */
  off (name: AbuseSignal | '*', listener: AbuseListener): void
  /** Latest signals whose window is not over, with the count as it is now; the latest first, at most 100. */
  signalled (): AbuseEvent[]
  /** Automatic blocks of this process in force. */
  blocksInForce (): number
  stats (): AbuseStats
}

/** What is read of a request that is over. */
export interface ObservedRequest extends SessionCarrier {
  readonly clientAddress: string | null
  readonly routeOptions: { readonly config: { readonly abuse?: boolean } }
}

export interface AbuseParts extends Pick<AutoBlocksOptions, 'blocks' | 'log'> {
  options: ResolvedAbuse
  clock: Clock
  /** Forms of an address, and of its network, that may be stored. */
  anonymize (address: string): string
  anonymizeNetwork (address: string): string
  /** Places remembered per signal, and signalled ones besides. Default 10 000. */
  capacity?: number
}

/** The service, and what feeds it. */
export interface AbuseWatcher {
  service: Abuse
  requestEnded (status: number, request: ObservedRequest): void
  sessionCreated (event: SessionEvent): void
}

const LISTED = 100
/**
 * Refusals that may be guessing. Not what time has ended (`idle`, `expired`): people come back after lunch. Nor `missing`, which is everybody
 * before the login, nor what the suite has ended by itself (`limit`, `client-changed`).
 */
const GUESSES: ReadonlySet<string> = new Set(['malformed', 'unknown', 'revoked', 'rotated', 'reused'])
/** 48 bits: two of some hundred items are the same once in 10^10 times, and nothing can be read back from them. */
const fingerprint = (text: string) => parseInt(hashToken(text).slice(0, 12), 16)

export function createAbuse ({ options, blocks, clock, anonymize, anonymizeNetwork, log, capacity = 10_000 }: AbuseParts): AbuseWatcher {
  const signals = zeros(ABUSE_SIGNALS)
  const listeners = new Map<AbuseSignal | '*', Set<AbuseListener>>([...ABUSE_SIGNALS, '*' as const].map(name => [name, new Set()]))
  const autoBlocks: AutoBlocks | null = options.block === false ? null : createAutoBlocks({ options: options.block, blocks, clock, log })

  function createSignalWatch (name: AbuseSignal, limit: number | null, window: number, createTally: (limit: number) => Tally): Watch<AbuseEvent> | null {
    if (limit === null) return null
    return createWatch({
      limit,
      window,
      capacity,
      createTally: () => createTally(limit),
      createSignal: (address, count, at) => Object.freeze({ name, at, network: anonymizeNetwork(address), address: anonymize(address), count, window, limit })
    })
  }
  const distinct = (window: number) => (limit: number) => createDistinct(window, limit, fingerprint)
  const { notFoundWindow, tokenWindow, userWindow } = options
  const watches = {
    malicious_excess_404: createSignalWatch('malicious_excess_404', options.notFoundLimit, notFoundWindow, () => createCount(notFoundWindow)),
    session_token_guessing: createSignalWatch('session_token_guessing', options.tokenLimit, tokenWindow, distinct(tokenWindow)),
    excess_users_from_address: createSignalWatch('excess_users_from_address', options.userLimit, userWindow, distinct(userWindow))
  }

  function raise (event: AbuseEvent, address: string) {
    const { name, network: shown, count, limit, window } = event
    signals[name]++
    log.warn({ signal: name, network: shown, address: event.address, count, limit, windowMs: window }, 'signal of abuse')
    for (const listener of [...listeners.get(name)!, ...listeners.get('*')!]) tell(listener, event)
    if (options.block !== false && options.block.signals.includes(name)) autoBlocks!.add({ signal: name, address, count, window, shown })
  }

  function tell (listener: AbuseListener, event: AbuseEvent) {
    const failed = (err: unknown) => log.error({ err, event: event.name }, 'a listener of a signal of abuse failed')
    try {
      const result = listener(event)
      if (result instanceof Promise) result.catch(failed)
    } catch (error) {
      failed(error)
    }
  }

  function add (watch: Watch<AbuseEvent> | null, address: string, place: string, item: string) {
    const event = watch?.add(place, clock(), item, address) ?? null
    if (event !== null) raise(event, address)
  }

  function listenersOf (name: AbuseSignal | '*'): Set<AbuseListener> {
    const found = listeners.get(name)
    if (found === undefined) throw doormanError('DOORMAN_VALUE_INVALID', ['name', `one of ${[...listeners.keys()].join(', ')}`, show(name)])
    return found
  }

  return {
    requestEnded (status, request) {
      const session = request[requestSession] ?? null
      const guess = session !== null && session.refusal !== null && GUESSES.has(session.refusal)
      if (status !== 404 && !guess) return
      const { clientAddress: address, routeOptions: { config } } = request
      if (address === null || config.abuse === false) return
      if (status === 404) add(watches.malicious_excess_404, address, network(address), '')
      if (guess) add(watches.session_token_guessing, address, network(address), session.token!)
    },

    sessionCreated (event) {
      const address = realAddressOf(event)
      if (address !== null) add(watches.excess_users_from_address, address, address, event.userId)
    },

    service: {
      options,
      on (name, listener) { listenersOf(name).add(listener) },
      off (name, listener) { listenersOf(name).delete(listener) },
      signalled () {
        const now = clock()
        return Object.values(watches)
          .flatMap(watch => watch?.signalled(now).slice(0, LISTED) ?? [])
          .sort((a, b) => b.signal.at - a.signal.at)
          .slice(0, LISTED)
          .map(({ signal, tally }) => ({ ...signal, count: tally.count(now) }))
      },
      blocksInForce: () => autoBlocks?.inForce() ?? 0,
      stats: () => ({
        signals: { ...signals },
        blocks: autoBlocks?.stats() ?? { total: 0, skipped: zeros(SKIP_REASONS) },
        watched: Object.fromEntries(ABUSE_SIGNALS.map(name => [name, watches[name]?.size() ?? 0])) as Record<AbuseSignal, number>
      })
    }
  }
}

const zeros = <Name extends string>(names: readonly Name[]) => Object.fromEntries(names.map(name => [name, 0])) as Record<Name, number>
