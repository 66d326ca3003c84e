/** The whole of a run: starts the service, sends requests until the time is over, stops the service, looks into what it stored. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hostileCorpus } from '../faults/hostile.js'
import { makeRequest } from './build.js'
import { createChecks } from './checks.js'
import { operationsOf } from './openapi.js'
import { Random } from './random.js'
import { shellLine, type Request } from './request.js'
import { Secrets } from './secrets.js'
import { startService } from './server.js'
import { inspect } from './stored.js'
import { header, Lane, shoot, type Exchange, type Reply } from './wire.js'
import { World } from './world.js'

const KEY = 'fuzz-key-7Qm2vX9pLr4tZs8wNb3hKd6y'
/** Requests at a time. */
const WIDTH = 8
/** Longest wait for a reply, ms. */
const PATIENCE = 15_000
/** Longest that /health/live may take, ms: the event loop answers it by itself, and the machine may be busy. */
const LIVE = 5000
const LIVE_EVERY = 250
/** CLOSE_TIMEOUT, and what server.ts adds for the last steps, ms. */
const STOP = 12_000
/** Problems of a kind that are described one by one. */
const DESCRIBED = 3

export interface CampaignOptions {
  seed: number
  /** How long requests are sent, ms. */
  duration: number
  note (text: string): void
}

export interface Report {
  seed: number
  requests: number
  replies: number
  /** Replies by operation, and there by status. */
  counts: Map<string, Map<number, number>>
  /** Requests by what was odd about them. */
  kinds: Map<string, number>
  /** One line each. */
  facts: string[]
  /** How often, by what. */
  problems: Map<string, number>
}

export async function campaign ({ seed, duration, note }: CampaignOptions): Promise<Report> {
  const dir = await mkdtemp(join(tmpdir(), 'doorman-fuzz-'))
  const secrets = new Secrets()
  secrets.addText('API key', KEY)
  const world = new World(secrets)
  const checks = createChecks(secrets, [dir, process.cwd()])
  const report: Report = { seed, requests: 0, replies: 0, counts: new Map(), kinds: new Map(), facts: [], problems: new Map() }
  /** Requests that the server may have logged once or twice more than it answered them: it depends on what arrived when. */
  let uncertain = 0
  let lines = 0

  function problem (what: string, details: () => string[] = () => []): void {
    const name = what.split(':', 1)[0]!
    count(report.problems, name)
    if (report.problems.get(name)! > DESCRIBED) return
    for (const text of [`PROBLEM ${what}`, ...details()]) note(text)
  }

  const service = await startService(dir, { API_KEYS: KEY, DATABASE_URL: `file:${join(dir, 'doorman.db')}`, LOG_LEVEL: 'trace', TRUST_PROXY: 'loopback' }, line => {
    lines++
    for (const what of checks.line(line)) problem(what)
  })
  try {
    const { port } = service
    const state = { dead: false }
    service.ended.then(() => { state.dead = true })
    const corpus = hostileCorpus()
    note(corpus.name)
    const lane = new Lane(port)
    const ask = async (target: string) => {
      const exchange = await lane.exchange({ bytes: Buffer.from(`GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${KEY}\r\n\r\n`), headOnly: false, limit: PATIENCE })
      report.requests++
      report.replies += exchange.replies.length
      return exchange
    }
    const ground = { operations: operationsOf(JSON.parse((await ask('/docs/json')).replies[0]!.body)), payloads: [...corpus.payloads, ...corpus.agents.slice(0, 500)], world, key: KEY }
    const memory = async () => Number(/^doorman_process_memory_bytes\{kind="rss"\} (\d+)/m.exec((await ask('/metrics')).replies[0]?.body ?? '')?.[1] ?? NaN)

    const started = performance.now()
    const end = started + duration
    let next = 0
    let slowest = 0
    let warm = 0

    async function work (): Promise<void> {
      const own = new Lane(port)
      while (performance.now() < end && !state.dead) {
        const index = next++
        const request = makeRequest(ground, new Random(seed, index))
        const sending = { bytes: request.bytes, headOnly: request.method === 'HEAD', limit: PATIENCE, ...(request.end === true ? { end: true } : {}) }
        const exchange = request.replies === null ? await shoot(port, sending) : await own.exchange(sending, request.replies)
        absorb(request, exchange, index)
      }
      await own.close()
    }

    function absorb (request: Request, exchange: Exchange, index: number): void {
      report.requests++
      report.replies += exchange.replies.length
      count(report.kinds, request.kind)
      if (exchange.replies.length !== (request.replies ?? request.expected)) uncertain++
      const problems = checks.exchange(request, exchange)
      for (const reply of exchange.replies) {
        problems.push(...checks.reply(request, reply, world.learn(request, reply)))
        const statuses = report.counts.get(request.label) ?? new Map<number, number>()
        count(statuses, reply.status)
        report.counts.set(request.label, statuses)
      }
      for (const what of problems) problem(what, () => [`  request ${index} (${request.label}, ${request.kind})`, `  ${shellLine(request, port).slice(0, 3000)}`, ...exchange.replies.map(reply => `  ${shown(reply)}`)])
    }

    /** Asks all the while whether the event loop turns. */
    async function watch (): Promise<void> {
      while (performance.now() < end && !state.dead) {
        const { took, replies } = await ask('/health/live')
        slowest = Math.max(slowest, took)
        if (replies[0]?.status !== 200 || took > LIVE) problem(`/health/live: ${replies[0]?.status} after ${took.toFixed(0)} ms`)
        if (warm === 0 && performance.now() - started > Math.min(duration / 3, 60_000)) warm = await memory()
        await sleep(LIVE_EVERY)
      }
    }

    await Promise.all([watch(), ...Array.from({ length: WIDTH }, work)])
    const last = await memory()
    // A few hundred MB less than a leak of 1 kB per request would be in ten minutes; the allocator's own ups and downs are within.
    const bound = warm * 1.5 + 100 * 2 ** 20
    // A run that is over before it was warm has nothing to compare.
    if (warm > 0 && !(last <= bound)) problem(`memory: ${mb(last)} at the end, ${mb(warm)} when warm`)
    if (state.dead) problem(`the server ended by itself: ${service.stderr.slice(0, 500)}`)
    await lane.close()

    const asked = performance.now()
    service.process.kill('SIGTERM')
    const { code, signal } = await service.ended
    const stopped = performance.now() - asked
    if (code !== 0 || stopped > STOP) problem(`the stop: exit code ${signal ?? code} after ${stopped.toFixed(0)} ms`)
    if (service.stderr !== '') problem(`standard error: ${service.stderr.slice(0, 500)}`)

    const stored = inspect(dir)
    const rows = stored.rows + world.erased
    if (rows + world.erasedAmongOthers < report.replies || rows > report.replies + 2 * uncertain) problem(`rows: ${rows} of the request log for ${report.replies} replies, and ${uncertain} requests that may have left up to two more`)
    for (const what of stored.problems) problem(what)
    report.facts.push(
      `${lines} lines of log at level trace, ${stored.texts} stored texts, ${world.secrets.size} forms of secrets looked for`,
      `${rows} rows of the request log (${world.erased} of them erased on demand) for ${report.replies} replies and ${uncertain} requests whose rows cannot be foretold`,
      `memory ${mb(warm)} when warm, ${mb(last)} at the end (bound ${mb(bound)}); /health/live at most ${slowest.toFixed(0)} ms; stopped in ${stopped.toFixed(0)} ms with exit code ${code}`
    )
    return report
  } finally {
    service.process.kill('SIGKILL')
    await service.ended
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

function count<K> (counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

const mb = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`
const shown = (reply: Reply) => `${reply.status} ${header(reply, 'content-type') ?? ''} ${reply.body.slice(0, 600)}`
