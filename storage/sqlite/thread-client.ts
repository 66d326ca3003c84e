/**
 * The main thread's side of a thread: requests out in groups (one message per turn of the event loop), answers back to their promises,
 * and what happens when the thread dies: pending requests are failed with a code, and a new thread is started.
 */
import { Worker } from 'node:worker_threads'
import { doormanError, type DoormanError, type DoormanErrorCode } from '../../errors.js'
import type { Health, StorageLogger } from '../storage.js'
import { decodeError } from './errors.js'
import type { FromThread, ThreadSettings, ToThread, WireRequest } from './protocol.js'

export interface ThreadClientOptions {
  name: 'writer' | 'reader'
  script: URL
  settings: ThreadSettings
  /** Most requests that may be waiting at once. */
  maxPending: number
  log: StorageLogger
}

interface Pending { resolve (value: unknown): void, reject (error: DoormanError): void }

/** Deaths within this time, ms, before the thread is given up. */
const DEATH_WINDOW_MS = 60_000
const MAX_DEATHS = 5
/** How long after its deadline a closing thread may still answer, ms. */
const STUCK_MS = 500

export class ThreadClient {
  restarts = 0
  /** Set when the thread died too often: nothing works any more. */
  failed: DoormanError | undefined
  #options: ThreadClientOptions
  #worker: Worker | undefined
  #ready: Promise<void>
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
    this.#ready = this.#start()
  }

  /** Resolves when the thread has opened its files; rejects with the reason when it cannot. */
  get ready (): Promise<void> {
    return this.#ready
  }

  get pending (): number {
    return this.#pending.size
  }

  /**
   * Sends a request. `unbounded` requests come from a queue that has its own limit.
   * @throws (rejects) DOORMAN_QUEUE_FULL, DOORMAN_STORAGE_CLOSED, DOORMAN_WRITER_DIED or DOORMAN_READER_DIED, and what the request itself fails with
   */
  run<T> (name: string, params: unknown, unbounded = false): Promise<T> {
    if (this.failed !== undefined) return Promise.reject(this.failed)
    if (this.#closing) return Promise.reject(doormanError('DOORMAN_STORAGE_CLOSED'))
    if (!unbounded && this.#pending.size >= this.#options.maxPending) return Promise.reject(doormanError('DOORMAN_QUEUE_FULL', [this.#options.maxPending]))
    return new Promise<T>((resolve, reject) => {
      const id = this.#nextId++
      // Only pending work keeps the process alive.
      if (this.#pending.size === 0) this.#worker?.ref()
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject })
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

  #start (): Promise<void> {
    const { script, settings, name } = this.#options
    // A thread refuses `--input-type` (of `node -e`), which it would inherit.
    const execArgv = process.execArgv.filter(flag => !flag.startsWith('--input-type'))
    const worker = new Worker(script, { workerData: settings, name: `doorman-${name}`, execArgv })
    this.#worker = worker
    let death: unknown
    let ready = false
    return new Promise<void>((resolve, reject) => {
      worker.on('message', (message: FromThread) => {
        if (message.type === 'replies') {
          this.#settle(message)
        } else if (message.type === 'ready') {
          ready = this.#online = true
          if (this.#pending.size === 0) worker.unref()
          this.#scheduleFlush()
          resolve()
        } else {
          // The thread ends by itself; this is no death, but the answer to opening.
          this.#closing = true
          reject(decodeError(message.error))
        }
      })
      worker.on('error', error => { death = error })
      this.#exited = new Promise(exited => {
        worker.on('exit', code => {
          this.#online = false
          this.#worker = undefined
          if (!this.#closing) this.#died(death ?? `exit code ${code}`, ready, reject)
          exited()
        })
      })
    })
  }

  /** Ended without being asked to. One that ended before it was ready will do so again, so it is not started again. */
  #died (reason: unknown, ready: boolean, failStart: (error: DoormanError) => void): void {
    const { name, log } = this.#options
    const text = reason instanceof Error ? reason.message : String(reason)
    const error = doormanError(name === 'writer' ? 'DOORMAN_WRITER_DIED' : 'DOORMAN_READER_DIED' satisfies DoormanErrorCode, [text], reason)
    const now = performance.now()
    this.#deaths = [...this.#deaths.filter(at => at > now - DEATH_WINDOW_MS), now]
    this.#outbox = []
    if (!ready) {
      this.failed = error
      failStart(error)
    } else if (this.#deaths.length >= MAX_DEATHS) {
      this.failed = error
      log.fatal({ err: error, deaths: this.#deaths.length }, `the ${name} thread keeps dying: given up`)
    } else {
      this.restarts++
      log.error({ err: error }, `the ${name} thread ended unexpectedly: starting another`)
      this.#ready = this.#start()
      this.#ready.catch((cause: unknown) => {
        this.failed ??= error
        log.fatal({ err: cause }, `the ${name} thread could not be started again: given up`)
      })
    }
    this.#rejectAll(error)
  }

  #rejectAll (error: DoormanError): void {
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    if (this.#closing) this.#abandoned += pending.length
    for (const { reject } of pending) reject(error)
  }

  #settle ({ replies }: Extract<FromThread, { type: 'replies' }>): void {
    for (const reply of replies) {
      // After close() has given up on a stuck thread, its late answers have nobody waiting.
      const pending = this.#pending.get(reply.id)
      this.#pending.delete(reply.id)
      if (reply.ok) {
        pending?.resolve(reply.value)
      } else {
        if (reply.error.code === 'DOORMAN_STORAGE_CLOSED') this.#abandoned++
        pending?.reject(decodeError(reply.error))
      }
    }
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
    this.#post({ type: 'requests', requests })
  }

  #post (message: ToThread): void {
    this.#worker?.postMessage(message)
  }
}

/** Degraded once a thread was given up. */
export function threadHealth (threads: Record<string, Pick<ThreadClient, 'failed'>>): Health {
  const reasons = Object.entries(threads).flatMap(([name, { failed }]) => failed === undefined ? [] : [`the ${name} thread has failed`])
  return reasons.length === 0 ? { status: 'ok' } : { status: 'degraded', reasons }
}
