/** What the threads say to each other. Requests are sent in groups: one message per turn of the event loop. */
import type { ConnectionReport, FileStats } from '../storage.js'
import type { Location } from './location.js'
import type { WireError } from './errors.js'

/** What a thread is given at its start. */
export interface ThreadSettings {
  location: Location
  /** Lock wait per operation, ms. */
  busyTimeout: number
  walBacklogLimit?: number
}

export interface WireRequest { id: number, name: string, params: unknown }
export type WireReply = { id: number, ok: true, value: unknown } | { id: number, ok: false, error: WireError }

export type ToThread =
  | { type: 'requests', requests: WireRequest[] }
  /** Finish what waits, close the connections, end; at the deadline (ms from now) give up what is left. */
  | { type: 'stop', deadline: number }

export type FromThread =
  | { type: 'ready' }
  /** Opening failed; the thread ends by itself. */
  | { type: 'failed', error: WireError }
  | { type: 'replies', replies: WireReply[] }
  | { type: 'notice', notice: Notice }

/** What the writer says by itself: a file's WAL cannot be copied back, or can be again. */
export interface Notice { file: ConnectionReport['file'], walBacklog: number, stuck: boolean }

export type WriterFileStats = Omit<FileStats, 'path'>
