/** Shared by the tests: temporary databases, a logger that remembers, and waiting for conditions. */
import type { Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openStorage } from '../storage/open.js'
import type { Storage, StorageLogger, StorageOptions } from '../storage/storage.js'

/** What is removed when the process ends: no sooner, or a database that a test still closes would find its files gone, and say so. */
const directories: string[] = []
process.once('exit', () => {
  for (const dir of directories) {
    try {
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
    } catch {
      // A child that was killed may be writing its last; it is the system's temporary folder.
    }
  }
})

/** A fresh directory with each call. `t.testdir()` is one per test: a second call would take the files of databases that are open. */
export function tempDir (): string {
  const dir = mkdtempSync(join(tmpdir(), 'doorman-test-'))
  directories.push(dir)
  return dir
}

/** Path of a database file in a fresh directory. */
export function tempFile (name = 'doorman.db'): string {
  return join(tempDir(), name)
}

export interface LogLine { level: keyof StorageLogger, fields: Record<string, unknown>, message: string }

/** A logger that keeps its lines. */
export function recordingLogger (): StorageLogger & { lines: LogLine[] } {
  const lines: LogLine[] = []
  const at = (level: keyof StorageLogger) => (fields: object, message: string) => { lines.push({ level, fields: fields as Record<string, unknown>, message }) }
  return { lines, info: at('info'), warn: at('warn'), error: at('error'), fatal: at('fatal') }
}

/** Opens a SQLite storage that the test closes. */
export async function openSqliteStorage (t: Test, file = tempFile(), options: Partial<StorageOptions> = {}): Promise<Storage> {
  const storage = await openStorage({ url: `file:${file}`, logUrl: null, busyTimeout: 5000, maxPending: 1000, log: recordingLogger(), ...options })
  t.teardown(() => storage.close(1000))
  return storage
}

/** Waits until a condition holds; fails after a generous time, so that a test hangs no longer than it must. */
export async function until (condition: () => boolean | Promise<boolean>, what = 'the condition', limitMs = 20_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!await condition()) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms for ${what}`)
    await sleep(2)
  }
}
