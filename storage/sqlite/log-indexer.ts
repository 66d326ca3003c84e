/**
 * Adds stored log rows to the tables of log-index.ts: a window of rows at a time, each table in the order of its keys, in steps of a few
 * milliseconds that go behind everything else the writer has to do.
 *
 *   look    is there anything to do? (no transaction)
 *   claim   says to other processes who does it, and to whoever stores rows which places it is about to pass
 *   read    the window's rows, some thousands a step (no transaction)
 *   write   entries, a thousand a step; the last step moves `indexed_until`
 *
 * A step that fails, or finds the claim gone (another process, or rows were erased), ends the window without harm: entries that are there
 * already are ignored by the next one, and no query looks at them before the watermark has passed.
 */
import type { Connection } from './connection.js'
import type { WriteOperation } from './lanes.js'
import { INDEXED_COLUMNS, indexState, insertEntries, setIndexState } from './log-index.js'
import { ENTRY_COLUMNS, LogWindow, type WindowRow } from './log-window.js'
import { IDS_PER_MS, LOG_INDEXES, type LogIndexName } from './schema-log.js'

export interface LogIndexerOptions {
  /** Has a step done behind everything else, and its result given to `settled`. */
  submit (step: WriteOperation): void
  /** Milliseconds since the epoch. */
  now (): number
  random (): number
  tuning?: Partial<IndexTuning>
}

export interface IndexTuning {
  /** Rows that make a window worth its while. */
  due: number
  /** Longest that fewer rows wait, ms. */
  every: number
  /** Most rows of a window, below 131 072: the more there are, the more of them share a page. */
  window: number
  /** Rows per step of reading, entries per step of writing: one to two milliseconds each. */
  read: number
  write: number
  /** Rows of the last ms are left: others of that time, of other processes, may still come. */
  lag: number
  /** How long a claim holds where nobody renews it, ms. */
  claim: number
  /**
   * Between two steps, ms, unless the next window is due already: where this thread shares a core with the event loop, a window at one go would
   * take half of that core for half a second, and requests would queue up behind it.
   */
  pause: number
}

const TUNING: IndexTuning = { due: 50_000, every: 5000, window: 100_000, read: 1000, write: 500, lag: 2000, claim: 10_000, pause: 4 }
const ENTRIES_PER_STATEMENT = 50
const insertsOf = (count: number) => Object.fromEntries(LOG_INDEXES.map(name => [name, insertEntries(name, count)])) as Record<LogIndexName, string>
const INSERT_MANY = insertsOf(ENTRIES_PER_STATEMENT)
const INSERT_ONE = insertsOf(1)
/** A claim is the time it ends, and a number that tells two of the same millisecond apart. */
const CLAIMS_PER_MS = 1024

type Phase = 'look' | 'claim' | 'read' | 'write'
/** What a step returns; false: there is nothing to go on with. */
export type IndexerOutcome = boolean | { from: number, to: number } | WindowRow[] | number

export class LogIndexer {
  #options: LogIndexerOptions
  #tuning: IndexTuning
  /** The step under way, if any. */
  #phase: Phase | undefined
  #timer: NodeJS.Timeout | undefined
  #pause: NodeJS.Timeout | undefined
  #stopped = false
  #stored = 0
  /** `#stored` when the last window began. */
  #begun = 0
  /** What is in `index_claim` while this one holds it. */
  #claim = 0
  #window = new LogWindow(0, 0, 0)

  constructor (options: LogIndexerOptions) {
    this.#options = options
    this.#tuning = { ...TUNING, ...options.tuning }
    // What a process before this one has left.
    this.#schedule()
  }

  /** To be called after each commit of the log. @param stored rows stored since the start, about */
  committed (stored: number): void {
    if (stored === this.#stored) return
    this.#stored = stored
    if (stored - this.#begun < this.#tuning.due) this.#schedule()
    else if (this.#phase === undefined) this.#submit('look')
  }

  /** A step is over. @param outcome what it returned; undefined where it failed */
  settled (outcome: IndexerOutcome | undefined): void {
    const phase = this.#phase
    this.#phase = undefined
    if (this.#stopped) return
    if (outcome === undefined || outcome === false) {
      // Nothing to do: the next commit begins anew. Otherwise somebody else is at it, or it failed.
      if (phase !== 'look' || outcome === undefined) this.#schedule()
    } else if (phase === 'look') {
      this.#submit('claim')
    } else if (phase === 'claim') {
      const { from, to } = outcome as { from: number, to: number }
      this.#begun = this.#stored
      this.#window = new LogWindow(from, to, this.#tuning.window)
      this.#submit('read')
    } else if (phase === 'read') {
      this.#take(outcome as WindowRow[])
    } else if (outcome !== 0) {
      this.#window.advance(outcome as number)
      this.#submit('write')
    } else if (this.#window.room === 0) {
      // A full window: there is more.
      this.#submit('look')
    } else if (this.#stored !== this.#begun) {
      this.#schedule()
    }
  }

  stop (): void {
    this.#stopped = true
    clearTimeout(this.#timer)
    clearTimeout(this.#pause)
  }

  #schedule (): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      if (this.#phase === undefined) this.#submit('look')
    }, this.#tuning.every).unref()
  }

  #submit (phase: Phase): void {
    this.#phase = phase
    const step = this.#steps[phase]
    const { pause, due } = this.#tuning
    if (pause === 0 || phase === 'look' || this.#stored - this.#begun >= due) this.#options.submit(step)
    else this.#pause = setTimeout(() => { this.#options.submit(step) }, pause).unref()
  }

  #take (rows: WindowRow[]): void {
    const asked = Math.min(this.#tuning.read, this.#window.room)
    this.#window.add(rows)
    const complete = rows.length < asked
    if (!complete && this.#window.room > 0) return this.#submit('read')
    this.#window.close(complete)
    this.#submit('write')
  }

  #steps: Record<Phase, WriteOperation> = {
    look: { lane: 'maintenance', bare: true, run: connection => this.#isBehind(connection) },
    claim: { lane: 'maintenance', run: connection => this.#claimWindow(connection) },
    read: { lane: 'maintenance', bare: true, run: connection => this.#readRows(connection) },
    write: { lane: 'maintenance', run: connection => this.#writeEntries(connection) }
  }

  #isBehind (connection: Connection): boolean {
    const { until } = indexState(connection)
    return connection.get('SELECT 1 FROM ip_log_rows WHERE id > ? AND id <= ? LIMIT 1', until, this.#reach(connection)) !== undefined
  }

  /** The id up to which rows are complete, all but a few. By the newest row as well: where their clock is not this one's, nothing would ever be late. */
  #reach (connection: Connection): number {
    const { newest } = connection.get<{ newest: number | null }>('SELECT max(id) AS newest FROM ip_log_rows')!
    return Math.min(newest ?? 0, this.#options.now() * IDS_PER_MS) - this.#tuning.lag * IDS_PER_MS
  }

  #claimWindow (connection: Connection): { from: number, to: number } | false {
    const state = indexState(connection)
    const now = this.#options.now()
    const ends = state.claim / CLAIMS_PER_MS
    // One that ends later than any could is of a clock that was set back.
    if (state.claim !== this.#claim && ends > now && ends <= now + 2 * this.#tuning.claim) return false
    const to = Math.max(state.announced, this.#reach(connection))
    if (to <= state.until) return false
    setIndexState(connection, { announced: to, claim: this.#renewed() })
    return { from: state.until, to }
  }

  #renewed (): number {
    this.#claim = (this.#options.now() + this.#tuning.claim) * CLAIMS_PER_MS + Math.floor(this.#options.random() * CLAIMS_PER_MS)
    return this.#claim
  }

  #readRows (connection: Connection): WindowRow[] {
    const { last, to, room } = this.#window
    return connection.allRaw<WindowRow>(`SELECT ${INDEXED_COLUMNS} FROM ip_log_rows AS r WHERE r.id > ? AND r.id <= ? ORDER BY r.id LIMIT ?`, last, to, Math.min(this.#tuning.read, room))
  }

  /** How many entries were written, 0 when the window is done; false where it is no longer ours. */
  #writeEntries (connection: Connection): number | false {
    if (indexState(connection).claim !== this.#claim) return false
    const next = this.#window.next(this.#tuning.write)
    if (next === null) {
      setIndexState(connection, { until: this.#window.to, claim: 0 })
      return 0
    }
    const { name, values } = next
    const entries = values.length / ENTRY_COLUMNS
    for (let i = 0; i < entries;) {
      const many = i + ENTRIES_PER_STATEMENT <= entries
      const count = many ? ENTRIES_PER_STATEMENT : 1
      connection.run(many ? INSERT_MANY[name] : INSERT_ONE[name], ...values.slice(i * ENTRY_COLUMNS, (i + count) * ENTRY_COLUMNS))
      i += count
    }
    setIndexState(connection, { claim: this.#renewed() })
    return entries
  }
}
