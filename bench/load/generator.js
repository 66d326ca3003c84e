/** Runs one cell with the load generator that was chosen, as a process on a core of its own. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasProgram, onCore } from '../harness/cores.js'
import { USER_AGENT } from '../harness/workloads.js'

export const generators = ['wrk', 'autocannon', 'plain']
export const peersInstalled = () => existsSync(new URL('../node_modules/autocannon', import.meta.url))

/** wrk where it is (it costs least, so that bare Fastify is not held back by it), else autocannon, else our own. */
export const defaultGenerator = () => hasProgram('wrk') ? 'wrk' : peersInstalled() ? 'autocannon' : 'plain'

const script = name => new URL(name, import.meta.url).pathname

function output (command) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', part => { text += part })
    child.stderr.setEncoding('utf8').on('data', part => { errors += part })
    child.once('error', reject)
    child.once('close', code => code === 0 ? resolve(text) : reject(new Error(`${command.join(' ')} ended with ${code}: ${errors}${text}`)))
  })
}

/** Writes Cookie headers to a file that generators read; null where there are none. */
export function writeCookies (directory, cookies) {
  if (cookies.length === 0) return null
  const file = join(directory, 'cookies.txt')
  writeFileSync(file, cookies.map(cookie => `${cookie}\n`).join(''))
  return file
}

/**
 * @typedef {object} CellResult
 * @property {number} answered requests with a 2xx status
 * @property {number} milliseconds
 * @property {number} failed other statuses, and connections that broke
 * @property {number} p50 ms
 * @property {number} p99 ms
 */

/**
 * @param {{ generator: string, url: string, method: string, path: string, cookies: string | null, connections: number, milliseconds: number, rate?: number, warmUp?: number, pinned?: boolean }} cell
 * `cookies`: a file; `rate` (requests per second) and `warmUp` (ms not measured): by the plain generator only
 * @returns {Promise<CellResult>}
 */
export async function load ({ generator, url, method, path, cookies, connections, milliseconds, rate, warmUp, pinned = true }) {
  const options = { url, method, path, agent: USER_AGENT, cookies, connections, milliseconds, rate, warmUp }
  const commands = {
    // It takes whole seconds.
    wrk: () => ['wrk', '-t1', `-c${connections}`, `-d${Math.max(1, Math.round(milliseconds / 1000))}s`, '-s', script('wrk.lua'), url, '--', method, path, USER_AGENT, ...(cookies === null ? [] : [cookies])],
    autocannon: () => [process.execPath, script('autocannon.js'), JSON.stringify(options)],
    plain: () => [process.execPath, script('plain.js'), JSON.stringify(options)]
  }
  const text = await output(onCore('load', pinned, commands[generator]()))
  // wrk prints its own report before the line.
  return JSON.parse(text.trim().split('\n').at(-1))
}
