/** The parent's side of faults that happen within a service: threads that die, files that may not grow, writes that the system refuses. */
import { execFileSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import type { Context } from './scenario.js'
import type { ThreadFault } from './thread-faults.js'

const PRELOAD = new URL('./thread-faults.js', import.meta.url).href

/** For programs that `strike` is to reach. */
export const SABOTAGED = { execArgv: ['--import', PRELOAD] }
/** The same as NODE_OPTIONS, where programs are given variables only. */
export const PRELOAD_ENV = `--import=${PRELOAD}`

/** A thread that is there answers within this time, ms. */
const ANSWER_MS = 5000

/** Makes it happen; resolves when it has been told to whom it concerns. The program must have been started with SABOTAGED. */
export async function strike (child: ChildProcess, fault: ThreadFault): Promise<void> {
  const signal = AbortSignal.timeout(ANSWER_MS)
  let said = ''
  const listen = (text: Buffer | string) => { said += String(text) }
  child.stderr?.on('data', listen)
  const ended = once(child, 'exit', { signal }).then(([code, killed]) => {
    throw new Error(`the program ended (${String(code ?? killed)}) before it could be told to ${fault.do}: ${said}`)
  })
  child.send({ fault })
  try {
    for (;;) {
      const [message] = await Promise.race([once(child, 'message', { signal }), ended]) as [object]
      if ('fault' in message) return
    }
  } finally {
    child.stderr?.off('data', listen)
  }
}

/**
 * The longest file (bytes) that a process may write, or null for any: writing beyond it is an input/output error (EFBIG) of the system, and
 * needs no privileges. @returns false where the system has no way to set it from outside
 */
export function limitFileSize (pid: number, bytes: number | null): boolean {
  // Of the two limits the soft one is what counts, and what may be raised again.
  return succeeds('prlimit', ['--pid', `${pid}`, `--fsize=${bytes ?? 'unlimited'}:`])
}

/** Makes a file system of that many bytes, gone at the end of the scenario. @returns false where that is not allowed */
export function mountSmall (context: Context, dir: string, bytes: number): boolean {
  mkdirSync(dir)
  if (!succeeds('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'none', dir])) return false
  context.defer(() => { execFileSync('umount', [dir]) })
  return true
}

function succeeds (command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
