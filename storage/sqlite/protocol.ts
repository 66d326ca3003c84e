/** What the threads say to each other. Requests are sent in groups: one message per turn of the event loop. */
import type { ConnectionReport, FileStats } from '../storage.js'
import type { Identity } from './file-identity.js'
import type { Location } from './location.js'
import type { WireError } from './errors.js'

/** What a thread is given at its start. */
export interface ThreadSettings {
  location: Location
  /** Lock wait per operation, ms. */
  busyTimeout: number
  walBacklogLimit?: number
  /** What the paths led to when the storage was opened; a thread that is started later must find the same. */
  identities: Record<ConnectionReport['file'], Identity>
}

export interface WireRequest { id: number, name: string, params: unknown }
export type WireReply = { id: number, ok: true, value: unknown } | { id: number, ok: false, error: WireError }

export type ToThread =
  | { type: 'requests', requests: WireRequest[] }
  /** Finish what waits, close the connections, end; at the deadline (ms from now) give up what is left. */
  | { type: 'stop', deadline: number }

export type FromThread =
  | { type: 'ready' }
  /** Opening failed, or nothing more can be done; the thread ends by itself. */
  | { type: 'failed', error: WireError }
  | { type: 'replies', replies: WireReply[] }
  | { type: 'notice', notice: Notice }

/** What the writer says by itself. */
export type Notice = WalNotice | LockNotice

/** Somebody else has had a file's write lock for long, or has it no more. */
export interface LockNotice {
  state: 'locked' | 'unlocked'
  file: ConnectionReport['file']
  path: string
  /** How long it was asked for so far. */
  waitedMs: number
}

/** A reader keeps a file's WAL from being copied back, does so no more, or the WAL was cut. */
export interface WalNotice {
  state: 'pinned' | 'released' | 'cut'
  file: ConnectionReport['file']
  path: string
  /** As it was before the cut. */
  walFrames: number
  walBacklog: number
  /** About the size of the WAL on the disk. */
  walBytes: number
  oldestReaderMs: number
}

export type WriterFileStats = Omit<FileStats, 'path'>
