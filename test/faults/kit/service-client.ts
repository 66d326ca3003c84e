/** Starts the service under test and asks it questions. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { DatabaseStats } from '../../../lib/database.js'
import type { CleanupRun, Health } from '../../../storage/storage.js'
import { startProgram } from './child.js'
import type { Context } from './scenario.js'
import type { Question, ServiceConfig } from './service.js'

/** One line of the service's log. */
export interface LogLine { level: number, msg: string, [field: string]: unknown }

export interface Service {
  address: string
  process: ChildProcess
  /** Everything it logged so far. */
  log: LogLine[]
  /** Anything else it printed: stack traces and the like. */
  readonly stderr: string
  ended: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
  stats (): Promise<DatabaseStats>
  health (): Promise<Health>
  flush (): Promise<void>
  cleanup (): Promise<CleanupRun>
  /** Longest pause of its event loop, ms, since it was last asked. */
  delay (): Promise<number>
  memory (): Promise<NodeJS.MemoryUsage>
  close (): Promise<void>
  /** Sets its clock off by so many ms, against the machine's. */
  shiftClock (ms: number): Promise<void>
  ask (question: Question, argument?: unknown): Promise<unknown>
}

export async function startService (context: Context, config: ServiceConfig, { execArgv = [], env = {} }: { execArgv?: string[], env?: Record<string, string> } = {}): Promise<Service> {
  const child = startProgram(context, 'service', [JSON.stringify(config)], { execArgv, env })
  const log: LogLine[] = []
  let stderr = ''
  createInterface({ input: child.stdout! }).on('line', line => {
    if (line.startsWith('{')) log.push(JSON.parse(line) as LogLine)
    else stderr += `${line}\n`
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const ended = once(child, 'exit').then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null }))

  const pending = new Map<number, { resolve (value: unknown): void, reject (error: Error): void }>()
  let nextId = 1
  let started: (address: string) => void
  const address = new Promise<string>(resolve => { started = resolve })
  child.on('message', (message: { address: string } | { fault: string } | { id: number, value?: unknown, error?: { message: string, code?: string } }) => {
    if ('fault' in message) return // an answer to saboteur.ts
    if ('address' in message) {
      started(message.address)
      return
    }
    const waiting = pending.get(message.id)!
    pending.delete(message.id)
    if (message.error === undefined) waiting.resolve(message.value)
    else waiting.reject(Object.assign(new Error(message.error.message), { code: message.error.code }))
  })
  const gone = ended.then(({ code, signal }) => {
    const error = new Error(`the service ended (${signal ?? code}): ${stderr}${log.filter(line => line.level >= 50).map(line => JSON.stringify(line)).join('\n')}`)
    for (const { reject } of pending.values()) reject(error)
    return Promise.reject(error)
  })
  gone.catch(() => {})

  const ask = (question: Question, argument?: unknown) => new Promise<unknown>((resolve, reject) => {
    const id = nextId++
    pending.set(id, { resolve, reject })
    child.send({ id, question, argument }, error => { if (error !== null) reject(error) })
  })
  return {
    address: await Promise.race([address, gone]),
    process: child,
    log,
    get stderr () { return stderr },
    ended,
    ask,
    stats: () => ask('stats') as Promise<DatabaseStats>,
    health: () => ask('health') as Promise<Health>,
    async flush () { await ask('flush') },
    cleanup: () => ask('cleanup') as Promise<CleanupRun>,
    delay: () => ask('delay') as Promise<number>,
    memory: () => ask('memory') as Promise<NodeJS.MemoryUsage>,
    async shiftClock (ms) { await ask('shiftClock', ms) },
    async close () { await ask('close') }
  }
}
