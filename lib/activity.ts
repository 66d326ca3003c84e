/** The trail of what users did: what the host records, and what happens to their sessions. */
import { doormanError, show } from '../errors.js'
import type { ActivityFilter, ActivityRow, Page, PageParams, Storage, StoredActivity } from '../storage/storage.js'
import { normaliseAddress } from './address.js'
import { isHashedAddress } from './anonymizer.js'
import type { Clock } from './clock.js'
import type { RowQueue } from './row-queue.js'
import { SESSION_EVENTS, type SessionEvent, type SessionEvents } from './session-events.js'
import { readIp, readUserId } from './session-input.js'
import { clean, escapeJson } from './text.js'

export interface NewActivity {
  /** 1 to 255 characters without control characters. */
  userId: string
  /** A word such as `login` or `invoice.paid`: a letter, then up to 63 letters, digits, `_`, `.`, `:` or `-`. */
  action: string
  sessionId?: string | null
  /** Any spelling; stored as the anonymisation in force wants it. */
  ip?: string | null
  /** A JSON object of at most 4 KB. No secrets: it is stored as it is. */
  detail?: Record<string, unknown> | null
}

/** What an action may be. Without flags, so that its source is also the pattern of a schema. */
export const ACTION = /^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/

export interface Activity {
  /**
   * Adds to the trail; stored like a queued row of the log. A full queue is not an error here: the entry is counted as
   * dropped.
   * @throws DOORMAN_VALUE_INVALID
   */
  record (entry: NewActivity): void
  /** Newest first. */
  list (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>>
}

export interface ActivityParts {
  storage: Pick<Storage, 'listActivity'>
  queue: Pick<RowQueue<ActivityRow>, 'offer'>
  clock: Clock
  /** The form of a canonical address that may be stored. */
  storedAddress (address: string): string
}

const MAX_DETAIL_BYTES = 4096
const MAX_SESSION_ID = 255

const invalid = (name: string, expected: string, got: unknown) => doormanError('DOORMAN_VALUE_INVALID', [name, expected, show(got)])

export function createActivity ({ storage, queue, clock, storedAddress }: ActivityParts): Activity {
  return {
    record ({ userId, action, sessionId = null, ip, detail = null }) {
      if (typeof action !== 'string' || !ACTION.test(action)) throw invalid('action', 'a word of at most 64 letters, digits, "_", ".", ":" and "-" that begins with a letter', action)
      if (sessionId !== null && !isId(sessionId)) throw invalid('sessionId', `a string of 1 to ${MAX_SESSION_ID} characters without control characters, or null`, sessionId)
      // Sessions know addresses in the form they are stored in; that form stays.
      const address = typeof ip === 'string' && isHashedAddress(ip) ? ip : readIp(ip)
      queue.offer({
        kind: 'activity',
        at: clock(),
        userId: readUserId(userId),
        sessionId,
        action,
        ip: address === null || isHashedAddress(address) ? address : storedAddress(address),
        detail: writeDetail(detail)
      })
    },
    list: (filter, page) => storage.listActivity(filter, page)
  }
}

const isId = (value: unknown) => typeof value === 'string' && value !== '' && clean(value, MAX_SESSION_ID) === value

function writeDetail (detail: unknown): string | null {
  if (detail === null) return null
  const text = typeof detail === 'object' && !Array.isArray(detail) ? toJson(detail) : undefined
  if (text === undefined || Buffer.byteLength(text) > MAX_DETAIL_BYTES) throw invalid('detail', `an object that is at most ${MAX_DETAIL_BYTES} bytes of JSON, or null`, detail)
  return text
}

/** Undefined for what JSON cannot hold, or does not write as an object: cycles, BigInt, a Date. */
function toJson (value: unknown): string | undefined {
  try {
    const text = JSON.stringify(value)
    return text.startsWith('{') ? escapeJson(text) : undefined
  } catch {
    return undefined
  }
}

// ---------------------------------------------------------------- sessions

/**
 * Records what happens to sessions: `login` when one begins, otherwise the event's own name. A new token alone is no deed
 * of the user and is left out, unless the user authenticated for it.
 * @returns what stops it
 */
export function recordSessionEvents (activity: Activity, events: Pick<SessionEvents, 'on' | 'off'>): () => void {
  function record ({ name, userId, sessionId, ip, reason, detail }: SessionEvent) {
    if (name === 'session_renewed' && detail.reauthenticated !== true) return
    const details = { ...(reason === null ? {} : { reason }), ...detail }
    activity.record({
      userId,
      action: name === 'session_created' ? 'login' : name,
      sessionId,
      // What a host passes for an address is passed on to listeners; here only addresses count.
      ip: ip === null || !isAddress(ip) ? null : ip,
      detail: Object.keys(details).length === 0 ? null : details
    })
  }
  for (const name of SESSION_EVENTS) events.on(name, record)
  return () => { for (const name of SESSION_EVENTS) events.off(name, record) }
}

const isAddress = (text: string) => normaliseAddress(text) !== null || isHashedAddress(text)
