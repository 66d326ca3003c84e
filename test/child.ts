/** Runs a program of the project as a child process, in a folder of its own. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { tempDir } from './helper.js'

export interface Child {
  process: ChildProcessWithoutNullStreams
  dir: string
  /** Resolves when standard output has matched. */
  output (pattern: RegExp): Promise<RegExpExecArray>
  /** Resolves when it has ended. */
  ended: Promise<{ code: number | null, stdout: string, stderr: string }>
}

/** @param program file at the top of the project, such as 'server.js' */
export function startChild (t: Test, program: string, args: string[] = [], env: Record<string, string> = {}, dir = tempDir()): Child {
  const script = fileURLToPath(new URL(`../${program}`, import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], { cwd: dir, env: { ...process.env, PORT: '0', ...env } })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }))
  // Its end is waited for: what still writes into a folder keeps it from being removed.
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })

  async function output (pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(stdout)
      if (match !== null) return match
      const over = await Promise.race([once(child.stdout, 'data').then(() => false), ended.then(() => true)])
      if (over) throw new Error(`ended before ${pattern}: ${stdout}${stderr}`)
    }
  }
  return { process: child, dir, output, ended }
}

/** Runs a program to its end. */
export function runChild (...given: Parameters<typeof startChild>) {
  return startChild(...given).ended
}
