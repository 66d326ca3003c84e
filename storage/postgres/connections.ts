/**
 * The connections of this process, and who gets the next one. Opened as they are needed, kept open, replaced when they break off; while the
 * server cannot be reached one attempt after the other is made, with growing pauses, whether anybody waits or not.
 */
import type { LaneName } from '../storage.js'
import type { Circuit } from './circuit.js'
import type { Connection } from './connect.js'

export interface ConnectionsOptions {
  /** Rejects with the driver's error. */
  connect (): Promise<Connection>
  size: number
  circuit: Circuit
  random (): number
}

/** Who asks for a connection: checks of sessions and the like, whatever else only reads, and changes by their lane. */
export type Line = 'checks' | 'reads' | LaneName

interface Waiter { line: Line, lend (connection: Connection | null): void }

/** Pauses between attempts to connect: full jitter below a ceiling that doubles, ms. Short, since everybody waits for it. */
const PAUSE_BASE_MS = 20
const PAUSE_CAP_MS = 1000
const CHANGES: readonly Line[] = ['interactive', 'bulk', 'maintenance']
/** Who is served first. */
const LINES: readonly Line[] = ['checks', 'reads', ...CHANGES]
/**
 * So many connections, half of all at most, the lines `together` leave for those before them: while everything that changes something waits
 * for a lock, sessions are checked and lists made.
 */
interface Share { together: readonly Line[], left: number }
const CHANGES_SHARE: Share = { together: CHANGES, left: 2 }
const SHARES: Readonly<Record<Line, Share>> = {
  checks: { together: LINES, left: 0 },
  reads: { together: LINES.slice(1), left: 1 },
  interactive: CHANGES_SHARE,
  bulk: CHANGES_SHARE,
  maintenance: CHANGES_SHARE
}

const perLine = <T>(value: () => T): Record<Line, T> => ({ checks: value(), reads: value(), interactive: value(), bulk: value(), maintenance: value() })

export class Connections {
  #options: ConnectionsOptions
  /** How many of each line may have a connection at once. */
  #limits: Record<Line, number>
  #lent = perLine(() => 0)
  #idle: Connection[] = []
  #all = new Set<Connection>()
  #waiting = perLine<Waiter[]>(() => [])
  #opening = 0
  #failures = 0
  #pause: NodeJS.Timeout | undefined
  #closed = false

  constructor (options: ConnectionsOptions) {
    this.#options = options
    this.#limits = { ...perLine(() => options.size), bulk: Math.ceil(options.size / 2), maintenance: 1 }
  }

  /** How many wait for a connection, by lane. */
  get waiting (): Record<LaneName, number> {
    const { checks, reads, interactive, bulk, maintenance } = this.#waiting
    return { interactive: checks.length + reads.length + interactive.length, bulk: bulk.length, maintenance: maintenance.length }
  }

  /** Takes a first connection that was opened outside. */
  add (connection: Connection): void {
    this.#all.add(connection)
    connection.onDead = () => { this.#lost(connection) }
    this.#rest(connection)
    this.#dispatch()
  }

  /** A connection, or null when there was none within `patience` ms or all is closed. Give it back with `release`. */
  acquire (line: Line, patience: number): Promise<Connection | null> {
    if (this.#closed) return Promise.resolve(null)
    if (this.#idle.length > 0 && this.#room(line) > 0) return Promise.resolve(this.#lend(line))
    return new Promise(resolve => {
      const waiter: Waiter = {
        line,
        lend (connection) {
          clearTimeout(timer)
          resolve(connection)
        }
      }
      const timer = setTimeout(() => {
        this.#waiting[line] = this.#waiting[line].filter(other => other !== waiter)
        resolve(null)
      }, patience)
      this.#waiting[line].push(waiter)
      this.#dispatch()
    })
  }

  release (line: Line, connection: Connection): void {
    this.#lent[line]--
    if (!connection.dead) this.#rest(connection)
    this.#dispatch()
  }

  /** Those at rest may be as stale as one that got no answer: they are replaced when needed. */
  dropIdle (): void {
    for (const connection of this.#idle.splice(0)) connection.close()
  }

  /** Nobody gets a connection any more; who waits is told so, and what is under way is cut off. */
  async close (): Promise<void> {
    this.#closed = true
    clearTimeout(this.#pause)
    for (const line of LINES) for (const waiter of this.#waiting[line].splice(0)) waiter.lend(null)
    await Promise.all([...this.#all].map(connection => connection.close()))
  }

  /** How many more of a line may be lent to. */
  #room (line: Line): number {
    const { size } = this.#options
    const { together, left } = SHARES[line]
    const lent = together.reduce((sum, other) => sum + this.#lent[other], 0)
    return Math.min(this.#limits[line] - this.#lent[line], size - Math.min(left, Math.floor(size / 2)) - lent)
  }

  #lend (line: Line): Connection {
    const connection = this.#idle.pop()!
    this.#lent[line]++
    connection.holdProcess(true)
    return connection
  }

  #rest (connection: Connection): void {
    connection.holdProcess(false)
    this.#idle.push(connection)
  }

  #lost (connection: Connection): void {
    this.#all.delete(connection)
    this.#idle = this.#idle.filter(other => other !== connection)
    this.#dispatch()
  }

  /** Lends what is at rest, then sees to it that what is missing is opened. */
  #dispatch (): void {
    while (this.#idle.length > 0) {
      const line = LINES.find(line => this.#waiting[line].length > 0 && this.#room(line) > 0)
      if (line === undefined) break
      this.#waiting[line].shift()!.lend(this.#lend(line))
    }
    if (this.#closed || this.#pause !== undefined) return
    const wanted = LINES.reduce((sum, line) => sum + Math.max(0, Math.min(this.#waiting[line].length, this.#room(line))), 0) - this.#idle.length
    // One is always open, or being opened, so that trouble and its end are noticed before somebody waits.
    const missing = Math.max(wanted, this.#all.size === 0 ? 1 : 0)
    // While nothing can be reached one attempt at a time is enough to learn when it can.
    const limit = this.#all.size === 0 && this.#failures > 0 ? 1 : this.#options.size - this.#all.size
    for (let opening = this.#opening; opening < Math.min(missing, limit); opening++) this.#open()
  }

  async #open (): Promise<void> {
    const { connect, circuit, random } = this.#options
    this.#opening++
    try {
      const connection = await connect()
      this.#opening--
      this.#failures = 0
      circuit.worked()
      if (this.#closed) await connection.close()
      else this.add(connection)
    } catch (error) {
      this.#opening--
      if (this.#closed) return
      // With others open it is no outage: the server has no room for one more, or just one attempt failed.
      if (this.#all.size === 0) circuit.failed(error)
      const ceiling = Math.min(PAUSE_CAP_MS, PAUSE_BASE_MS * 2 ** this.#failures++)
      clearTimeout(this.#pause)
      // Whoever waits has a timer of their own, which keeps the process alive; without anybody nothing does.
      this.#pause = setTimeout(() => {
        this.#pause = undefined
        this.#dispatch()
      }, Math.ceil(random() * ceiling)).unref()
    }
  }
}
