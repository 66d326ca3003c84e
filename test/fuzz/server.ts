/** The service under test: the standalone server as a process of its own, its whole output watched line by line. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const SERVER = fileURLToPath(new URL('../../server.js', import.meta.url))
/** What tap adds to processes that it starts: it would be measured as well. */
const ADDED_BY_TAP = ['NODE_OPTIONS', 'NODE_V8_COVERAGE']

export interface Service {
  process: ChildProcess
  port: number
  address: string
  /** What it wrote to standard error so far. */
  readonly stderr: string
  /** Resolves when it has ended and everything it wrote has been read. */
  ended: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
}

/**
 * @param dir its working directory
 * @param env its variables besides HOST and PORT
 * @param onLine told of every line it writes to standard output
 */
export async function startService (dir: string, env: Record<string, string>, onLine: (line: string) => void): Promise<Service> {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ADDED_BY_TAP.includes(name)))
  const child = spawn(process.execPath, [SERVER], { cwd: dir, env: { ...inherited, HOST: '127.0.0.1', PORT: '0', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const lines = createInterface({ input: child.stdout })
  const ended = once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null }))
  const listening = new Promise<string>(resolve => {
    lines.on('line', line => {
      onLine(line)
      const address = /^fastify-doorman listens on (\S+)$/.exec(line)
      if (address !== null) resolve(address[1]!)
    })
  })
  const address = await Promise.race([listening, ended.then(({ code, signal }) => { throw new Error(`the server ended (${signal ?? code}): ${stderr}`) })])
  return { process: child, port: Number(new URL(address).port), address, get stderr () { return stderr }, ended }
}
