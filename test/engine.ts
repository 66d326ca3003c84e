/**
 * The engine that tests of the public surface run on: SQLite, or PostgreSQL where DOORMAN_TEST_ENGINE says so (test/postgres/suites.test.ts
 * runs these files a second time that way). What a test wants to know of its database from outside, it asks here.
 */
import type { Test } from 'tap'
import Database from 'better-sqlite3'
import pg from 'pg'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openStorage } from '../storage/open.js'
import { holdLock } from '../storage/sqlite/hold-lock.js'
import type { Storage, StorageOptions } from '../storage/storage.js'
import { recordingLogger, tempFile, until } from './helper.js'
import { freshDatabase } from './postgres/database.js'

export const ENGINE = process.env['DOORMAN_TEST_ENGINE'] === 'postgres' ? 'postgres' : 'sqlite'

/** Options of a test that is about what only SQLite has; skipped visibly elsewhere. */
export function onlySqlite (why = 'about SQLite files'): { skip?: string } {
  return ENGINE === 'sqlite' ? {} : { skip: why }
}

/** Which tables: what must be exact, or what is appended. A file each in SQLite. */
export type Part = 'main' | 'log'

/** A lock of somebody else, which keeps everybody from writing, but not from reading. */
export interface ForeignLock {
  release (): Promise<void>
  /** Resolves once somebody waits for it. @param tries how often at least, where waiting is asking again */
  met (tries?: number): Promise<void>
}

export interface TestDatabase {
  readonly url: string
  /** Rows as anybody else sees them who looks into the database now. */
  look<Row = Record<string, unknown>> (sql: string, part?: Part): Promise<Row[]>
  /** @param storage whose tries `met` counts, where nobody else can tell */
  lock (part: Part, storage?: Storage): Promise<ForeignLock>
  /** What is left behind of those who had it open, once they are closed: nothing, it should be. */
  leftovers (): Promise<string[]>
  /** True where the text, or the bytes, are somewhere in what is stored. */
  contains (what: string | Buffer): Promise<boolean>
}

/** A new, empty database, which goes with the process. */
export async function newDatabase (t: Test, name?: string): Promise<TestDatabase> {
  return ENGINE === 'sqlite' ? sqlite(tempFile(name)) : postgres(t, await freshDatabase())
}

/** The same for who only needs its URL. */
export async function databaseUrl (): Promise<string> {
  return ENGINE === 'sqlite' ? `file:${tempFile()}` : freshDatabase()
}

/** Opens a storage on the engine under test, which the test closes. */
export async function openTestStorage (t: Test, url?: string, options: Partial<StorageOptions> = {}): Promise<Storage> {
  const storage = await openStorage({ url: url ?? await databaseUrl(), logUrl: null, busyTimeout: 5000, maxPending: 1000, log: recordingLogger(), ...options })
  t.teardown(() => storage.close(1000))
  return storage
}

/** Path of the file of a `file:` URL: for tests about SQLite. */
export const fileOf = (url: string, part: Part = 'main'): string => {
  const path = url.slice('file:'.length)
  return part === 'main' ? path : path.replace(/\.db$/, '-log.db')
}

function sqlite (file: string): TestDatabase {
  const url = `file:${file}`
  return {
    url,
    async look<Row> (sql: string, part?: Part) {
      const db = new Database(fileOf(url, part), { readonly: true })
      try {
        return db.prepare(sql).all() as Row[]
      } finally {
        db.close()
      }
    },
    async lock (part, storage) {
      const tried = async () => (await storage!.stats()).files[part].busy['SQLITE_BUSY'] ?? 0
      const before = storage === undefined ? 0 : await tried()
      const release = holdLock(fileOf(url, part))
      return {
        async release () { release() },
        met: (tries = 1) => until(async () => await tried() >= before + tries, 'somebody to ask for the lock')
      }
    },
    async leftovers () {
      return (['main', 'log'] as const).flatMap(part => ['-wal', '-shm', '-journal'].map(ending => fileOf(url, part) + ending)).filter(path => existsSync(path))
    },
    async contains (what) {
      return readdirSync(dirname(file)).some(name => readFileSync(join(dirname(file), name)).includes(what))
    }
  }
}

/** Tables of each part. */
const TABLES: Record<Part, string> = { main: 'sessions, session_tombstones, session_devices, ip_blocks, cleanup_runs', log: 'ip_logs, user_activity, dead_letters' }

function postgres (t: Test, url: string): TestDatabase {
  const clients = new Set<pg.Client>()
  t.teardown(() => Promise.all([...clients].map(client => client.end())))
  const connect = async () => {
    const client = new pg.Client({ connectionString: url, application_name: 'somebody else', types: { getTypeParser } as pg.CustomTypesConfig })
    clients.add(client)
    await client.connect()
    return client
  }
  let looking: Promise<pg.Client> | undefined
  async function look<Row> (sql: string, params: unknown[] = []) {
    looking ??= connect()
    return (await (await looking).query(sql, params)).rows as Row[]
  }
  return {
    url,
    look: sql => look(sql),
    async lock (part) {
      const client = await connect()
      for (let locked = false; !locked;) {
        try {
          await client.query(`BEGIN; LOCK TABLE ${TABLES[part]} IN EXCLUSIVE MODE`)
          locked = true
        } catch (error) {
          // The tables are locked one after another; a transaction that has the later ones first makes a deadlock, and the server chooses who gives in.
          if ((error as { code?: string }).code !== '40P01') throw error
          await client.query('ROLLBACK')
        }
      }
      return {
        async release () {
          clients.delete(client)
          await client.end()
        },
        met: () => until(async () => (await look('SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())')).length > 0, 'somebody to wait for the lock')
      }
    },
    async leftovers () {
      // The server takes a moment to notice that a connection was closed.
      let names: string[] = []
      await until(async () => {
        names = (await look<{ name: string }>('SELECT application_name AS name FROM pg_stat_activity WHERE datname = current_database() AND application_name <> \'somebody else\' AND backend_type = \'client backend\'')).map(({ name }) => name)
        return names.length === 0
      }, 'the connections to be closed', 5000).catch(() => {})
      return names
    },
    async contains (what) {
      // Bytes are shown in hex.
      const text = typeof what === 'string' ? what : what.toString('hex')
      for (const { tablename } of await look<{ tablename: string }>('SELECT tablename FROM pg_tables WHERE schemaname = \'public\'')) {
        if ((await look(`SELECT FROM ${tablename} AS row WHERE strpos(row::text, $1) > 0`, [text])).length > 0) return true
      }
      return false
    }
  }
}

const INT8 = 20

/** Whole numbers come as numbers, as from SQLite. */
function getTypeParser (type: number, format?: 'text' | 'binary') {
  return type === INT8 ? Number : pg.types.getTypeParser(type, format)
}
