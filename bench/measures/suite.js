/** The suite inside the benchmark's own process, without HTTP, for measures of its storage; and rows to give it. */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import { doorman } from '../../dist/index.js'
import { USER_AGENT } from '../harness/workloads.js'

const REPORT = 500
export const PER_VISITOR = 6

/** @param {object} [options] of the plugin, besides where it stores */
export async function openSuite (directory, options = {}) {
  const app = Fastify()
  await app.register(doorman, { ...options, database: { url: `file:${join(directory, 'doorman.db')}`, ...options.database } })
  await app.ready()
  return app
}

export const logFile = directory => join(directory, 'doorman-log.db')
export const mainFile = directory => join(directory, 'doorman.db')

/** Asks a file one question, on a connection of its own. */
export function ask (file, sql) {
  const db = new Database(file, { readonly: true })
  try {
    return db.prepare(sql).pluck().get()
  } finally {
    db.close()
  }
}

/**
 * Requests of a usual service: visitors that ask six times in a row (a public log of 10 000 lines has 5.7 per address), half of them signed in, 200 paths.
 * Made beforehand, so that making them is not what is measured.
 */
export const sampleRequests = Array.from({ length: 20 }, (_, part) => Array.from({ length: REPORT }, (_, i) => {
  const n = part * REPORT + i
  const visitor = Math.floor(n / PER_VISITOR)
  const address = visitor * 7919 % 65_536
  return {
    ip: `10.${visitor % 16}.${address >> 8}.${address & 255}`,
    method: 'GET',
    path: `/articles/${n % 200}`,
    route: '/articles/:id',
    status: 200,
    durationMs: n % 40,
    userAgent: USER_AGENT,
    ...(visitor % 2 === 0 ? { sessionId: `s_of_the_benchmark_${visitor}`, userId: `user-${visitor % 1000}` } : {})
  }
}))

/**
 * Gives the suite rows for some time, as fast as it takes them, through `ipTracking.report`, with a bounded number waiting.
 * @returns rows per second, from the first one given to the last one stored
 */
export async function feed (app, milliseconds, watch = () => {}) {
  const start = performance.now()
  const MOST_WAITING = 20_000
  let given = 0
  let waiting = Promise.resolve()
  let sinceFlush = 0
  for (let part = 0; performance.now() - start < milliseconds; part++) {
    const { accepted } = await app.ipTracking.report(sampleRequests[part % sampleRequests.length])
    given += accepted
    sinceFlush += accepted
    if (sinceFlush >= MOST_WAITING / 2) {
      await waiting // for the half before this one
      waiting = app.database.flush()
      sinceFlush = 0
    }
    watch()
    await new Promise(resolve => setImmediate(resolve))
  }
  await app.database.flush()
  return { rows: given, perSecond: given / (performance.now() - start) * 1000 }
}
