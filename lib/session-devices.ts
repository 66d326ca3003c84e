/**
 * What users log in with, remembered without false alarms: the family of the browser and its system, and the network. An updated browser and an
 * address that moves inside its network (IPv6 privacy addresses) are nothing new. Only logins count: a mere use of a session would make the
 * network of whoever stole its token a known one.
 */
import type { KnownBefore, LoginDevice, SessionRecord } from '../storage/storage.js'
import { networkOf } from './client-change.js'
import type { SessionContext } from './session-context.js'

/**
 * The device a session begins with; null where neither the user agent nor the address is known. The network is that of the address as it is
 * stored, so nothing finer than that is kept.
 */
export function loginDevice ({ ip, userAgent, device }: SessionRecord): LoginDevice | null {
  return ip === null && userAgent === null ? null : { device, network: ip === null ? null : networkOf(ip) }
}

/** Reports a login with a device, or in a network, that its user has not been seen with. The first one of all is nothing to report. */
export function noteDevice ({ events }: Pick<SessionContext, 'events'>, { id, userId, createdAt, ip, userAgent, device }: SessionRecord, known: KnownBefore | null): void {
  if (known === null || known.pair || !known.any) return
  const detail = { device, network: ip === null ? null : networkOf(ip), newDevice: !known.device, newNetwork: !known.network }
  events.emit('session_new_device', createdAt, userId, id, { ip, userAgent, detail })
}
