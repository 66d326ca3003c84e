/**
 * The service under test, run as a process of its own: a Fastify host with the whole suite, on real files and a real socket.
 * Its first argument is a ServiceConfig as JSON; questions come as messages of its parent.
 *
 *   GET  /anonymous/:id   nobody's
 *   GET  /me/:id          needs a session
 *   POST /login/:id       a new session for the user of that name, with its token
 *   POST /logout/:id      needs a session, and ends it
 *
 * `id` is the client's number for the request: the log keeps the path, so each row can be matched with what the client saw.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import Fastify from 'fastify'
import { doorman, type DoormanOptions } from '../../../index.js'
import type { PageParams } from '../../../storage/storage.js'

export interface ServiceConfig {
  /** Options of the suite; `database.url` is needed. What is not JSON (clock, onFatal) is not to be had this way. */
  doorman: DoormanOptions
}

/** Questions a parent may ask, by name, each with at most one argument. */
export type Question = 'stats' | 'health' | 'flush' | 'delay' | 'cleanup' | 'close' | 'dryRun' | 'memory' | 'shiftClock' | 'ipLogs' | 'saturate'

/** Ids of the sessions that were created, and messages of what failed. */
export interface Saturation { ids: string[], failed: string[] }

const { doorman: options } = JSON.parse(process.argv[2]!) as ServiceConfig

// A file that may not grow shall be an error of the write, which it is unless this signal is left to its default.
process.on('SIGXFSZ', () => {})

const app = Fastify({ logger: { level: 'info' }, disableRequestLogging: true })
// Ended sessions that are tried again by the hundred are what signals of abuse are for.
await app.register(doorman, { cleanup: { enabled: false }, abuse: false, ...options })

app.get('/anonymous/:id', () => ({ hello: 'world' }))
app.get('/me/:id', { config: { session: 'required' } }, request => ({ userId: request.session!.userId }))
app.post<{ Params: { id: string } }>('/login/:id', async (request, reply) => {
  const { token, session } = await app.sessions.create({ userId: `user-${request.params.id}` })
  reply.code(201)
  return { token, sessionId: session.id }
})
app.post('/logout/:id', { config: { session: 'required' } }, async (request, reply) => {
  await app.sessions.remove(request.session!.id)
  reply.code(204)
})

const RESOLUTION_MS = 10
let delay = startDelay()
function startDelay () {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  histogram.enable()
  return histogram
}

const answers: Record<Question, (argument: never) => unknown> = {
  stats: () => app.database.stats(),
  health: () => app.database.health(),
  flush: () => app.database.flush(),
  cleanup: () => app.cleanup.run(),
  dryRun: () => app.cleanup.run({ dryRun: true }),
  memory: () => process.memoryUsage(),
  /** Creates sessions for so many ms, 32 at a time and without HTTP, so that transactions are long and the lock is seldom free. */
  async saturate (ms: number): Promise<Saturation> {
    const ids: string[] = []
    const failed: string[] = []
    const end = performance.now() + ms
    await Promise.all(Array.from({ length: 32 }, async () => {
      while (performance.now() < end) {
        await app.sessions.create({ userId: `crowd-${process.pid}-${ids.length}` }).then(
          ({ session }) => ids.push(session.id),
          (error: Error) => failed.push(error.message)
        )
      }
    }))
    return { ids, failed }
  },
  /** Sets the clock off by so many ms. Loaded when it is needed: elsewhere time is the machine's own. */
  async shiftClock (ms: number) {
    const { shiftClock } = await import('./clock.js')
    shiftClock(ms)
  },
  /** A page of the request log, newest first. */
  ipLogs: (page: PageParams) => app.ipTracking.list({}, page),
  /** Longest pause of the event loop, ms, since the last time this was asked. */
  delay () {
    delay.disable()
    const { max } = delay
    delay = startDelay()
    return Math.max(0, max / 1e6 - RESOLUTION_MS)
  },
  close: () => app.close()
}

process.on('message', ({ id, question, argument }: { id: number, question?: Question, argument?: unknown }) => {
  if (question === undefined) return // for somebody else in this process: thread-faults.ts
  Promise.resolve(argument as never).then(answers[question]).then(
    value => process.send!({ id, value: value === app ? null : value ?? null }),
    (error: Error & { code?: string }) => process.send!({ id, error: { message: error.message, code: error.code } })
  )
})

process.send!({ address: await app.listen({ port: 0, host: '127.0.0.1' }) })
