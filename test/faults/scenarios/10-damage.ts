/**
 * 10. Damaged, missing and unsuitable files, found at the start of the standalone server and while it runs: it stops, or refuses what it
 * cannot do, with a code and a message that names the file and says what to do; and it overwrites nothing.
 */
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import Database from 'better-sqlite3'
import { changed, contentOf, copyOf, handOver, leavesOf, openSessions, ORDINARY_USER, ordinaryUserCanRun, overwrite, place, seedDatabase, tryStart, type Place, type Seeded } from '../kit/damage.js'
import { holds, integrity, none, sized, startStandalone, until, type Context, type Scenario } from '../kit/index.js'

const PAGE = 4096
const junk = (bytes: number) => Buffer.alloc(bytes, 'this is no database. ')

interface Refusal {
  what: string
  /** Which database it is made of: stopped in order, or killed, with its WAL. */
  of: 'stopped' | 'killed'
  damage (place: Place): unknown
  code: string
  /** What to do, in the message's words. */
  action: RegExp
  /** Whose name the message has to have. */
  names?: (place: Place) => string
  /** Started as somebody without special rights. */
  ordinaryUser?: boolean
  /** Much like another one: left out of the short form. */
  fullOnly?: boolean
}

const refusals: readonly Refusal[] = [
  { what: 'a file that is no database', of: 'stopped', damage: ({ main }) => { writeFileSync(main, junk(PAGE * 4)) }, code: 'DOORMAN_NOT_A_DATABASE', action: /move it away, or restore a backup/ },
  { what: 'a log that is no database', of: 'stopped', damage: ({ log }) => { writeFileSync(log, junk(PAGE * 4)) }, code: 'DOORMAN_NOT_A_DATABASE', action: /move it away, or restore a backup/, names: ({ log }) => log, fullOnly: true },
  { what: 'a damaged first page', of: 'stopped', damage: ({ main }) => { overwrite(main, 100, junk(PAGE - 100)) }, code: 'DOORMAN_STORAGE_CORRUPT', action: /doorman doctor.*restore a backup/ },
  { what: 'a truncated file', of: 'stopped', damage: ({ main }) => { truncateSync(main, PAGE * 3) }, code: 'DOORMAN_STORAGE_CORRUPT', action: /doorman doctor.*restore a backup/, fullOnly: true },
  { what: 'a newer schema', of: 'stopped', damage: ({ main }) => { newerSchema(main, false) }, code: 'DOORMAN_SCHEMA_NEWER', action: /install a newer fastify-doorman/, fullOnly: true },
  { what: 'a truncated file, beside a WAL', of: 'killed', damage: ({ main }) => { truncateSync(main, PAGE * 3) }, code: 'DOORMAN_STORAGE_CORRUPT', action: /doorman doctor.*restore a backup/ },
  { what: 'a newer schema, in a WAL', of: 'killed', damage: ({ main }) => { newerSchema(main, true) }, code: 'DOORMAN_SCHEMA_NEWER', action: /install a newer fastify-doorman/ },
  { what: 'a directory in place of the file', of: 'stopped', damage: ({ main }) => { rmSync(main); return mkdir(main) }, code: 'DOORMAN_DATABASE_UNOPENABLE', action: /it is a directory; name a file/ },
  { what: 'a WAL deleted while stopped', of: 'killed', damage: ({ main }) => { rmSync(`${main}-wal`) }, code: 'DOORMAN_DATABASE_UNOPENABLE', action: /Put the -wal back/ },
  { what: 'a file deleted, its WAL still there', of: 'killed', damage: ({ main }) => { rmSync(main) }, code: 'DOORMAN_DATABASE_UNOPENABLE', action: /Put the file back/, fullOnly: true },
  { what: 'a read-only file', of: 'stopped', damage () {}, code: 'DOORMAN_DATABASE_UNOPENABLE', action: /must be allowed to read and write it/, ordinaryUser: true },
  { what: 'a read-only directory', of: 'stopped', damage () {}, code: 'DOORMAN_DIRECTORY_UNWRITABLE', action: /give this process write permission/, names: ({ dir }) => dir, ordinaryUser: true, fullOnly: true }
]

export const damage: Scenario = {
  number: 10,
  title: 'Damaged, missing and unsuitable files',
  async run (context) {
    const sessions = sized(context, 1000, 200)
    const stopped = await seedDatabase(context, place(context, 'stopped'), 'SIGTERM', sessions)
    const killed = await seedDatabase(context, copyOf(context, stopped, 'killed'), 'SIGKILL', 50)
    context.note('at the start')
    // Several at a time: mostly they load the program.
    const waiting = refusals.filter(({ fullOnly }) => context.full || fullOnly !== true)
    const work = async () => { for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await refusedStart(context, next, next.of === 'killed' ? killed : stopped) }
    await Promise.all([work(), work(), work()])
    await withoutWal(context, killed)
    context.note('while it runs')
    await Promise.all([pagesWhileRunning(context, stopped), walDeletedWhileRunning(context, stopped)])
    context.note('network file systems: no such mount here; the check of the file system\'s type is in test/storage/sqlite/guards.test.ts')
  }
}

async function refusedStart (context: Context, { what, damage, code, action, names = ({ main }) => main, ordinaryUser = false }: Refusal, of: Seeded): Promise<void> {
  const where = copyOf(context, of, what.replaceAll(/\W+/g, '-'))
  await damage(where)
  if (ordinaryUser) {
    handOver(context, where, { directory: 0o700, files: 0o600 })
    if (!ordinaryUserCanRun(where)) {
      context.note(`${what}: SKIPPED, an ordinary user can read neither the program nor the folder here`)
      return
    }
  }
  if (ordinaryUser) handOver(context, where, what.includes('directory') ? { directory: 0o500, files: 0o600 } : { directory: 0o700, files: 0o400 })
  const before = contentOf(where.dir)
  const start = await tryStart(context, where, ordinaryUser ? ORDINARY_USER : undefined)
  const said = start.output.split('\n')
  const right = start.code !== null && start.code > 0 && said.length === 1 && start.output.includes(`${code}: `) && start.output.includes(names(where)) && action.test(start.output)
  context.note(start.output.replaceAll(context.dir, '...'))
  holds(context, `${what}: refuses to start, with a code, the file's name and what to do`, right, `exit code ${start.code}, ${/DOORMAN_\w+/.exec(start.output)?.[0]}`, `not 0, ${code}`)
  const touched = changed(before, contentOf(where.dir))
  holds(context, `${what}: files that are not as they were`, touched === '', touched || 'none', 'none')
}

/** Without its WAL, and without the index that would tell, a file is what was copied back last: older, but sound. */
async function withoutWal (context: Context, of: Seeded): Promise<void> {
  const where = copyOf(context, of, 'wal-deleted')
  const wal = statSync(`${where.main}-wal`).size
  for (const file of [where.main, where.log]) for (const suffix of ['-wal', '-shm']) rmSync(file + suffix)
  const server = await startStandalone(context, { DATABASE_URL: where.url, LOG_LEVEL: 'warn' })
  const [token] = await openSessions(server, 1)
  const answer = await getSession(server.address, token!)
  server.process.kill('SIGTERM')
  const { code } = await server.ended
  holds(context, 'a WAL deleted while stopped, with its index: what was copied back before is sound, and in use', answer.status === 200 && code === 0 && integrity(where.main) === 'ok' && integrity(where.log) === 'ok',
    `${(wal / 1024).toFixed(0)} kB gone, ${answer.status}, exit code ${code}, integrity ${integrity(where.main)}`, '200, exit code 0, integrity ok')
}

/** Another program writes nonsense into the file of the sessions. */
async function pagesWhileRunning (context: Context, of: Seeded): Promise<void> {
  const where = copyOf(context, of, 'pages')
  const leaves = leavesOf(where.main, 'sessions')
  const server = await startStandalone(context, { DATABASE_URL: where.url, LOG_LEVEL: 'warn' })
  for (const { position, size } of leaves) overwrite(where.main, position, junk(size))
  const damaged = () => leaves.filter(({ position, size }) => readFileSync(where.main).subarray(position, position + size).equals(junk(size))).length
  const count = damaged()
  const answers = await Promise.all(of.tokens.slice(0, 100).map(token => getSession(server.address, token)))
  const refused = answers.filter(({ status, code, retryAfter }) => status === 503 && code === 'DOORMAN_SESSION_UNAVAILABLE' && retryAfter !== null)
  none(context, 'damaged pages, running: session checks that were not refused with 503 and a code', answers.length - refused.length, answers.length)
  const login = await server.post('/sessions', { userId: 'alice' })
  holds(context, 'damaged pages, running: a login is refused', login?.status === 503 && login.body['code'] === 'DOORMAN_STORAGE_CORRUPT', `${login?.status} ${login?.body['code']}`, '503 DOORMAN_STORAGE_CORRUPT')
  const logged = server.log.map(line => JSON.stringify(line)).filter(line => line.includes('DOORMAN_STORAGE_CORRUPT'))
  holds(context, 'damaged pages, running: the log says what to do', logged.some(line => /doorman doctor.*restore a backup/.test(line)))
  const ready = await fetch(`${server.address}/health/ready`)
  const open = await fetch(`${server.address}/health/live`)
  holds(context, 'damaged pages, running: it is not ready, and answers what needs no session', ready.status === 503 && open.status === 200, `${ready.status}, ${open.status}`, '503, 200')
  server.process.kill('SIGTERM')
  await server.ended
  holds(context, 'damaged pages, running: pages overwritten', count > 0 && damaged() === count, `${count - damaged()} of ${count}`, '0')
}

/** Whatever is written then goes into files that no path leads to any more. */
async function walDeletedWhileRunning (context: Context, of: Seeded): Promise<void> {
  const where = copyOf(context, of, 'wal-running')
  const server = await startStandalone(context, { DATABASE_URL: where.url, LOG_LEVEL: 'warn' })
  const [before] = await openSessions(server, 1)
  rmSync(`${where.main}-wal`)
  const file = contentOf(where.dir).split('\n').find(line => line.startsWith('doorman.db '))
  const login = await server.post('/sessions', { userId: 'bob' })
  holds(context, 'a WAL deleted while running: a login is not acknowledged', before !== undefined && login?.status !== 201, `${login?.status ?? 'no answer'} ${login?.body['code'] ?? ''}`, 'not 201')
  const ended = await Promise.race([server.ended, until(() => false, 15_000).then(() => null)])
  holds(context, 'a WAL deleted while running: the process ends, with a code, the file\'s name and what to do',
    ended !== null && ended.code !== null && ended.code > 0 && server.stderr.includes('DOORMAN_STORAGE_REPLACED') && server.stderr.includes(`${where.main}-wal`) && /restore a backup/.test(server.stderr),
    `exit code ${ended?.code}, ${/DOORMAN_\w+/.exec(server.stderr)?.[0]}`, 'not 0, DOORMAN_STORAGE_REPLACED')
  const after = contentOf(where.dir).split('\n').find(line => line.startsWith('doorman.db '))
  holds(context, 'a WAL deleted while running: the file it belongs to', after === file, after === file ? 'unchanged' : 'changed', 'unchanged')
}

async function getSession (address: string, token: string) {
  const response = await fetch(`${address}/session`, { headers: { authorization: `Bearer ${token}` } })
  return { status: response.status, code: (await response.json() as { code?: string }).code, retryAfter: response.headers.get('retry-after') }
}

/** The next release's file, as far as this one can tell; with the change still in the WAL, as a process leaves it that was killed. */
function newerSchema (file: string, inWal: boolean): void {
  const db = new Database(file)
  db.exec('INSERT INTO doorman_schema (version, name, applied_at) SELECT max(version) + 1, \'of a later release\', 0 FROM doorman_schema')
  const left = [file, `${file}-wal`].map(path => [path, readFileSync(path)] as const)
  db.close()
  if (inWal) for (const [path, bytes] of left) writeFileSync(path, bytes)
}
