/** Databases to be damaged, and what the standalone server says when it is started on one. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, closeSync, copyFileSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startProgram } from './child.js'
import { look } from './ledger.js'
import type { Context } from './scenario.js'
import { startStandalone, type Standalone } from './standalone.js'

export interface Place { dir: string, main: string, log: string, url: string }

export interface Seeded { tokens: string[], place: Place }

export function place (context: Context, name: string): Place {
  const dir = join(context.dir, name)
  mkdirSync(dir, { recursive: true })
  return { dir, main: join(dir, 'doorman.db'), log: join(dir, 'doorman-log.db'), url: `file:${join(dir, 'doorman.db')}` }
}

/** Opens sessions, several at a time. */
export async function openSessions (server: Standalone, count: number): Promise<string[]> {
  const tokens: string[] = []
  for (let left = count; left > 0; left -= 20) {
    const answers = await Promise.all(Array.from({ length: Math.min(20, left) }, (_, i) => server.post('/sessions', { userId: `user-${left - i}`, data: { note: 'x'.repeat(500) } })))
    tokens.push(...answers.map(answer => answer!.body['token'] as string))
  }
  return tokens
}

/** A sound database, written by the server; stopped in order, or killed, which leaves the WAL. */
export async function seedDatabase (context: Context, where: Place, signal: 'SIGTERM' | 'SIGKILL', sessions: number): Promise<Seeded> {
  const server = await startStandalone(context, { DATABASE_URL: where.url, LOG_LEVEL: 'warn' })
  const tokens = await openSessions(server, sessions)
  server.process.kill(signal)
  await server.ended
  return { tokens, place: where }
}

/** A copy to be damaged. */
export function copyOf (context: Context, { place: from }: Seeded, name: string): Place {
  const to = place(context, name)
  for (const file of readdirSync(from.dir)) copyFileSync(join(from.dir, file), join(to.dir, file))
  return to
}

/** Overwrites bytes within a file, in place. */
export function overwrite (file: string, position: number, bytes: Uint8Array): void {
  const fd = openSync(file, 'r+')
  writeSync(fd, bytes, 0, bytes.length, position)
  closeSync(fd)
}

/** Positions of the pages that hold a table's rows. */
export function leavesOf (file: string, table: string): { position: number, size: number }[] {
  return look<{ position: number, size: number }>(file, `SELECT pgoffset AS position, pgsize AS size FROM dbstat WHERE name = '${table}' AND pagetype = 'leaf'`)
}

/** What is in a folder: names, and for files a hash of their bytes. The index of a WAL is left out: it holds no data. */
export function contentOf (dir: string): string {
  return readdirSync(dir).filter(name => !name.endsWith('-shm')).sort().map(name => {
    const path = join(dir, name)
    return `${name} ${statSync(path).isDirectory() ? 'directory' : createHash('sha256').update(readFileSync(path)).digest('hex')}`
  }).join('\n')
}

/** The names whose content is not what it was. */
export function changed (before: string, after: string): string {
  const lines = (text: string) => new Set(text.split('\n'))
  const [a, b] = [lines(before), lines(after)]
  const names = [...a, ...b].filter(line => !(a.has(line) && b.has(line))).map(line => line.split(' ', 1)[0]!)
  return [...new Set(names)].join(', ')
}

const SERVER = fileURLToPath(new URL('../../../server.js', import.meta.url))

export interface Start {
  /** Exit code; null when it did start, and was killed. */
  code: number | null
  output: string
}

/** Starts the server where it ought to refuse, as another user where one is given. */
export async function tryStart (context: Context, { url }: Place, uid?: number): Promise<Start> {
  const env = { DATABASE_URL: url, API_KEYS: 'k'.repeat(40), HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'warn', BUSY_TIMEOUT: '1s' }
  const child = startProgram(context, '../../../server', [], { env, cwd: context.dir, ...uid === undefined ? {} : { uid } })
  let output = ''
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (output.includes('listens on')) child.kill('SIGKILL')
    })
  }
  const [code] = await once(child, 'close') as [number | null]
  return { code, output: output.trim() }
}

/** Somebody without special rights: for root no file is read-only. Undefined where this process is nobody special itself. */
export const ORDINARY_USER = process.getuid?.() === 0 ? 65534 : undefined

/** Gives a place to the ordinary user, with these rights on what is in it. */
export function handOver (context: Context, { dir }: Place, rights: { directory: number, files: number }): void {
  chmodSync(context.dir, 0o711)
  for (const path of [...readdirSync(dir).map(name => join(dir, name)), dir]) {
    if (ORDINARY_USER !== undefined) chownSync(path, ORDINARY_USER, ORDINARY_USER)
    chmodSync(path, path === dir ? rights.directory : rights.files)
  }
}

/** False where the program or the folder is out of the ordinary user's reach, such as below root's home. */
export function ordinaryUserCanRun ({ dir }: Place): boolean {
  if (ORDINARY_USER === undefined) return true
  const look = `for (const path of ${JSON.stringify([SERVER, 'node_modules/better-sqlite3/package.json', dir])}) require('node:fs').accessSync(path, 4)`
  return spawnSync(process.execPath, ['-e', look], { uid: ORDINARY_USER, gid: ORDINARY_USER }).status === 0
}
