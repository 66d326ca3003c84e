/** Server on one core, load generator on another, where `taskset` is there to say so and there are two. */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

/** Whether a program is on the PATH. */
export const hasProgram = name => spawnSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' }).status === 0

const CORE = { server: '0', load: '1' }
/** Whether servers and load generators are kept apart. */
export const pinning = availableParallelism() >= 2 && hasProgram('taskset') && spawnSync('taskset', ['-c', '0,1', 'true']).status === 0

/** The command line that runs `command` on its core. */
export const onCore = (role, pinned, command) => pinning && pinned ? ['taskset', '-c', CORE[role], ...command] : command
