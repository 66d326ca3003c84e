/**
 * Last uses of sessions on their way to the store: at most one per session waits, later ones are merged into it. Until the
 * store has it, what waits here overlays what is read, so that a session in use never looks idle while the database is
 * locked. A read that began before a use was stored may end after it, and must not miss it in both places: uses stay until
 * the reads that were under way when they were stored have ended.
 */
import type { SessionRecord, SessionTouch } from '../storage/storage.js'
import type { RowQueue } from './row-queue.js'

export interface Touches {
  /** The record with what waits for it. Of a record that is not read at once, only inside `during`. */
  overlay (record: SessionRecord): SessionRecord
  /** What `use` makes of what is read, before uses are forgotten that were stored since the read began. To be called in the turn in which it began. */
  during<T, R> (read: Promise<T>, use: (found: T) => R | Promise<R>): Promise<R>
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

/** A stretch of time that ends when uses have been stored. */
interface Period {
  /** Reads under way that began in it. */
  reads: number
  /** The uses that ended it. */
  stored: readonly SessionTouch[]
}

export function createTouches ({ store, createQueue }: TouchesOptions): Touches {
  /** The newest touch of each session that is not known to be stored, or that a read under way may have missed. */
  const waiting = new Map<string, SessionTouch>()
  /** Touches that were handed to the store: its copy is not ours any more, so they must not be merged into. */
  const sent = new WeakSet<SessionTouch>()
  let period: Period = { reads: 0, stored: [] }
  /** From the oldest that matters to the present one. */
  const periods = [period]

  const queue = createQueue(async touches => {
    for (const touch of touches) sent.add(touch)
    await store(touches)
    period.stored = touches
    period = { reads: 0, stored: [] }
    periods.push(period)
    forget()
  })

  /** Forgets what was stored, up to the oldest period from which a read is under way. */
  function forget (): void {
    while (periods[0] !== period && periods[0]!.reads === 0) {
      for (const touch of periods.shift()!.stored) {
        if (waiting.get(touch.sessionId) === touch) waiting.delete(touch.sessionId)
      }
    }
  }

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

    async during (read, use) {
      const began = period
      began.reads++
      try {
        return await use(await read)
      } finally {
        began.reads--
        forget()
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
