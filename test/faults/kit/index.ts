/** What scenarios are made of. */
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import type { Context } from './scenario.js'

export * from './scenario.js'
export { startOutsider, startProgram, type Outsider } from './child.js'
export { startService, type LogLine, type Service } from './service-client.js'
export { startStandalone, type Standalone } from './standalone.js'
export { compareRows, compareSessions, integrity, Ledger, look, percentile, withoutRow, type Entry, type HeldSession, type Kind } from './ledger.js'
export { enter, leave, recorded, startClosedLoad, type ClosedLoad } from './closed-load.js'
export { logIn, MIX, send, startLoad, type Load } from './load.js'
export { limitFileSize, mountSmall, PRELOAD_ENV, SABOTAGED, strike } from './saboteur.js'
export { sleep }

/** The two files of a scenario's database. */
export function files ({ dir }: Context, name = 'doorman'): { url: string, main: string, log: string } {
  return { url: `file:${join(dir, `${name}.db`)}`, main: join(dir, `${name}.db`), log: join(dir, `${name}-log.db`) }
}

/** Waits until something holds, at most `limit` ms; false when it never did. */
export async function until (condition: () => unknown, limit = 30_000, every = 20): Promise<boolean> {
  const end = performance.now() + limit
  while (!await condition()) {
    if (performance.now() > end) return false
    await sleep(every)
  }
  return true
}
