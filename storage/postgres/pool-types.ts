/** What the parts of this engine share: how statements are run, and how work is handed to a connection. Types only. */
import type { LaneName } from '../storage.js'

/**
 * A statement that is prepared once per connection under its name (the driver's `name`), so that the server parses and plans it once. The
 * same name must always come with the same text; names of this engine begin with `doorman_`.
 */
export interface Statement { readonly name: string, readonly text: string }

/** A statement of somebody else: sent in the extended protocol, where a text can hold only one. */
export interface ForeignStatement { readonly text: string, readonly queryMode: 'extended' }

export interface QueryResult<Row> { rows: Row[], rowCount: number }

/**
 * A connection that was lent for a piece of work. int8 columns arrive as numbers where they are safe integers, else as bigint; bytea as Buffer;
 * json as text. Statements run one after the other. Rejects with the driver's own errors: the pool maps them once the work has failed for good.
 */
export interface Queryable {
  /** `rowCount`: rows returned or changed, 0 for statements that do neither. */
  query<Row extends object> (statement: string | Statement | ForeignStatement, values?: readonly unknown[]): Promise<QueryResult<Row>>
}

/** What the work may know about the attempt it is. */
export interface Attempt {
  /** From 1. */
  number: number
  /**
   * True when an earlier attempt may have been committed although its answer was lost (the connection broke off). The work has to cope:
   * recognise its own rows, by a key.
   */
  uncertain: boolean
}

export interface Work {
  /** interactive: somebody waits (counted, limit `maxPending`); bulk: log batches and touches; maintenance: steps of the cleanup, one at a time. */
  lane: LaneName
  /** Longest wait of all attempts together, ms; default the engine's `busyTimeout`. */
  wait?: number
  /** Not counted against `maxPending`. Always so in the lanes bulk and maintenance. */
  uncounted?: boolean
  /**
   * False: the work must not be repeated once it may have been committed (host statements); it then rejects with DOORMAN_COMMIT_UNKNOWN. Default
   * true: it is, with `attempt.uncertain`.
   */
  repeatable?: boolean
  /** Nothing is changed: an attempt that got lost is simply repeated. A transaction is then READ ONLY. */
  readOnly?: boolean
  /** Whose numbers this counts among; default main. */
  file?: 'main' | 'log'
  /** For changes: how many rows it stores at most; counted, with one commit, when it has succeeded. Left out: not counted as a commit. */
  rows?: number
}

export interface TransactionWork extends Work {
  /** Default: read committed. */
  isolation?: 'serializable' | 'repeatable read'
  /** A first statement without parameters, which costs no round trip of its own: a lock, say. */
  first?: string
  /** Longest run of one statement, ms, where the connection's own (30 s, or `busyTimeout` where that is longer) does not fit. */
  statementTimeout?: number
  /** Longest wait for a lock, ms, where the connection's own (`busyTimeout`) does not fit; DROP of a partition, say. */
  lockTimeout?: number
  /** False: SQLSTATE 55P03 (the lock was not had) is not repeated within this call but rejects with DOORMAN_STORAGE_BUSY. Default true. */
  retryLocks?: boolean
}

/**
 * Connections, and the rule by which work is repeated: the whole function, from its beginning, on a fresh connection where the old one is lost. So
 * the function must keep nothing from an attempt that failed. Both methods reject with errors of the catalogue only:
 * DOORMAN_CONSTRAINT, DOORMAN_SQL_INVALID, DOORMAN_STORAGE_BUSY, DOORMAN_STORAGE_UNAVAILABLE, DOORMAN_STORAGE_FULL, DOORMAN_STORAGE_…,
 * DOORMAN_COMMIT_UNKNOWN, DOORMAN_QUEUE_FULL, DOORMAN_STORAGE_CLOSED. The driver's error is the `cause` (`sqlState(error)` of errors.ts reads its SQLSTATE).
 */
export interface Pool {
  /** Without a transaction around it: each statement is committed by itself. The cheapest way (one round trip per statement). */
  run<T> (what: Work, work: (client: Queryable, attempt: Attempt) => Promise<T>): Promise<T>
  /** BEGIN, the work, COMMIT; ROLLBACK when the work throws. A connection lost before COMMIT was sent is never uncertain. */
  transaction<T> (what: TransactionWork, work: (client: Queryable, attempt: Attempt) => Promise<T>): Promise<T>
}
