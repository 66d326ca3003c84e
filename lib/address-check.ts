/**
 * Whether the addresses that are logged can be those of the clients (ASVS 4.1.3): judged by what `trustProxy` is set to, and by the first requests.
 * A service behind a proxy that logs the proxy for everybody, or whatever a client likes to be, works perfectly well, and nobody notices before the
 * log is needed. Each finding is told once.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { createCidrSet, parseCidr } from './cidr.js'
import type { Clock } from './clock.js'
import type { ClientAddresses } from './fastify-internals.js'
import type { Client } from './request-row.js'

/** Codes of what can be found. */
export const ADDRESS_FINDINGS = [
  'IPLOG_UNEXPECTED_FORWARDED', // a request says where it comes from, and nobody is trusted to say so
  'IPLOG_PERMISSIVE_TRUST_PROXY', // anybody is
  'IPLOG_NUMERIC_TRUST_PROXY', // a number of hops is trusted, which trusts nobody
  'IPLOG_SINGLE_PRIVATE_ADDRESS', // the first requests all have one address, of a private network
  'IPLOG_UNIX_SOCKET' // connections have no address, and nobody is trusted to tell one
] as const
export type AddressFindingCode = typeof ADDRESS_FINDINGS[number]

export interface AddressFinding {
  code: AddressFindingCode
  /** What was seen. */
  message: string
  /** What to do. */
  fix: string
  /** When it was found, ms since the epoch. */
  since: number
}

/** Is shown a request as it begins. @returns whether it wants to see more */
export type AddressWatch = (client: Client, raw: Pick<IncomingMessage, 'headers' | 'socket'>, at: number) => boolean

export interface AddressCheck {
  watch: AddressWatch
  /** So far, oldest first. */
  findings (): AddressFinding[]
}

export interface AddressCheckOptions {
  addresses: ClientAddresses
  /** The form of an address that may be written down. */
  shown (address: string): string
  clock: Clock
  /** Told of each finding, once. */
  tell (finding: AddressFinding): void
}

/** So many requests are looked at closely. */
const FIRST_REQUESTS = 200
/** Afterwards headers are looked at this often, ms: a proxy may come later, but not every request has to pay for that. */
const LATER_INTERVAL = 1000

/** Where proxies write the client's address. `Via` is not among them: clients' own proxies send it, and it tells no address. */
const HEADERS = {
  'x-forwarded-for': 'X-Forwarded-For',
  forwarded: 'Forwarded',
  'x-real-ip': 'X-Real-IP',
  'cf-connecting-ip': 'CF-Connecting-IP',
  'true-client-ip': 'True-Client-IP',
  'x-client-ip': 'X-Client-IP',
  'fastly-client-ip': 'Fastly-Client-IP'
} as const
const HEADER_NAMES = Object.keys(HEADERS) as (keyof typeof HEADERS)[]

/** Addresses of documentation (RFC 5737, 3849, 9637): nobody's, so who trusts all of a family trusts anybody. */
const STRANGERS = [['192.0.2.1', '198.51.100.1', '203.0.113.1'], ['2001:db8::1', '3fff::1']] as const
const ALLEGED = '198.51.100.77'

/** Networks that do not reach the internet: RFC 1918, 6598 (carriers, and what containers use of it), 3927, 4193, 4291. Loopback is not among them: a developer's machine. */
const privateNetworks = createCidrSet<true>()
for (const text of ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '169.254.0.0/16', 'fc00::/7', 'fe80::/10']) privateNetworks.add(parseCidr(text)!, true)

const TRUST_PROXY = 'Fastify\'s trustProxy (TRUST_PROXY in the standalone API)'

/** Judges the configuration at once, and requests as they are shown. */
export function createAddressCheck ({ addresses: { trustsProxies, trustProxy, chainOf }, shown, clock, tell }: AddressCheckOptions): AddressCheck {
  const findings: AddressFinding[] = []
  let firstToCome = FIRST_REQUESTS
  /** The private address that all requests had so far; undefined before the first, null where there is no such. */
  let single: string | null | undefined
  let looksForSockets = true
  let looksForHeaders = !trustsProxies
  let lookedAt = -Infinity

  function find (code: AddressFindingCode, message: string, fix: string) {
    const finding = Object.freeze({ code, message, fix, since: clock() })
    findings.push(finding)
    tell(finding)
  }

  /** Whether a header is believed that comes from this peer; undefined is one without an address. Asks Fastify itself, and so a host's own function. */
  function believes (peer: string | undefined): boolean {
    try {
      return chainOf({ headers: { 'x-forwarded-for': ALLEGED }, socket: { remoteAddress: peer } } as unknown as IncomingMessage).length > 1
    } catch {
      return false
    }
  }

  function judgeConfiguration () {
    if (STRANGERS.some(family => family.every(believes))) {
      find('IPLOG_PERMISSIVE_TRUST_PROXY', 'trustProxy trusts everybody, so whoever connects chooses the address that is logged, blocked and limited',
        `Set ${TRUST_PROXY} to the addresses of your proxies, such as "10.0.0.5" or "10.0.0.0/24"`)
    } else if (isNumeric(trustProxy)) {
      find('IPLOG_NUMERIC_TRUST_PROXY', 'trustProxy is a number of hops, which Fastify takes for nobody since 5.12.1: every client is logged as the proxy',
        `Set ${TRUST_PROXY} to the addresses of your proxies, such as "10.0.0.5" or "10.0.0.0/24"`)
    }
  }

  function lookForHeader ({ headers }: Pick<IncomingMessage, 'headers'>) {
    const name = HEADER_NAMES.find(name => headers[name] !== undefined)
    if (name === undefined) return
    looksForHeaders = false
    find('IPLOG_UNEXPECTED_FORWARDED', `A request has the header ${HEADERS[name]}, but the address is taken from the connection, as trustProxy is not set`,
      `Behind a proxy, set ${TRUST_PROXY} to its address${name === 'x-forwarded-for' ? '' : ', and let it send X-Forwarded-For, which is the header that is read'}. Without one there is nothing to do: the client made it up`)
  }

  function lookForSocket ({ address }: Client, socket: Socket) {
    if (address !== null || !isUnixSocket(socket)) return
    looksForSockets = false
    if (believes(undefined)) return
    find('IPLOG_UNIX_SOCKET', 'A request came through a unix socket: such connections have no address, and none is logged',
      'Trust the proxy on the other side of it, with Fastify\'s trustProxy: address => address === undefined, and let it send X-Forwarded-For')
  }

  function countAddress ({ address }: Client) {
    if (single === undefined) single = address !== null && privateNetworks.find(address).length > 0 ? address : null
    else if (single !== address) single = null
    // Where a header was seen, that was said already.
    if (firstToCome > 0 || single === null || (!looksForHeaders && !trustsProxies)) return
    find('IPLOG_SINGLE_PRIVATE_ADDRESS', `The first ${FIRST_REQUESTS} requests all came from ${shown(single)}, an address of a private network: most likely a proxy, or the gateway of a container network, that tells no client's address`,
      `If so, let it send X-Forwarded-For and set ${TRUST_PROXY} to its address, or let containers see their clients' addresses. Where one service of yours makes all requests, there is nothing to do`)
  }

  judgeConfiguration()

  return {
    watch (client, raw, at) {
      const isOneOfFirst = firstToCome > 0
      if (looksForHeaders && (isOneOfFirst || Math.abs(at - lookedAt) >= LATER_INTERVAL)) {
        lookedAt = at
        lookForHeader(raw)
      }
      if (isOneOfFirst) {
        firstToCome--
        if (looksForSockets) lookForSocket(client, raw.socket)
        countAddress(client)
      }
      return looksForHeaders || firstToCome > 0
    },
    findings: () => [...findings]
  }
}

/** Fastify reads a text of digits as an address, too: `1` is 0.0.0.1. */
function isNumeric (trustProxy: unknown): boolean {
  if (typeof trustProxy === 'number') return trustProxy > 0
  return [trustProxy].flat().some(text => typeof text === 'string' && text.split(',').some(entry => /^\d+$/.test(entry.trim())))
}

/** A connection by TCP has a port at this end, even where its other end can no longer be asked for. */
const isUnixSocket = ({ remoteAddress, localPort, destroyed }: Socket): boolean => remoteAddress === undefined && localPort === undefined && !destroyed
