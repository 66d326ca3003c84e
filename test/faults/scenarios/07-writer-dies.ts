/**
 * 7. The writer thread dies under load, with logins and log rows waiting in it: an error nobody catches, its own exit, killed, out of memory.
 * What waited settles with a code, another thread goes on, nothing acknowledged is lost. When it keeps dying, the process ends, and says why.
 */
import {
  compareRows, compareSessions, files, holds, integrity, Ledger, logIn, look, none, PRELOAD_ENV, SABOTAGED, sized, sleep, startLoad, startOutsider, startService, startStandalone, strike, until, withoutRow,
  type Context, type Entry, type LogLine, type Scenario, type Service, type Standalone
} from '../kit/index.js'

/** Fewer than it takes to be given up. */
const DEATHS: readonly ('throw' | 'terminate' | 'exhaust' | 'exit')[] = ['throw', 'terminate', 'exhaust', 'exit']
const GIVEN_UP_AFTER = 5
/** ms. */
const LONGEST_END = 15_000
/** ms. */
const LONGEST_RESTART = 15_000
const CODE = 'DOORMAN_WRITER_DIED'

export const writerDies: Scenario = {
  number: 7,
  title: 'The writer thread dies',
  async run (context) {
    // Side by side: each has a process and files of its own, and nothing here is a matter of speed.
    await Promise.all([recovers(context), givenUp(context), serverGivenUp(context)])
  }
}

async function recovers (context: Context): Promise<void> {
  const paths = files(context, 'recovers')
  const service = await startService(context, { doorman: { database: { url: paths.url } } }, SABOTAGED)
  const outsider = startOutsider(context)
  const ledger = new Ledger()
  await logIn(service.address, ledger, 30)
  const load = startLoad({ targets: [service.address], ledger, rate: sized(context, 300, 150) })
  context.defer(() => { load.abort() })
  const deaths = sized(context, DEATHS, DEATHS.slice(0, 3))
  for (const [i, death] of deaths.entries()) {
    await sleep(sized(context, 3000, 300))
    context.note(`${death}: with the files locked, so that there is something in the thread`)
    await outsider.lock(paths.main, paths.log)
    const from = performance.now()
    await sleep(300)
    await strike(service.process, { do: death })
    const restarted = await until(() => restarts(service, i + 1), 10_000)
    const to = performance.now()
    await outsider.release()
    holds(context, `${death}: another writer thread is there`, restarted, restarted ? `after ${((to - from - 300) / 1000).toFixed(1)} s` : 'no')
    // Whoever came before the death, or while nobody had noticed it: sent to a thread that was dying.
    const waited = ledger.between(from, to).filter(isWrite)
    const settled = await until(() => waited.every(({ latency }) => !Number.isNaN(latency)), 5000)
    const died = waited.filter(({ code }) => code === CODE)
    holds(context, `${death}: logins and logouts that waited in it end with 503 ${CODE} and Retry-After`, died.length > 0 && waited.every(entry => entry.status < 300 || isRefusal(entry)),
      `${died.length} of ${waited.length}`, 'at least 1; the others succeed')
    holds(context, `${death}: health is ok again`, await until(async () => (await service.health()).status === 'ok', 10_000))
    if (!restarted || !settled) return // the rest would wait for ever
  }
  await sleep(300)
  await load.stop()
  await service.flush()
  await service.close()
  const reads = ledger.entries.filter(({ kind }) => kind === 'me' || kind === 'anonymous')
  none(context, 'deaths: GETs that failed', reads.filter(({ status }) => status !== 200).length, reads.length)
  none(context, 'deaths: requests that were never answered', ledger.entries.length - ledger.answered.length, ledger.entries.length)
  const rows = compareRows(paths.log, ledger)
  none(context, 'deaths: IP rows missing', rows.missing, ledger.answered.length)
  none(context, 'deaths: IP rows doubled', rows.doubled, rows.rows)
  const sessions = compareSessions(paths.main, ledger)
  none(context, 'deaths: acknowledged sessions lost, or ended ones alive', sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)
  const lines = service.log.filter(isDeath)
  holds(context, 'deaths: each is in the log', lines.length === deaths.length, `${lines.length}`, `${deaths.length}`)
}

/** A host that says nothing of what is to happen: its process ends. Every reply promises that its row is stored. */
async function givenUp (context: Context): Promise<void> {
  const paths = files(context, 'given-up')
  const service = await startService(context, { doorman: { database: { url: paths.url }, ipTracking: { durability: 'committed' } } }, SABOTAGED)
  const ledger = new Ledger()
  await logIn(service.address, ledger, 30)
  const load = startLoad({ targets: [service.address], ledger, rate: sized(context, 200, 100) })
  context.defer(() => { load.abort() })
  const deaths = await killUntilOver(service, n => restarts(service, n))
  load.abort()
  await until(() => load.open === 0)
  if (deaths > GIVEN_UP_AFTER) service.process.kill('SIGKILL')
  const { code, signal } = await service.ended
  holds(context, 'a host whose writer keeps dying: deaths within a minute until its process ends', deaths === GIVEN_UP_AFTER, deaths > GIVEN_UP_AFTER ? 'it goes on' : `${deaths}`, `${GIVEN_UP_AFTER}`)
  holds(context, 'a host whose writer keeps dying: exit code', code !== null && code > 0, `${code ?? signal}`, 'not 0')
  holds(context, `a host whose writer keeps dying: ${CODE} is on standard error, and a fatal line in its log`, service.stderr.includes(CODE) && isFatal(service))
  none(context, 'a host whose writer kept dying: answered 2xx, and without a row', withoutRow(paths.log, ledger.answered.filter(({ status }) => status < 300)).length, ledger.answered.length)
  none(context, 'a host whose writer kept dying: IP rows doubled', compareRows(paths.log, ledger).doubled, ledger.answered.length)
  const sessions = compareSessions(paths.main, ledger)
  none(context, 'a host whose writer kept dying: acknowledged sessions lost, or ended ones alive', sessions.lost + sessions.undead, ledger.live.length + ledger.ended.length)
  holds(context, 'a host whose writer kept dying: integrity', integrity(paths.main) === 'ok' && integrity(paths.log) === 'ok')
}

async function serverGivenUp (context: Context): Promise<void> {
  const paths = files(context, 'server')
  const server = await startStandalone(context, { DATABASE_URL: paths.url, NODE_OPTIONS: PRELOAD_ENV })
  const stored = async () => (await server.post('/sessions', { userId: 'somebody' }))?.status === 201
  let acknowledged = Number(await stored())
  const deaths = await killUntilOver(server, async n => {
    // A write alone proves nothing: the thread may answer it between being told to die and dying.
    if (server.log.filter(isDeath).length < n) return false
    const ok = await stored()
    acknowledged += Number(ok)
    return ok
  })
  if (deaths > GIVEN_UP_AFTER) server.process.kill('SIGKILL')
  const { code, signal } = await server.ended
  holds(context, 'the server, whose writer keeps dying: deaths until it ends', deaths === GIVEN_UP_AFTER, deaths > GIVEN_UP_AFTER ? 'it goes on' : `${deaths}`, `${GIVEN_UP_AFTER}`)
  holds(context, 'the server, whose writer keeps dying: exit code', code === 1, `${code ?? signal}`, '1')
  const said = server.stderr.split('\n').find(line => line.includes(CODE)) ?? ''
  holds(context, `the server, whose writer keeps dying: a line on standard error names ${CODE}, and a fatal line in its log`, said !== '' && isFatal(server), said === '' ? 'no' : said)
  const [count] = look<{ n: number }>(paths.main, 'SELECT count(*) AS n FROM sessions') as [{ n: number }]
  none(context, 'the server, whose writer kept dying: acknowledged sessions lost', Math.max(0, acknowledged - count.n), acknowledged)
}

/**
 * Ends the writer thread again as soon as there is another, until the process is over.
 * @param back whether the n-th new thread is at work
 * @returns how many deaths that took; one more than it should take when it goes on
 */
async function killUntilOver ({ process: child, ended }: Service | Standalone, back: (n: number) => Promise<boolean>): Promise<number> {
  let over = false
  const end = ended.then(() => { over = true })
  for (let deaths = 1; deaths <= GIVEN_UP_AFTER; deaths++) {
    // The last one may take the answer with it.
    await strike(child, { do: 'throw' }).catch(() => {})
    // Ending in order takes a little longer than starting another thread.
    await Promise.race([end, deaths === GIVEN_UP_AFTER ? sleep(LONGEST_END) : until(async () => over || await back(deaths), LONGEST_RESTART)])
    if (over) return deaths
  }
  return GIVEN_UP_AFTER + 1
}

/** Whether the writer was started anew so many times, and answers. */
async function restarts (service: Service, times: number): Promise<boolean> {
  try {
    const stats = await Promise.race([service.stats(), sleep(1000)])
    return stats !== undefined && stats.storage.writer.restarts >= times
  } catch {
    return false
  }
}

const isWrite = ({ kind }: Entry) => kind === 'login' || kind === 'logout'
const isRefusal = ({ status, code, retryAfter }: Entry) => status === 503 && code === CODE && retryAfter !== undefined
const isDeath = ({ msg }: LogLine) => msg.startsWith('the writer thread ended unexpectedly')
const isFatal = ({ log }: Service | Standalone) => log.some(({ level }) => level === 60)
