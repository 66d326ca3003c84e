/** What the tests of conformance start: an app with the whole suite, its clock, log and database; programs beside it; and cookies as a browser reads them. */
import type { Test } from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { doorman, sessions, type DoormanOptions, type SessionEvent, type SessionsPluginOptions } from '../../index.js'
import { SESSION_EVENTS } from '../../lib/session-events.js'
import type { Storage } from '../../storage/storage.js'
import { newDatabase, type TestDatabase } from '../engine.js'

export const START = Date.UTC(2026, 10, 23, 12)
export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
/** A request that a proxy took by HTTPS; injected requests come from 127.0.0.1, which the apps here trust. */
export const HTTPS = { 'x-forwarded-proto': 'https' }
export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

export interface StartOptions extends DoormanOptions {
  server?: FastifyServerOptions
  /** Another app's database. */
  on?: TestDatabase
  routes? (app: FastifyInstance): unknown
}

/** An app that the test closes. The cleanup has no schedule unless the test gives it one. */
export async function startApp (t: Test, { server = {}, on, routes, database = {}, ...parts }: StartOptions = {}) {
  const db = on ?? await newDatabase(t)
  const time = { now: START }
  const lines: string[] = []
  const app = Fastify({ trustProxy: '127.0.0.1', logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } }, ...server }) as unknown as FastifyInstance
  // Injected requests have no sockets that keep the process alive while something is waited for; a server has.
  const alive = setInterval(() => {}, 1000)
  t.teardown(async () => {
    await app.close().catch(() => {})
    clearInterval(alive)
  })
  await app.register(doorman, { cleanup: { enabled: false }, ...parts, database: { url: db.url, clock: () => time.now, ...database } })
  if (parts.sessions !== false) {
    app.get('/', async request => ({ userId: request.session?.userId ?? null, refusal: request.sessionRefusal }))
    app.get('/private', { config: { session: 'required' } }, async request => ({ userId: request.session?.userId }))
    app.post<{ Querystring: { user?: string } }>('/login', async (request, reply) => {
      const client = { ip: request.clientAddress, userAgent: request.headers['user-agent'] }
      const { token, session } = await app.sessions.create({ userId: request.query.user ?? 'ada', ...client })
      app.setSessionCookie(reply, token, session)
      return { token, id: session.id }
    })
  }
  await routes?.(app)
  await app.ready()

  const get = (url: string, headers: Record<string, string> = {}, remoteAddress = '127.0.0.1') => app.inject({ url, headers, remoteAddress })
  return {
    app,
    db,
    time,
    lines,
    get,
    /** What the session of a token is refused for on a route that asks for none; null: it is valid. */
    refusal: async (token: string) => (await get('/', bearer(token))).json<{ refusal: string | null }>().refusal,
    async login (headers: Record<string, string> = {}, user = 'ada') {
      const reply = await app.inject({ method: 'POST', url: `/login?user=${user}`, headers })
      return { ...reply.json<{ token: string, id: string }>(), reply, cookie: String(reply.headers['set-cookie']).split(';')[0]! }
    },
    /** Rows of a table now, as somebody else counts them. */
    count: async (table: string, part: 'main' | 'log' = 'main') => Number((await db.look<{ n: number }>(`SELECT count(*) AS n FROM ${table}`, part))[0]!.n)
  }
}

/** Registers sessions with these options on no database at all: for those that stop the start before one is asked anything. */
export async function registerSessions (options: SessionsPluginOptions): Promise<void> {
  const app = Fastify()
  await app.register(fp(async fastify => { fastify.decorate('database', {} as typeof fastify.database) }, { name: 'doorman-database' }))
  await app.register(sessions, options)
}

/** Every event of sessions from now on. */
export function eventsOf (app: FastifyInstance): SessionEvent[] {
  const events: SessionEvent[] = []
  for (const name of SESSION_EVENTS) app.sessions.on(name, event => { events.push(event) })
  return events
}

/** Counts the calls of every operation of a storage: all that is ever asked of the database goes through one of them. */
export function countCalls (storage: Storage): Record<string, number> {
  const calls: Record<string, number> = {}
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(storage) as object))) {
    if (typeof value !== 'function' || name === 'constructor') continue
    Object.assign(storage, {
      [name]: (...given: unknown[]) => {
        calls[name] = (calls[name] ?? 0) + 1
        return value.apply(storage, given) as unknown
      }
    })
  }
  return calls
}

/** A cookie as a reply sets it: names of attributes in lower case, without a value where they have none. */
export function readCookie (header: unknown) {
  const [pair, ...rest] = String(header).split('; ')
  const [name, value] = [pair!.slice(0, pair!.indexOf('=')), pair!.slice(pair!.indexOf('=') + 1)]
  return { name, value, attributes: Object.fromEntries(rest.map(part => part.toLowerCase().split('=') as [string, string?])) }
}

/** The library as a program imports it. */
export const LIBRARY = JSON.stringify(new URL('../../index.js', import.meta.url).href)

/** Runs a program in a process of its own; `line` resolves to what it says next on standard output. */
export function runProgram (t: Test, source: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['ignore', 'pipe', 'inherit'] })
  child.stdout.setEncoding('utf8')
  const ended = once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    ended,
    async line (): Promise<string> {
      let text = ''
      while (!text.endsWith('\n')) text += String(await Promise.race([once(child.stdout, 'data').then(([data]) => data as string), ended.then(() => { throw new Error(`ended after "${text}"`) })]))
      return text.trimEnd()
    }
  }
}
