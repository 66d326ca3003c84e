/** Opens one connection with the settings of its role, and caches its statements. Nothing else opens SQLite. */
import Database from 'better-sqlite3'
import type { ConnectionReport } from '../storage.js'

/**
 * Frames after which the WAL is copied back after a commit (PASSIVE: never waits for readers). Twice SQLite's own default: pages that change again
 * and again are copied, and synced, half as often (a login cost an eighth less), and it still takes ten to twenty milliseconds.
 */
export const WAL_AUTOCHECKPOINT = 2000
/** The WAL file is cut to this size when it starts anew, bytes. */
export const JOURNAL_SIZE_LIMIT = 16 * 1024 * 1024
/** Off the event loop a reader may wait for WAL recovery; on it, nothing waits. */
export const READER_BUSY_TIMEOUT = 5000
/** Statements kept per connection; the suite has about 80 of its own, the rest is room for the host's. */
const STATEMENT_CACHE_LIMIT = 500

export type Role = ConnectionReport['role']
export type FileName = ConnectionReport['file']

/** Parameters as better-sqlite3 binds them, by position or by name. */
export type Binding = string | number | bigint | Uint8Array | null

export interface ConnectionOptions {
  path: string
  role: Role
  file: FileName
  /** Nobody else has the file open, and nobody can open it meanwhile. Nothing is written all the same, unless by a writer. */
  exclusive?: boolean
}

/** One open connection. Statements are prepared once and cached by their text. */
export class Connection {
  readonly db: Database.Database
  readonly path: string
  readonly role: Role
  readonly file: FileName
  #statements = new Map<string, Database.Statement<Binding[]>>()

  constructor ({ path, role, file, exclusive = false }: ConnectionOptions) {
    this.path = path
    this.role = role
    this.file = file
    // `timeout` is SQLite's own busy wait, a blocking sleep: 0 on the main thread (it would freeze the event loop) and 0 in
    // the writer (it would stop the other file too; the writer waits by polling, see file-writer.ts).
    this.db = new Database(path, { readonly: role !== 'writer' && !exclusive, timeout: role === 'reader' && !exclusive ? READER_BUSY_TIMEOUT : 0 })
    try {
      if (exclusive) this.#lockOut()
      this.#configure()
    } catch (error) {
      // Some of these read the file's head, so a lock (another process changes it to WAL) can refuse them.
      this.db.close()
      throw error
    }
  }

  /** The mode has to be set before anything is read, and takes effect with the first read. */
  #lockOut (): void {
    this.db.pragma('locking_mode = EXCLUSIVE')
    this.db.pragma('query_only = ON')
    this.number('schema_version')
  }

  #configure (): void {
    const { db, role, file } = this
    db.pragma('synchronous = NORMAL')
    db.pragma('cache_size = 10000')
    db.pragma('temp_store = MEMORY')
    db.pragma('foreign_keys = ON')
    db.pragma('trusted_schema = OFF')
    // Memory-mapped reads turn another process's truncation into SIGBUS: off.
    db.pragma('mmap_size = 0')
    db.pragma(`journal_size_limit = ${JOURNAL_SIZE_LIMIT}`)
    if (role !== 'writer') return
    db.pragma(`wal_autocheckpoint = ${WAL_AUTOCHECKPOINT}`)
    // Personal data is overwritten where it was, whenever a row goes or moves: rows deleted before an erasure left their bytes
    // behind. ON in the small file; in the log FAST, which spares pages that are not written anyway, and ON for erasures.
    db.pragma(`secure_delete = ${file === 'main' ? 'ON' : 'FAST'}`)
  }

  statement (sql: string): Database.Statement<Binding[]> {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      if (this.#statements.size >= STATEMENT_CACHE_LIMIT) this.#statements.clear()
      statement = this.db.prepare<Binding[]>(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  /** Also with hundreds of values: the driver takes arguments twice as fast as the elements of an array. */
  run (sql: string, ...values: Binding[]): Database.RunResult {
    return this.statement(sql).run(...values)
  }

  runNamed (sql: string, values: Record<string, Binding>): Database.RunResult {
    return this.statement(sql).run(values as unknown as Binding)
  }

  get<Row> (sql: string, ...values: Binding[]): Row | undefined {
    return this.statement(sql).get(...values) as Row | undefined
  }

  all<Row> (sql: string, ...values: Binding[]): Row[] {
    return this.statement(sql).all(...values) as Row[]
  }

  /**
   * Rows as arrays of their columns, for thousands of them: objects cost as much as the reading itself. The statement stays so, which is why its
   * text may be used nowhere else.
   */
  allRaw<Columns extends readonly Binding[]> (sql: string, ...values: Binding[]): Columns[] {
    return this.statement(sql).raw().all(...values) as unknown as Columns[]
  }

  allNamed<Row> (sql: string, values: Record<string, Binding>): Row[] {
    return this.statement(sql).all(values as unknown as Binding) as Row[]
  }

  number (pragma: string): number {
    return this.db.pragma(pragma, { simple: true }) as number
  }

  /** Gives back the pages in the cache that nothing uses just now. */
  releaseMemory (): void {
    this.db.pragma('shrink_memory')
  }

  /** Settings as the connection itself reports them. `busyWaitMs` is given by the writer, whose wait is not SQLite's. */
  report (busyWaitMs = this.number('busy_timeout')): ConnectionReport {
    const names = ['journal_mode', 'synchronous', 'cache_size', 'temp_store', 'foreign_keys', 'trusted_schema', 'mmap_size', 'journal_size_limit', 'auto_vacuum', 'busy_timeout', 'wal_autocheckpoint', 'secure_delete']
    const pragmas = Object.fromEntries(names.map(name => [name, this.db.pragma(name, { simple: true }) as string | number]))
    return { role: this.role, file: this.file, readonly: this.db.readonly, busyWaitMs, pragmas }
  }

  close (): void {
    this.#statements.clear()
    this.db.close()
  }
}
