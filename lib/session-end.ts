/** How a session ended, for a host that tells its user: what is known of it, and a sentence for each reason. */
import type { Refusal } from './session-types.js'
import type { EndReason } from './vocabulary.js'

/** The end of a session that a token once opened. */
export interface SessionEnd {
  reason: EndReason
  /** When, ms since the epoch. With `rotated`: when the token was replaced; the session itself may go on. */
  at: number
  sessionId: string
  userId: string
}

/** Null for a refusal that knows no session: missing, malformed, unknown. */
export function toSessionEnd ({ reason, at, sessionId, userId }: Refusal): SessionEnd | null {
  return at === undefined ? null : { reason: reason as EndReason, at, sessionId: sessionId!, userId: userId! }
}

const SENTENCES: Readonly<Record<EndReason, string>> = {
  revoked: 'You were signed out, here or from another device.',
  rotated: 'You were signed out because this sign-in was replaced by a newer one.',
  idle: 'You were signed out because you were inactive for too long.',
  expired: 'You were signed out because you signed in too long ago.',
  limit: 'You were signed out because you signed in on too many devices.',
  'client-changed': 'You were signed out because your browser or network changed.',
  reused: 'You were signed out because an outdated sign-in was used again, which may mean that somebody has copied it.'
}

/** One short English sentence for the user whose session ended. Test `reason` where you have texts of your own. */
export function describeEnd (reason: EndReason): string {
  return SENTENCES[reason]
}
