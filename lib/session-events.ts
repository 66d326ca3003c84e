/**
 * Events of the session service. The names follow the OWASP logging vocabulary where it has one, so that a log of them
 * is understood by the tools that know it. A listener that fails never disturbs the request that caused the event.
 */
import type { EndReason } from './vocabulary.js'

export const SESSION_EVENTS = [
  'session_created', // a session began
  'session_renewed', // it got a new token
  'session_expired', // a token of a session that has timed out was refused, for the first time in this process
  'session_use_after_expire', // a token of a session already ended, or a token already replaced, was used
  'session_ended', // a session was ended: by somebody, by the limit, or by the changed-client policy
  'excess_sessions_exceeded', // a user reached the limit of sessions
  'session_client_changed', // a session was used from another network, browser or system
  'session_new_device' // a user who had been seen before logged in with a device, or in a network, for the first time
] as const
export type SessionEventName = typeof SESSION_EVENTS[number]

export interface SessionEvent {
  name: SessionEventName
  at: number
  userId: string
  /** Null where the event is about the user. */
  sessionId: string | null
  /** Why a session ended or a token was refused. */
  reason: EndReason | null
  /** The client that caused it, where known. */
  ip: string | null
  userAgent: string | null
  /** More, by event: `changes`, `limit`, `policy`, `reauthenticated`; `device`, `network`, `newDevice`, `newNetwork`. */
  detail: Readonly<Record<string, unknown>>
}
export type SessionListener = (event: SessionEvent) => unknown

export interface SessionEvents {
  on (name: SessionEventName, listener: SessionListener): void
  off (name: SessionEventName, listener: SessionListener): void
  /** @param address the client's before anonymisation, where known: see `realAddressOf` */
  emit (name: SessionEventName, at: number, userId: string, sessionId: string | null, more?: Partial<SessionEvent>, address?: string | null): void
}

/** Beside the events, not in them: neither JSON nor a log of one may show what must not be stored. */
const realAddresses = new WeakMap<SessionEvent, string>()

/** The address of the client that caused an event, not anonymised, for counting in memory; null where it was not told. */
export const realAddressOf = (event: SessionEvent): string | null => realAddresses.get(event) ?? null

/** @param onError told of a listener that threw or rejected */
export function createSessionEvents (onError: (error: unknown, event: SessionEventName) => void): SessionEvents {
  const listeners = new Map<SessionEventName, Set<SessionListener>>(SESSION_EVENTS.map(name => [name, new Set()]))
  return {
    on: (name, listener) => { listeners.get(name)!.add(listener) },
    off: (name, listener) => { listeners.get(name)!.delete(listener) },
    emit (name, at, userId, sessionId, more, address = null) {
      const set = listeners.get(name)!
      if (set.size === 0) return
      const event: SessionEvent = Object.freeze({ name, at, userId, sessionId, reason: null, ip: null, userAgent: null, detail: {}, ...more })
      if (address !== null) realAddresses.set(event, address)
      for (const listener of set) {
        try {
          const result = listener(event)
          if (result instanceof Promise) result.catch(error => onError(error, name))
        } catch (error) {
          onError(error, name)
        }
      }
    }
  }
}
