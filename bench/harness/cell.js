/**
 * One cell: load on one server for a second, then what it has stored counted against what was answered. Requests under way when the load generator
 * stops may be stored though nobody got the answer: at most one per connection.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { load } from '../load/generator.js'

/** How long what was answered may take to be there, ms. It is usually there at once. */
const PATIENCE_MS = 10_000

/**
 * @typedef {object} Cell
 * @property {number} perSecond
 * @property {number} cpuUs processor time of the whole process per request, µs
 * @property {number | null} mainUs that of its main thread
 * @property {number} p99 ms
 * @property {string[]} faults what was wrong, in words
 */

/** How far what was stored is from what had to be, in words; undefined when it agrees. */
function mismatch (what, before, after, least, most) {
  const stored = after - before
  if (stored < least) return `${least - stored} of ${least} ${what} missing`
  if (stored > most) return `${stored - most} ${what} too many (${stored} for ${least} replies)`
}

/**
 * @param {{ server: { address: string, count (): Promise<{ rows: number | null, sessions: number | null }>, usage (): Promise<{ cpuUs: number, mainUs: number | null }> }, workload: (typeof import('./workloads.js').workloads)[number], cookies: string | null, generator: string, connections: number, milliseconds: number, pinned?: boolean }} options
 * @returns {Promise<Cell & { answered: number }>}
 */
export async function runCell ({ server, workload, cookies, generator, connections, milliseconds, pinned }) {
  const { method, path, withSession, creates = false } = workload
  const stored = await server.count()
  const used = await server.usage()
  const result = await load({ generator, url: server.address, method, path, cookies: withSession ? cookies : null, connections, milliseconds, pinned })
  const usedAfter = await server.usage()
  const { answered } = result

  const check = now => [
    stored.rows === null ? undefined : mismatch('rows', stored.rows, now.rows, answered, answered + connections),
    stored.sessions === null ? undefined : mismatch('sessions', stored.sessions, now.sessions, creates ? answered : 0, creates ? answered + connections : 0)
  ].filter(fault => fault !== undefined)
  const deadline = performance.now() + PATIENCE_MS
  let faults = check(await server.count())
  while (faults.length > 0 && performance.now() < deadline) {
    await sleep(100)
    faults = check(await server.count())
  }
  if (result.failed > 0) faults.push(`${result.failed} requests failed`)
  if (answered === 0) faults.push('no request was answered')
  return {
    answered,
    perSecond: answered / result.milliseconds * 1000,
    cpuUs: (usedAfter.cpuUs - used.cpuUs) / answered,
    mainUs: used.mainUs === null ? null : (usedAfter.mainUs - used.mainUs) / answered,
    p99: result.p99,
    faults
  }
}
