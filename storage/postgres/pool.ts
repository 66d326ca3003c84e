/**
 * Runs work on connections, and again when it failed for a reason that passes: the whole function, from its beginning, with full jitter between
 * attempts, until its time is up. What has been done by an attempt that got no answer is not guessed: see `Attempt.uncertain`.
 */
import { doormanError, type DoormanError } from '../../errors.js'
import type { Circuit } from './circuit.js'
import type { Connection } from './connect.js'
import type { Connections, Line } from './connections.js'
import type { Counters } from './counters.js'
import { classify, isUncertain, sqlState, toDoormanError } from './errors.js'
import type { Attempt, Pool, Queryable, TransactionWork, Work } from './pool-types.js'

export type { Attempt, ForeignStatement, Pool, Queryable, QueryResult, Statement, TransactionWork, Work } from './pool-types.js'

export interface PoolOptions {
  connections: Connections
  circuit: Circuit
  counters: Record<'main' | 'log', Counters>
  /** Longest wait of an operation, ms. */
  busyTimeout: number
  /** What each connection has been set to, ms. */
  statementTimeout: number
  /** Behind a pooler settings are made for each transaction. */
  pooled: boolean
  maxPending: number
  monotonic (): number
  random (): number
}

/** A connection may take this long to be had, ms, however short the wait for a lock is to be. */
const MIN_PATIENCE_MS = 1000
/** The server ends a statement by itself when its time is up; this much later, ms, it is taken for gone. */
const GRACE_MS = 2000
/** Ceilings of the pauses between attempts, ms: a conflict is over as soon as the other has committed; a server takes a while to come back. */
const PAUSES = { conflict: { base: 4, cap: 250 }, lost: { base: 20, cap: 1000 } }

/** A look that is not even counted is about a session, a counter or the like: nothing else may hold it up. */
const lineOf = ({ lane, readOnly, uncounted }: Work): Line => lane !== 'interactive' || readOnly !== true ? lane : uncounted === true ? 'checks' : 'reads'

type Once<T> = (connection: Connection, attempt: Attempt, remaining: number) => Promise<T>
/** What an attempt knows about itself when it fails. */
interface Phase { maybeCommitted: boolean }

export class PostgresPool implements Pool {
  #options: PoolOptions
  #pending = 0
  /** Changes that somebody waits for and that are not settled. */
  #unsettled = 0
  #active = 0
  #closing = false
  #closed = false
  #drained: (() => void) | undefined

  constructor (options: PoolOptions) {
    this.#options = options
  }

  /** Operations that wait or run. */
  get pending (): number {
    return this.#pending
  }

  run<T> (what: Work, work: (client: Queryable, attempt: Attempt) => Promise<T>): Promise<T> {
    const phase: Phase = { maybeCommitted: false }
    return this.#repeat(what, phase, (connection, attempt, remaining) => {
      // The connection's own limits fit the first attempt; what is shorter is set for one transaction.
      if (what.readOnly !== true && (attempt.number > 1 || what.wait !== undefined)) return this.#transact(what, phase, work, connection, attempt, remaining)
      phase.maybeCommitted = true
      return work(connection, attempt)
    })
  }

  transaction<T> (what: TransactionWork, work: (client: Queryable, attempt: Attempt) => Promise<T>): Promise<T> {
    const phase: Phase = { maybeCommitted: false }
    return this.#repeat(what, phase, (connection, attempt, remaining) => this.#transact(what, phase, work, connection, attempt, remaining))
  }

  /** @throws DOORMAN_STORAGE_CLOSED */
  assertOpen (): void {
    if (this.#closing) throw doormanError('DOORMAN_STORAGE_CLOSED')
  }

  /** Refuses new work, finishes what was asked for before, closes. Returns how many changes were not stored. */
  async close (deadlineMs: number): Promise<number> {
    this.#closing = true
    if (this.#active > 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, deadlineMs)
        this.#drained = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const notStored = this.#unsettled
    this.#closed = true
    await this.#options.connections.close()
    return notStored
  }

  async #transact<T> (what: TransactionWork, phase: Phase, work: (client: Queryable, attempt: Attempt) => Promise<T>, connection: Connection, attempt: Attempt, remaining: number): Promise<T> {
    phase.maybeCommitted = false
    await connection.query(this.#begin(what, attempt, remaining))
    const result = await work(connection, attempt)
    phase.maybeCommitted = true
    await connection.commit()
    return result
  }

  /** One round trip, settings and all. */
  #begin ({ isolation, readOnly, wait, statementTimeout, lockTimeout, first }: TransactionWork, attempt: Attempt, remaining: number): string {
    const { pooled, busyTimeout } = this.#options
    const settings: string[] = [`BEGIN${isolation === undefined ? '' : ` ISOLATION LEVEL ${isolation}`}${readOnly === true ? ' READ ONLY' : ''}`]
    if (statementTimeout !== undefined || pooled) settings.push(`SET LOCAL statement_timeout = ${statementTimeout ?? this.#options.statementTimeout}`)
    if (lockTimeout !== undefined || wait !== undefined || pooled || attempt.number > 1) {
      settings.push(`SET LOCAL lock_timeout = ${Math.max(1, Math.ceil(Math.min(lockTimeout ?? busyTimeout, remaining)))}`)
    }
    if (first !== undefined) settings.push(first)
    return settings.join('; ')
  }

  async #repeat<T> (what: TransactionWork, phase: Phase, once: Once<T>): Promise<T> {
    const { busyTimeout, circuit, maxPending, monotonic } = this.#options
    this.assertOpen()
    const counted = what.lane === 'interactive' && what.uncounted !== true
    if (counted && this.#pending >= maxPending) throw doormanError('DOORMAN_QUEUE_FULL', [maxPending])
    const wait = what.wait ?? busyTimeout
    // It has been like that for longer than this would wait: the answer would be the same, only later.
    if (circuit.openFor > Math.max(wait, MIN_PATIENCE_MS)) throw this.#unavailable()
    const stores = what.lane === 'interactive' && what.readOnly !== true
    if (counted) this.#pending++
    if (stores) this.#unsettled++
    this.#active++
    const start = monotonic()
    try {
      const result = await this.#attempts(what, phase, once, wait, start)
      if (what.rows !== undefined) this.#options.counters[what.file ?? 'main'].committed(what.rows, monotonic() - start)
      return result
    } finally {
      if (counted) this.#pending--
      if (stores) this.#unsettled--
      if (--this.#active === 0) this.#drained?.()
    }
  }

  async #attempts<T> (what: TransactionWork, phase: Phase, once: Once<T>, wait: number, start: number): Promise<T> {
    const { connections, monotonic } = this.#options
    const end = start + wait
    let uncertain = false
    const line = lineOf(what)
    for (let number = 1; ; number++) {
      const connection = await connections.acquire(line, Math.max(end, start + MIN_PATIENCE_MS) - monotonic())
      if (connection === null) throw uncertain ? doormanError('DOORMAN_COMMIT_UNKNOWN', [this.#unavailable().message]) : this.#unavailable(wait)
      const began = monotonic()
      const watch = this.#watch(connection, what)
      try {
        return await once(connection, { number, uncertain }, Math.max(0, end - began))
      } catch (error) {
        const failure = classify(error, connection.dead, what.readOnly === true)
        if (failure === 'lost') connection.close()
        else await connection.rollback()
        if (failure === 'conflict') this.#options.counters[what.file ?? 'main'].conflicted(sqlState(error)!, monotonic() - began)
        uncertain ||= failure === 'lost' && what.readOnly !== true && phase.maybeCommitted && isUncertain(error)
        const final = this.#judge(error, failure, what, uncertain, wait)
        const pause = failure === 'final' ? 0 : this.#pause(failure, number)
        if (final !== null || monotonic() + pause >= end) throw final ?? this.#late(error, uncertain, wait)
        await new Promise(resolve => { setTimeout(resolve, pause) })
      } finally {
        clearTimeout(watch)
        connections.release(line, connection)
      }
    }
  }

  /** The error that no further attempt would change, or null. */
  #judge (error: unknown, failure: ReturnType<typeof classify>, what: TransactionWork, uncertain: boolean, wait: number): DoormanError | null {
    if (failure === 'final') return toDoormanError(error, wait)
    if (failure === 'conflict') return what.retryLocks === false && sqlState(error) === '55P03' ? toDoormanError(error, wait) : null
    return uncertain && what.repeatable === false ? this.#late(error, true, wait) : null
  }

  #late (error: unknown, uncertain: boolean, wait: number): DoormanError {
    const mapped = toDoormanError(error, wait, true)
    return uncertain ? doormanError('DOORMAN_COMMIT_UNKNOWN', [mapped.message], mapped.cause) : mapped
  }

  #pause (failure: 'conflict' | 'lost', number: number): number {
    const { base, cap } = PAUSES[failure]
    return Math.ceil(this.#options.random() * Math.min(cap, base * 2 ** number))
  }

  /** For a server that does not answer at all: the machine is gone, or the network. */
  #watch (connection: Connection, { wait, statementTimeout }: TransactionWork): NodeJS.Timeout {
    const { busyTimeout, connections } = this.#options
    const patience = wait ?? Math.max(busyTimeout, statementTimeout ?? this.#options.statementTimeout)
    return setTimeout(() => {
      connection.close()
      connections.dropIdle()
    }, patience + GRACE_MS)
  }

  /** @param wait for how long it was waited, where the reason may be that all connections are busy */
  #unavailable (wait = 0): DoormanError {
    const { lastError } = this.#options.circuit
    if (lastError !== undefined) return toDoormanError(lastError, wait, true)
    return this.#closed ? doormanError('DOORMAN_STORAGE_CLOSED') : doormanError('DOORMAN_STORAGE_BUSY', [wait])
  }
}
