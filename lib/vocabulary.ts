/** The fixed words that end up in tables, replies and metrics. Numbers stored for them never change their meaning. */

/** How a request ended. The position is the number stored, so new words go to the end. */
export const IP_LOG_OUTCOMES = [
  'replied', // a reply was sent completely (whatever its status below 500)
  'error', // a reply with status 500 or above was sent, or this process broke its reply off
  'aborted', // the client went away before the reply was complete
  'timeout', // the server gave up on it
  'refused', // Fastify or the HTTP parser refused it before any route
  'blocked', // its address is blocked
  'reported' // told by another service through the API
] as const
export type IpLogOutcome = typeof IP_LOG_OUTCOMES[number]

/** Where the address came from. The position is the number stored, in three bits: there is room for eight. */
export const IP_SOURCES = [
  'socket', // the peer of the connection
  'forwarded', // a header set by a trusted proxy
  'rejected', // a header that held no valid address: `ip` is null
  'none', // no address at all, such as a unix socket
  'reported' // told by another service
] as const
export type IpSource = typeof IP_SOURCES[number]

/** Why a session or a token ended. The position is the number stored. */
export const END_REASONS = [
  'revoked', // logout or revocation by somebody
  'rotated', // replaced by a new token
  'idle', // not used for longer than the idle timeout
  'expired', // reached its absolute end
  'limit', // made room for a newer session of the same user
  'client-changed', // the policy for a changed client ended it
  'reused' // a token of it that was replaced long before came back: the policy for that ended it
] as const
export type EndReason = typeof END_REASONS[number]

/** Why a token is refused: what the host may know and the client is not told. */
export type RefusalReason = EndReason | 'missing' | 'malformed' | 'unknown'
