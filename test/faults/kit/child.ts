/** Starts programs of the suite as child processes. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Context } from './scenario.js'
import type { OutsiderCommand } from './outsider.js'

export interface ProgramOptions {
  execArgv?: string[]
  env?: Record<string, string>
  cwd?: string
  /** Runs as this user, and as the group of the same number. */
  uid?: number
}

/** Starts a program of this folder; it is killed at the end of the scenario. */
export function startProgram (context: Context, name: string, args: string[] = [], { execArgv = [], env = {}, cwd = process.cwd(), uid }: ProgramOptions = {}): ChildProcess {
  const child = fork(fileURLToPath(new URL(`./${name}.js`, import.meta.url)), args, {
    execArgv,
    env: { ...process.env, ...env },
    cwd,
    ...uid === undefined ? {} : { uid, gid: uid },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced'
  })
  context.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return child
}

/** A foreign program with the files open. Each call resolves when it is done. */
export interface Outsider {
  lock (...files: string[]): Promise<void>
  pin (...files: string[]): Promise<void>
  release (): Promise<void>
}

export function startOutsider (context: Context): Outsider {
  const child = startProgram(context, 'outsider')
  let errors = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => { errors += text })
  const run = async (command: OutsiderCommand) => {
    child.send(command)
    await Promise.race([once(child, 'message'), once(child, 'exit').then(() => { throw new Error(`the foreign program ended: ${errors}`) })])
  }
  return {
    lock: (...files) => run({ do: 'lock', files }),
    pin: (...files) => run({ do: 'pin', files }),
    release: () => run({ do: 'release' })
  }
}
