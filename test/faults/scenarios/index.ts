/** All scenarios, in their order. */
import type { Scenario } from '../kit/scenario.js'
import { postgresScenarios } from '../../postgres/faults/index.js'
import { foreignLock } from './01-foreign-lock.js'
import { pinnedReader } from './02-pinned-reader.js'
import { manyProcesses } from './03-many-processes.js'
import { sigkill } from './04-sigkill.js'
import { close } from './05-close.js'
import { noSpace } from './06-no-space.js'
import { writerDies } from './07-writer-dies.js'
import { poison } from './08-poison.js'
import { clock } from './09-clock.js'
import { damage } from './10-damage.js'
import { hostileInput } from './12-hostile-input.js'
import { retention } from './11-retention.js'

export const scenarios: readonly Scenario[] = [foreignLock, pinnedReader, manyProcesses, sigkill, close, noSpace, writerDies, poison, clock, damage, retention, hostileInput, ...postgresScenarios]
