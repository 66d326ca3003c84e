/**
 * The main thread's side of a thread: requests out in groups (one message per turn of the event loop), answers back to their promises,
 * and what happens when the thread dies: pending requests are failed with a code, and a new thread is started.
 */
import { Worker } from 'node:worker_threads'
import { doormanError, type DoormanError } from '../../errors.js'
import type { StorageLogger } from '../storage.js'
import { decodeError } from './errors.js'
import type { FromThread, Notice, ThreadSettings, ToThread, WireReply, WireRequest } from './protocol.js'

export interface ThreadClientOptions {
  name: 'writer' | 'reader'
  script: URL
  settings: ThreadSettings
  /** Most requests that may be waiting at once. */
  maxPending: number
  log: StorageLogger
  /** Told of what the thread reports by itself. */
  onNotice? (notice: Notice): void
  /** Told of every request that the thread answers with an error. */
  onError? (error: DoormanError): void
  /** Told when the thread is given up after it has worked. */
  onGivenUp? (error: DoormanError): void
}

interface Pending {
  resolve (value: unknown): void
  reject (error: DoormanError): void
  /** Nothing is lost with it: a queue keeps and counts its rows, or the next cleanup does the same. */
  uncounted: boolean
}

/** Deaths within this time, ms, before the thread is given up. */
const DEATH_WINDOW_MS = 60_000
const MAX_DEATHS = 5
/** Wait before the n-th new start within the window, ms; the first is at once. */
const restartDelay = (deaths: number) => deaths === 1 ? 0 : 50 * 2 ** deaths
/** How long after its deadline a closing thread may still answer, ms. */
const STUCK_MS = 500

export class ThreadClient {
  restarts = 0
  /** Set when the thread could not be opened, or died too often: nothing works any more. */
  failed: DoormanError | undefined
  /** Resolves when the thread has opened its files for the first time; rejects with the reason when it cannot. */
  readonly ready: Promise<void>
  #options: ThreadClientOptions
  #worker: Worker | undefined
  #exited: Promise<void> = Promise.resolve()
  #pending = new Map<number, Pending>()
  #outbox: WireRequest[] = []
  #flushScheduled = false
  #online = false
  #closing = false
  #abandoned = 0
  #nextId = 1
  #deaths: number[] = []

  constructor (options: ThreadClientOptions) {
    this.#options = options
    this.ready = this.#start().catch((error: DoormanError) => {
      this.fail(error)
      throw error
    })
    // A thread that is started on demand has nobody who waits for it: its requests say what was wrong.
    this.ready.catch(() => {})
  }

  get pending (): number {
    return this.#pending.size
  }

  /**
   * Sends a request. `uncounted` ones (of a queue with its own limit, of the cleanup) are not bounded here, and not counted when closing.
   * @throws (rejects) DOORMAN_QUEUE_FULL, DOORMAN_STORAGE_CLOSED, DOORMAN_WRITER_DIED or DOORMAN_READER_DIED, and what the request itself fails with
   */
  run<T> (name: string, params: unknown, uncounted = false): Promise<T> {
    if (this.failed !== undefined) return Promise.reject(this.failed)
    if (this.#closing) return Promise.reject(doormanError('DOORMAN_STORAGE_CLOSED'))
    if (!uncounted && this.#pending.size >= this.#options.maxPending) return Promise.reject(doormanError('DOORMAN_QUEUE_FULL', [this.#options.maxPending]))
    return new Promise<T>((resolve, reject) => {
      const id = this.#nextId++
      // Only pending work keeps the process alive.
      if (this.#pending.size === 0) this.#worker?.ref()
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, uncounted })
      this.#outbox.push({ id, name, params })
      this.#scheduleFlush()
    })
  }

  /**
   * Asks the thread to finish what waits and end. Resolves when it has ended, or a little after the deadline (ms) should it be stuck
   * in one long statement, to how many requests were not carried out.
   */
  async close (deadline: number): Promise<number> {
    this.#closing = true
    this.#worker?.ref()
    this.#flush()
    this.#post({ type: 'stop', deadline })
    let timer: NodeJS.Timeout | undefined
    const stuck = new Promise<void>(resolve => { timer = setTimeout(resolve, deadline + STUCK_MS) })
    await Promise.race([this.#exited, stuck])
    clearTimeout(timer)
    this.#rejectAll(doormanError('DOORMAN_STORAGE_CLOSED'))
    this.#worker?.unref()
    return this.#abandoned
  }

  /** Resolves when the thread is ready, rejects when it could not open its files or ended before. */
  #start (): Promise<void> {
    const { script, settings, name, onNotice } = this.#options
    // A thread refuses the flag `--input-type` (of `node -e`), which it would inherit; given any list of its own, it would refuse others.
    const own = process.execArgv.some(flag => flag.startsWith('--input-type')) ? { execArgv: [] } : {}
    return new Promise<void>((_resolve, reject) => {
      const worker = new Worker(script, { workerData: settings, name: `doorman-${name}`, ...own })
      this.#worker = worker
      let reason: unknown
      worker.on('message', (message: FromThread) => {
        if (message.type === 'replies') {
          this.#settle(message.replies)
        } else if (message.type === 'notice') {
          onNotice?.(message.notice)
        } else if (message.type === 'ready') {
          this.#online = true
          if (this.#pending.size === 0) worker.unref()
          this.#scheduleFlush()
          _resolve()
        } else {
          const error = decodeError(message.error)
          reject(error)
          if (this.#online) this.#giveUp(error, { err: error }, 'stops')
        }
      })
      worker.on('error', error => { reason = error })
      this.#exited = new Promise(resolve => {
        worker.on('exit', code => {
          const wasOnline = this.#online
          this.#online = false
          this.#worker = undefined
          const error = this.#death(reason ?? `exit code ${code}`)
          reject(error)
          if (wasOnline && !this.#closing && this.failed === undefined) this.#died(error)
          resolve()
        })
      })
    })
  }

  #death (reason: unknown): DoormanError {
    const text = reason instanceof Error ? reason.message : String(reason)
    return doormanError(this.#options.name === 'writer' ? 'DOORMAN_WRITER_DIED' : 'DOORMAN_READER_DIED', [text], reason)
  }

  /** Ended without being asked to: what was under way is failed, and a new thread is started, unless that has happened too often. */
  #died (error: DoormanError): void {
    const { name, log } = this.#options
    // What has not been sent can wait for the next thread; what was sent may or may not be stored.
    const unsent = new Set(this.#outbox.map(request => request.id))
    this.#rejectAll(error, id => !unsent.has(id))
    const now = performance.now()
    this.#deaths = [...this.#deaths.filter(at => at > now - DEATH_WINDOW_MS), now]
    const deaths = this.#deaths.length
    if (deaths >= MAX_DEATHS || error.code === 'DOORMAN_STORAGE_REPLACED') {
      this.#giveUp(error, { err: error, deaths }, 'keeps dying')
      return
    }
    this.restarts++
    log.error({ err: error, deaths }, `the ${name} thread ended unexpectedly: starting another`)
    setTimeout(() => {
      if (!this.#closing) this.#start().catch((cause: DoormanError) => this.#died(cause))
    }, restartDelay(deaths))
  }

  #giveUp (error: DoormanError, fields: object, what: string): void {
    if (this.failed !== undefined) return
    const { name, log, onGivenUp } = this.#options
    this.fail(error)
    log.fatal(fields, `the ${name} thread ${what}: given up`)
    onGivenUp?.(error)
  }

  /** From now on everything fails with this error; what is under way, too. */
  fail (error: DoormanError): void {
    this.failed = error
    this.#outbox = []
    this.#rejectAll(error)
  }

  #rejectAll (error: DoormanError, which: (id: number) => boolean = () => true): void {
    for (const [id, { reject, uncounted }] of [...this.#pending]) {
      if (!which(id)) continue
      this.#pending.delete(id)
      if (this.#closing && !uncounted) this.#abandoned++
      reject(error)
    }
  }

  #settle (replies: WireReply[]): void {
    for (const reply of replies) {
      // After close() has given up on a stuck thread, its late answers have nobody waiting.
      const pending = this.#pending.get(reply.id)
      this.#pending.delete(reply.id)
      if (reply.ok) {
        pending?.resolve(reply.value)
      } else {
        if (reply.error.code === 'DOORMAN_STORAGE_CLOSED' && pending?.uncounted === false) this.#abandoned++
        const error = decodeError(reply.error)
        // Before anybody has that answer: who closes the service upon it must know already that nothing is worth waiting for. The thread says so
        // itself as well, a moment later.
        if (error.code === 'DOORMAN_STORAGE_REPLACED') this.#giveUp(error, { err: error }, 'stops')
        this.#options.onError?.(error)
        pending?.reject(error)
      }
    }
    this.#rest()
  }

  #rest (): void {
    if (this.#pending.size === 0 && !this.#closing) this.#worker?.unref()
  }

  #scheduleFlush (): void {
    if (this.#flushScheduled || !this.#online) return
    this.#flushScheduled = true
    setImmediate(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  #flush (): void {
    if (this.#outbox.length === 0 || !this.#online) return
    const requests = this.#outbox
    this.#outbox = []
    try {
      this.#post({ type: 'requests', requests })
    } catch {
      // Nothing was sent: one of them holds what cannot go to a thread. It fails alone.
      for (const request of requests) this.#flushAlone(request)
    }
  }

  /** A promise or a function among the host's parameters must not take others down with it. */
  #flushAlone (request: WireRequest): void {
    try {
      this.#post({ type: 'requests', requests: [request] })
    } catch (error) {
      const pending = this.#pending.get(request.id)
      this.#pending.delete(request.id)
      pending?.reject(doormanError('DOORMAN_SQL_INVALID', [(error as Error).message], error))
      this.#rest()
    }
  }

  #post (message: ToThread): void {
    this.#worker?.postMessage(message)
  }
}

/** A reason for each thread that was given up. */
export function failedThreads (threads: Record<string, Pick<ThreadClient, 'failed'> | undefined>): string[] {
  return Object.entries(threads).flatMap(([name, { failed } = { failed: undefined }]) => failed === undefined ? [] : [`the ${name} thread has failed (${failed.code})`])
}
