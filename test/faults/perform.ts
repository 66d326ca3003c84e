/** Performs one scenario: a folder of its own, its results, and everything cleaned up whatever happens. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context, Result, Scenario } from './kit/scenario.js'

export interface Performance { scenario: Scenario, results: Result[], seconds: number }

/** @param parent where its folder is made; the system's temporary folder unless given */
export async function perform (scenario: Scenario, full: boolean, note: (text: string) => void, parent = tmpdir()): Promise<Performance> {
  const dir = await mkdtemp(join(parent, `doorman-fault-${scenario.number}-`))
  const results: Result[] = []
  const cleanups: (() => unknown)[] = []
  const context: Context = {
    full,
    dir,
    note,
    result (result) {
      results.push(result)
      note(`${result.pass ? 'ok  ' : 'FAIL'} ${result.what}: ${result.measured} (required: ${result.required})`)
    },
    defer (cleanup) { cleanups.unshift(cleanup) }
  }
  const start = performance.now()
  try {
    await scenario.run(context)
  } catch (error) {
    context.result({ what: 'ran to its end', measured: (error as Error).stack ?? String(error), required: 'no error', pass: false })
  } finally {
    for (const cleanup of cleanups) await cleanup()
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
  return { scenario, results, seconds: (performance.now() - start) / 1000 }
}
