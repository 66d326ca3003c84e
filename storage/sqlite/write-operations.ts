/** Every change the writer thread can be asked for: its file, its lane, its function. The names are the wire protocol. */
import type { SessionRotateParams, SessionTouch } from '../storage.js'
import { eraseAddresses, setAddressMarker, truncateAddresses } from './address-scan.js'
import { cutWal, rewriteSmallFile } from './checkpoint.js'
import type { Connection, FileName } from './connection.js'
import type { WriteOperation } from './lanes.js'
import { runBatch } from './host-statements.js'
import { eraseLog, eraseRequests } from './log-erasure.js'
import { countRows, type PackedBatch } from './log-wire.js'
import type { LogAppender } from './log-writes.js'
import { acquireLease, addBlock, addCleanupRun, eraseSessions, maintain, releaseLease, removeBlock, sweep } from './retention-writes.js'
import { createSession, endSessions, rotateSession, touchSessions, updateSessionData } from './session-writes.js'

const interactive = (run: WriteOperation['run']): WriteOperation => ({ lane: 'interactive', run })
const maintenance = (run: WriteOperation['run']): WriteOperation => ({ lane: 'maintenance', run })

/** True when nothing is left of the WAL. */
const scrub: WriteOperation = {
  lane: 'maintenance',
  bare: true,
  run: cutWal
}

const rewrite: WriteOperation = { lane: 'maintenance', bare: true, run: rewriteSmallFile }

/** In the log, freed pages are overwritten for the time of an erasure only: it costs a write per page. */
const erasing = (erase: (connection: Connection, params: never) => unknown): WriteOperation => maintenance((connection, params) => {
  connection.db.pragma('secure_delete = ON')
  try {
    return erase(connection, params)
  } finally {
    connection.db.pragma('secure_delete = FAST')
  }
})

export type OperationTable = Readonly<Record<string, WriteOperation>>

export function mainOperations (): OperationTable {
  return {
    createSession: interactive(createSession),
    rotateSession: { lane: 'interactive', run: rotateSession, wait: ({ wait }: SessionRotateParams) => wait },
    updateSessionData: interactive(updateSessionData),
    endSessions: interactive(endSessions),
    addBlock: interactive(addBlock),
    removeBlock: interactive(removeBlock),
    acquireLease: interactive(acquireLease),
    releaseLease: interactive(releaseLease),
    addCleanupRun: interactive(addCleanupRun),
    batch: { lane: 'interactive', alone: true, run: runBatch },
    touchSessions: { lane: 'bulk', run: touchSessions, rows: (touches: SessionTouch[]) => touches.length },
    sweep: maintenance(sweep),
    maintain: maintenance(maintain),
    eraseSessions: maintenance(eraseSessions),
    truncateAddresses: maintenance(truncateAddresses),
    eraseAddresses: maintenance(eraseAddresses),
    setAddressMarker: maintenance(setAddressMarker),
    scrub,
    rewrite
  }
}

export function logOperations (appender: LogAppender): OperationTable {
  return {
    appendLog: {
      lane: 'bulk',
      run: (_connection, batch: PackedBatch) => appender.append(batch),
      rows: ({ rows }: PackedBatch) => countRows(rows),
      again: () => appender.again()
    },
    sweepLog: maintenance(sweep),
    maintainLog: maintenance(maintain),
    eraseLog: erasing(eraseLog),
    truncateAddressesLog: erasing(truncateAddresses),
    eraseAddressesLog: erasing(eraseAddresses),
    eraseRequestsLog: erasing(eraseRequests),
    setAddressMarkerLog: maintenance(setAddressMarker),
    scrubLog: scrub,
    rewriteLog: rewrite
  }
}

/** Name of an operation that exists for both files. */
export const operationName = (name: 'sweep' | 'maintain' | 'scrub' | 'rewrite' | 'truncateAddresses' | 'eraseAddresses' | 'setAddressMarker', file: FileName): string => file === 'main' ? name : `${name}Log`
