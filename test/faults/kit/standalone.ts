/** Starts the standalone server as its users do: a process of its own, configured by its environment, driven over HTTP and by signals. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { startProgram } from './child.js'
import type { Context } from './scenario.js'
import type { LogLine } from './service-client.js'

export const KEY = 'fault-suite-key-fault-suite-key-fault-suite-key'

export interface Standalone {
  address: string
  process: ChildProcess
  /** Everything it logged so far. */
  log: LogLine[]
  /** What it wrote to standard error so far. */
  readonly stderr: string
  /** Resolves when it has ended and everything it wrote has been read. */
  ended: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
  /** Sends JSON with the API key; null when the connection broke before the reply was complete, or could not be made. */
  post (path: string, body: unknown): Promise<{ status: number, body: Record<string, unknown> } | null>
}

/** @param env its variables besides API_KEYS, HOST and PORT; relative paths are within the scenario's folder */
export async function startStandalone (context: Context, env: Record<string, string>): Promise<Standalone> {
  const child = startProgram(context, '../../../server', [], { env: { API_KEYS: KEY, HOST: '127.0.0.1', PORT: '0', ...env }, cwd: context.dir })
  const log: LogLine[] = []
  let stderr = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const ended = once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null }))
  const listening = new Promise<string>(resolve => {
    createInterface({ input: child.stdout! }).on('line', line => {
      if (line.startsWith('{')) log.push(JSON.parse(line) as LogLine)
      const address = /^fastify-doorman listens on (\S+)$/.exec(line)
      if (address !== null) resolve(address[1]!)
    })
  })
  const address = await Promise.race([listening, ended.then(({ code, signal }) => { throw new Error(`the server ended (${signal ?? code}): ${stderr}`) })])

  return {
    address,
    process: child,
    log,
    get stderr () { return stderr },
    ended,
    async post (path, body) {
      try {
        const response = await fetch(address + path, { method: 'POST', headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }, body: JSON.stringify(body) })
        return { status: response.status, body: await response.json() as Record<string, unknown> }
      } catch {
        return null
      }
    }
  }
}
