/**
 * Whether a session is being used by another client than before. Compared by what stays the same for one person's
 * browser: the /24 or /64 of the address and the family of the user agent. An address that moves inside its network
 * (IPv6 privacy addresses) and an updated browser are no change.
 */
import { isIP } from 'node:net'
import { network, normaliseAddress } from './address.js'
import { truncateAddress } from './anonymizer.js'
import { describeDevice } from './device.js'
import { cleanHeader } from './text.js'

export type ClientChange = 'network' | 'device'

/** Null is unknown. An empty user agent is one that was not sent. */
export interface KnownClient { ip: string | null, userAgent: string | null }

export interface CleaningRules {
  options: { readonly userAgentLimit: number }
  /** The form of a canonical address that may be stored. */
  storedAddress (address: string): string
}

/** A client as its request shows it, in the form that is compared and stored. What is no address is not known. */
export function cleanClient (client: KnownClient, { options: { userAgentLimit }, storedAddress }: CleaningRules): KnownClient {
  const address = client.ip === null ? null : normaliseAddress(client.ip)
  return {
    ip: address === null ? null : storedAddress(address),
    userAgent: client.userAgent === null ? null : cleanHeader(client.userAgent, userAgentLimit)
  }
}

/** What differs between the client known and the one seen. What is not known on the one side is no difference. */
export function clientChanges (known: KnownClient, seen: KnownClient): ClientChange[] {
  const changes: ClientChange[] = []
  if (known.ip !== null && seen.ip !== null && known.ip !== seen.ip && !lostHost(known.ip, seen.ip) && differ(networkOf(known.ip), networkOf(seen.ip))) changes.push('network')
  // A user agent that is suddenly not sent counts: leaving the header out must not be a way around the check.
  if (known.userAgent !== null && seen.userAgent !== null && known.userAgent !== seen.userAgent &&
    (seen.userAgent === '' || differ(describeDevice(known.userAgent), describeDevice(seen.userAgent)))) changes.push('device')
  return changes
}

/** Whether the known address can be the seen one, truncated since (option `addressTruncateAfter` of the cleanup): /48 of IPv6, where otherwise /64 is compared. */
const lostHost = (known: string, seen: string) => known === truncateAddress(seen)

/** Null for what is no address, such as an anonymised one: nothing can be said about its network. */
export const networkOf = (ip: string) => isIP(ip) === 0 ? null : network(ip)

const differ = (a: string | null, b: string | null) => a !== null && b !== null && a !== b
