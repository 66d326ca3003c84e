/** What a figure belongs to: machine, versions, commit. No names of hosts or users. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os'
import { hasProgram, pinning } from './cores.js'
import { postgresVersion } from './postgres.js'

const require = createRequire(import.meta.url)
const here = new URL('.', import.meta.url).pathname
const run = (command, args) => {
  try {
    return execFileSync(command, args, { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return null
  }
}

export const machine = () => ({
  processor: cpus()[0]?.model ?? 'unknown',
  cores: availableParallelism(),
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  system: `${platform()} ${release()} ${arch()}`,
  pinned: pinning
})

/** Of the version that was measured: the commit, with `+` where the work tree differs from it. */
export function commit () {
  const hash = run('git', ['rev-parse', '--short=12', 'HEAD'])
  if (hash === null) return null
  return run('git', ['status', '--porcelain', '--untracked-files=no']) === '' ? hash : `${hash}+`
}

/** Node, Fastify, the databases with their drivers, and every peer that is installed, as they are and not as they were asked for. */
export function versions () {
  const found = { node: process.version }
  const Database = require('better-sqlite3')
  const db = new Database(':memory:')
  found.sqlite = db.prepare('SELECT sqlite_version()').pluck().get()
  db.close()
  found.fastify = require('fastify/package.json').version
  found['better-sqlite3'] = require('better-sqlite3/package.json').version
  found.pg = require('pg/package.json').version
  const postgres = postgresVersion()
  if (postgres !== undefined) found.postgresql = postgres
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  for (const name of Object.keys(dependencies)) {
    try {
      found[name] = JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8')).version
    } catch { /* not installed: the smoke run */ }
  }
  const redis = hasProgram('redis-server') ? /v=(\S+)/.exec(run('redis-server', ['--version']) ?? '')?.[1] : undefined
  if (redis !== undefined) found['redis-server'] = redis
  return found
}
