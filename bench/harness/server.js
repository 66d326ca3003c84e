/** The harness's handle on a server in a process of its own: started on its core, asked over IPC, stopped in order. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onCore } from './cores.js'

const CHILD = new URL('./child.js', import.meta.url).pathname

const folders = new Set()

/** A folder of its own for what a server stores. Removed by the caller, who knows when, or at the end of the process, however that comes. */
export function temporaryDirectory () {
  if (folders.size === 0) {
    process.on('exit', () => { for (const folder of folders) rmSync(folder, { recursive: true, force: true }) })
    // Servers notice that the harness has gone.
    for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]]) process.once(signal, () => process.exit(code))
  }
  const folder = mkdtempSync(join(tmpdir(), 'doorman-bench-'))
  folders.add(folder)
  return folder
}

/**
 * @param {{ file: string, settings?: object, directory?: string, processes?: number, pinned?: boolean }} options
 * `directory`: where it stores; without it a new one, removed by `stop`
 */
export async function startServer ({ file, settings = {}, directory, processes = 1, pinned = true }) {
  const place = directory ?? temporaryDirectory()
  const [command, ...args] = onCore('server', pinned, [process.execPath, CHILD, JSON.stringify({ file, settings: { directory: place, ...settings }, processes })])
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...process.env, NODE_ENV: 'production' } })
  const waiting = new Map()
  let asked = 0
  let ended
  const exited = once(child, 'exit').then(([code, signal]) => {
    ended = new Error(`the server ${file} ended with ${signal ?? code}`)
    for (const { reject } of waiting.values()) reject(ended)
  })
  child.on('message', ({ id, value, error }) => {
    const asker = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) asker?.resolve(value)
    else asker?.reject(new Error(error))
  })
  const address = await new Promise((resolve, reject) => {
    child.on('message', message => { if (message.address !== undefined) resolve(message.address) })
    exited.then(() => reject(ended))
  })
  const ask = question => new Promise((resolve, reject) => {
    if (ended !== undefined) {
      reject(ended)
      return
    }
    const id = ++asked
    waiting.set(id, { resolve, reject })
    child.send({ id, ask: question })
  })
  return {
    address,
    directory: place,
    pid: child.pid,
    /** @type {() => Promise<{ rows: number | null, sessions: number | null }>} */
    count: () => ask('count'),
    /** @type {() => Promise<{ cpuUs: number, mainUs: number | null }>} µs since the start */
    usage: () => ask('usage'),
    /** @type {() => Promise<{ rss: number }>} bytes */
    memory: () => ask('memory'),
    startDelay: () => ask('delayStart'),
    /** @type {() => Promise<{ p999: number, max: number }>} ms */
    delay: () => ask('delay'),
    async stop () {
      await ask('stop').catch(error => { if (ended === undefined) throw error })
      await exited
      if (directory === undefined) rmSync(place, { recursive: true, force: true })
    },
    /** For a run that failed: it may clean up after itself, but not for long. */
    async kill () {
      if (child.connected) child.disconnect()
      const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
      await exited
      clearTimeout(timer)
      if (directory === undefined) rmSync(place, { recursive: true, force: true })
    }
  }
}
