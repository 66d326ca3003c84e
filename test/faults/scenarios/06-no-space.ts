/**
 * 6. The files cannot grow (SQLite's own bound; a small file system where one can be made), or every write is an input/output error. Logins
 * get a clear 503, reads go on, rows stay queued up to the bound of the queue; past it each durability mode does what was promised of it. Once
 * there is space again, everything that is queued is stored, in its order.
 */
import { appendFileSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import { Agent } from 'node:http'
import {
  compareRows, compareSessions, files, holds, integrity, Ledger, limitFileSize, logIn, look, mountSmall, none, recorded, SABOTAGED, sized, sleep, startLoad, startService, strike, until, withoutRow,
  type Context, type Entry, type Scenario, type Service
} from '../kit/index.js'

type Durability = 'queued' | 'committed'

/** A way to make writing fail; null where this machine does not allow it. */
interface Fault {
  code: string
  /** Where the database has to be. */
  dir: string
  begin (service: ChildProcess): unknown
  end (service: ChildProcess): unknown
}

/** More logins than logouts, so that the file of the sessions needs to grow. */
const MIX = { me: 50, anonymous: 30, login: 17, logout: 3 }
/** ms. */
const QUEUE_WAIT = 200
const SMALL = 12 * 2 ** 20

const FAULTS: Record<string, (context: Context) => Fault | null> = {
  max_page_count: ({ dir }) => ({
    code: 'DOORMAN_STORAGE_FULL',
    dir,
    begin: service => strike(service, { do: 'limitPages', pages: 1 }),
    end: service => strike(service, { do: 'limitPages', pages: null })
  }),
  'full file system' (context) {
    const dir = join(context.dir, 'small')
    if (!mountSmall(context, dir, SMALL)) return null
    const ballast = join(dir, 'ballast')
    return { code: 'DOORMAN_STORAGE_FULL', dir, begin: () => { fill(ballast) }, end: () => { truncateSync(ballast) } }
  },
  'input/output error' ({ dir }) {
    // A limit on this very process, to see whether there is a way to set one.
    if (!limitFileSize(process.pid, null)) return null
    return { code: 'DOORMAN_STORAGE_IO', dir, begin: service => limitFileSize(service.pid!, 4096), end: service => limitFileSize(service.pid!, null) }
  }
}

export const noSpace: Scenario = {
  number: 6,
  title: 'No space, input/output errors',
  async run (context) {
    // Side by side: each has a service and files of its own, and nothing here is a matter of speed.
    const groups = sized<[string, Durability][][]>(context,
      [[['max_page_count', 'queued'], ['full file system', 'queued'], ['input/output error', 'queued']], [['max_page_count', 'committed'], ['input/output error', 'committed']]],
      [[['max_page_count', 'queued'], ['input/output error', 'committed']]])
    for (const group of groups) {
      await Promise.all(group.map(async ([kind, durability]) => {
        const name = `${kind}, ${durability}`
        const fault = FAULTS[kind]!(context)
        if (fault === null) holds(context, name, true, 'NOT TESTED: this machine does not allow it', 'where it can be made')
        else await unwritable(context, name, durability, fault)
      }))
    }
  }
}

async function unwritable (context: Context, name: string, durability: Durability, fault: Fault): Promise<void> {
  const paths = files({ ...context, dir: fault.dir }, name.replaceAll(/\W/g, '-'))
  const queueLimit = sized(context, 200, 150)
  // Without session events every row of the queue is a request, so what was dropped can be checked against the ledger.
  const service = await startService(context, {
    doorman: { database: { url: paths.url, queueLimit, queueWait: QUEUE_WAIT }, ipTracking: { durability }, activity: { sessionEvents: false } }
  }, SABOTAGED)
  const ledger = new Ledger()
  await logIn(service.address, ledger, 30)
  const load = startLoad({ targets: [service.address], ledger, rate: sized(context, 120, 200), mix: MIX })
  const probe = startProbe(service.address)
  context.defer(() => {
    load.abort()
    probe.abort()
  })
  await sleep(sized(context, 1000, 400))

  context.note(`${name}: begins`)
  const seen = new Set<string>()
  let most = 0
  let dropped = 0
  const watch = async () => {
    for (const reason of await reasons(service)) seen.add(reason.replaceAll(/\d+/g, 'n'))
    const { queued, inFlight, dropped: { 'queue-full': count = 0 } } = (await service.stats()).queues['log']!
    most = Math.max(most, queued + inFlight)
    dropped = count
  }
  await fault.begin(service.process)
  const failing = await until(async () => (await reasons(service)).length > 0, 15_000)
  const from = performance.now()
  const full = await until(async () => {
    await watch()
    return dropped > 0 && ledger.between(from, Infinity, 'login').some(({ status }) => status === 503)
  }, sized(context, 20_000, 10_000))
  context.note(`${name}: the queue is full`)
  const end = performance.now() + sized(context, 2000, 700)
  while (performance.now() < end) {
    await watch()
    await sleep(50)
  }
  const to = performance.now()
  const said = [...seen].join('; ')
  holds(context, `${name}: health says degraded, and why`, failing && said.includes('cannot be stored') && said.includes('dropped'), said, 'rows cannot be stored; the queue is full')
  holds(context, `${name}: rows held in memory`, full && most > queueLimit * 0.9 && most <= queueLimit, `at most ${most}`, `up to ${queueLimit}, and no more`)

  context.note(`${name}: ends`)
  await fault.end(service.process)
  holds(context, `${name}: health is ok again`, await until(async () => (await reasons(service)).length === 0))
  await load.stop()
  await probe.stop()
  await service.flush()
  await watch()
  const lines = service.log.filter(line => line.msg === 'log rows were dropped').length
  await service.close()

  const during = ledger.between(from, to)
  const writes = during.filter(({ kind }) => kind === 'login' || kind === 'logout')
  const refused = writes.filter(({ status }) => status >= 300)
  if (durability === 'queued') {
    const reads = during.filter(({ kind }) => kind === 'me' || kind === 'anonymous')
    holds(context, `${name}: GETs go on, with a session and without, also with the queue full`, reads.length > 0 && reads.every(({ status }) => status === 200), tally(reads), 'all 200')
    holds(context, `${name}: logins and logouts are refused with 503 ${fault.code} and Retry-After`, refused.length > 0 && refused.every(entry => isRefusal(entry, fault.code)), tally(writes), 'all refused ones, at least 1')
  } else {
    // Nothing could be stored until then, so whatever was answered otherwise promised what was not so.
    const answers = during.filter(({ at, latency }) => at + latency < to)
    const wrong = answers.filter(entry => !isRefusal(entry, 'DOORMAN_ROW_DELAYED', 'DOORMAN_ROW_NOT_STORED', fault.code))
    holds(context, `${name}: requests whose row cannot be stored get 503, a code and Retry-After`, wrong.length === 0 && answers.some(({ code }) => code === 'DOORMAN_ROW_NOT_STORED'), tally(answers), 'all, DOORMAN_ROW_NOT_STORED among them')
  }
  const everything = [...ledger.answered, ...probe.ledger.answered]
  const lost = withoutRow(paths.log, everything)
  holds(context, `${name}: requests without a row are those counted as dropped`, dropped > 0 && dropped === lost.length, `${lost.length} without a row, ${dropped} counted`, 'the same')
  holds(context, `${name}: log lines about it, within the minute`, lines === 1, `${lines}`, '1')
  if (durability === 'committed') none(context, `${name}: answered 2xx, and without a row`, lost.filter(({ status }) => status < 300).length, everything.length)
  none(context, `${name}: IP rows doubled`, compareRows(paths.log, ledger).doubled, everything.length)
  none(context, `${name}: rows stored out of the order in which they were sent`, outOfOrder(paths.log, probe.ledger.entries), probe.ledger.entries.length)
  const sessions = compareSessions(paths.main, ledger)
  none(context, `${name}: acknowledged sessions lost, or ended ones alive`, sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)
  holds(context, `${name}: integrity`, integrity(paths.main) === 'ok' && integrity(paths.log) === 'ok')
}

async function reasons (service: Service): Promise<readonly string[]> {
  const health = await service.health()
  return health.status === 'ok' ? [] : health.reasons
}

const isRefusal = ({ status, code, retryAfter }: Entry, ...codes: string[]) => status === 503 && code !== undefined && codes.includes(code) && retryAfter !== undefined

/** One request after the other, so that the order of their rows is known. */
function startProbe (target: string): { ledger: Ledger, stop (): Promise<void>, abort (): void } {
  const ledger = new Ledger()
  const agent = new Agent({ keepAlive: true })
  const state = { stopped: false }
  const run = async () => {
    for (let i = 0; !state.stopped; i++) {
      await recorded(agent, target, ledger, 'anonymous', `probe-${i}`)
      await sleep(10)
    }
    agent.destroy()
  }
  const done = run()
  return {
    ledger,
    async stop () {
      state.stopped = true
      await done
    },
    abort () { state.stopped = true }
  }
}

/** Texts are numbered as they are stored, and each of these paths is used once: their numbers tell in which order the rows were stored. */
function outOfOrder (logFile: string, sent: readonly Entry[]): number {
  const stored = look<{ path: string }>(logFile, 'SELECT text AS path FROM ip_log_rows JOIN texts ON texts.id = path_ref WHERE text LIKE \'/anonymous/probe-%\' ORDER BY texts.id').map(({ path }) => path)
  const byTime = look<{ path: string }>(logFile, 'SELECT path FROM ip_logs WHERE path LIKE \'/anonymous/probe-%\' ORDER BY id').map(({ path }) => path)
  const expected = sent.map(({ id }) => `/anonymous/${id}`).filter(path => stored.includes(path))
  return expected.filter((path, index) => path !== stored[index] || path !== byTime[index]).length
}

/** How they were answered, such as "503 DOORMAN_STORAGE_FULL × 12". */
function tally (entries: readonly Entry[]): string {
  const counts = new Map<string, number>()
  for (const { status, code } of entries) {
    const answer = code === undefined ? `${status}` : `${status} ${code}`
    counts.set(answer, (counts.get(answer) ?? 0) + 1)
  }
  return [...counts].map(([answer, count]) => `${answer} × ${count}`).join(', ')
}

/** Writes until nothing more can be written. */
function fill (path: string): void {
  rmSync(path, { force: true })
  try {
    for (;;) appendFileSync(path, Buffer.alloc(4096))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}
