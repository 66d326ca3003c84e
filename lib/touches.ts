/**
 * Last uses of sessions on their way to the store: at most one per session waits, later ones are merged into it. Until the
 * store has it, what waits here overlays what is read, so that a session in use never looks idle while the database is
 * locked.
 */
import type { SessionRecord, SessionTouch } from '../storage/storage.js'
import type { RowQueue } from './row-queue.js'

export interface Touches {
  /** The record with what waits for it. */
  overlay (record: SessionRecord): SessionRecord
  /** Adds a use. When the queue is full it is left out, and counted there; the next use of the session tries again. */
  add (touch: SessionTouch): void
  /** Time of the last use that waits; 0 when none does. */
  lastActiveAt (sessionId: string): number
  /** Time of the oldest use that waits, or null. */
  oldest (): number | null
  readonly size: number
  readonly queue: RowQueue<SessionTouch>
}

export interface TouchesOptions {
  store (touches: SessionTouch[]): Promise<unknown>
  /** Makes the queue in front of the store; it calls `commit` with each batch, and again when that failed. */
  createQueue (commit: (touches: SessionTouch[]) => Promise<unknown>): RowQueue<SessionTouch>
}

export function createTouches ({ store, createQueue }: TouchesOptions): Touches {
  /** The newest touch of each session that is not known to be stored. */
  const waiting = new Map<string, SessionTouch>()
  /** Touches that were handed to the store: its copy is not ours any more, so they must not be merged into. */
  const sent = new WeakSet<SessionTouch>()

  const queue = createQueue(async touches => {
    for (const touch of touches) sent.add(touch)
    await store(touches)
    for (const touch of touches) {
      if (waiting.get(touch.sessionId) === touch) waiting.delete(touch.sessionId)
    }
  })

  return {
    queue,
    get size () { return waiting.size },

    overlay (record) {
      // Nearly always: a session's use is stored once a minute.
      if (waiting.size === 0) return record
      const touch = waiting.get(record.id)
      if (touch === undefined) return record
      return {
        ...record,
        lastActiveAt: Math.max(record.lastActiveAt, touch.at),
        lastIp: touch.ip ?? record.lastIp,
        lastUserAgent: touch.userAgent ?? record.lastUserAgent,
        flagged: record.flagged || touch.flagged
      }
    },

    add (touch) {
      const before = waiting.get(touch.sessionId)
      const merged = before === undefined
        ? touch
        : { ...touch, at: Math.max(before.at, touch.at), ip: touch.ip ?? before.ip, userAgent: touch.userAgent ?? before.userAgent, flagged: before.flagged || touch.flagged }
      if (before !== undefined && !sent.has(before)) {
        Object.assign(before, merged)
      } else if (queue.offer(merged)) {
        waiting.set(touch.sessionId, merged)
      }
    },

    lastActiveAt: sessionId => waiting.size === 0 ? 0 : waiting.get(sessionId)?.at ?? 0,

    oldest () {
      let oldest: number | null = null
      for (const { at } of waiting.values()) {
        if (oldest === null || at < oldest) oldest = at
      }
      return oldest
    }
  }
}
