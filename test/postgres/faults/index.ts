/** The scenarios on PostgreSQL, in their order; their numbers go on where those on SQLite end. */
import type { Scenario } from '../../faults/kit/index.js'
import { connectionsCut } from './cut.js'
import { failover } from './failover.js'
import { diskFull } from './full.js'
import { tableLocked } from './lock.js'
import { serverKilled } from './sigkill.js'

export const postgresScenarios: readonly Scenario[] = [serverKilled, connectionsCut, tableLocked, diskFull, failover]
