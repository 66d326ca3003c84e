/** The reader thread: lists, aggregates, backups and checks, on read-only connections, away from the event loop. */
import { addressMarker, defineTruncated, lookForAddresses, passFile } from './address-scan.js'
import { Connection, READER_BUSY_TIMEOUT } from './connection.js'
import { getRow, allRows } from './host-statements.js'
import { requestsOf } from './log-erasure.js'
import { changeCounter, findSession, probeSessions } from './point-reads.js'
import type { ThreadSettings, WireRequest } from './protocol.js'
import { deadLettersAt, deadLettersOf, activityAt, exportSessions, getSession, listActivity, listCleanupRuns, listIpLogs, listSessions, seriesIpLogs, sessionsAt, topIpLogs } from './queries.js'
import { countSweepable, sweepFile } from './retention-writes.js'
import type { AddressPass, LookParams } from '../address-scan.js'
import { SWEEP_TARGETS, type SweepTarget, type TokenHash } from '../storage.js'
import { listSessionDevices } from './session-devices.js'
import { answer, runThread, type Post, type ThreadService } from './thread-shell.js'

await runThread(startReader)

async function startReader ({ location }: ThreadSettings, { reply }: Post): Promise<ThreadService> {
  const main = new Connection({ path: location.main, role: 'reader', file: 'main' })
  const log = new Connection({ path: location.log, role: 'reader', file: 'log' })
  const files = { main, log }
  defineTruncated(main)
  defineTruncated(log)

  const onMain = (query: (connection: Connection, params: never) => unknown) => (params: unknown) => query(main, params as never)
  const onLog = (query: (connection: Connection, params: never) => unknown) => (params: unknown) => query(log, params as never)
  const queries: Record<string, (params: unknown) => unknown> = {
    getSession: onMain(getSession),
    listSessions: onMain(listSessions),
    listSessionDevices: onMain(listSessionDevices),
    listCleanupRuns: onMain(listCleanupRuns),
    exportSessions: onMain(exportSessions),
    findSession: onMain((connection, { tokenHash, now }: { tokenHash: TokenHash, now: number }) => findSession(connection, tokenHash, now)),
    probeSessions: onMain(probeSessions),
    changeCounter: onMain((connection, { name }: { name: string }) => changeCounter(connection, name)),
    getRow: onMain(getRow),
    allRows: onMain(allRows),
    listIpLogs: onLog(listIpLogs),
    topIpLogs: onLog(topIpLogs),
    seriesIpLogs: onLog(seriesIpLogs),
    listActivity: onLog(listActivity),
    deadLettersOf: onLog(deadLettersOf),
    countSweepable: params => {
      const { cutoffs, now } = params as { cutoffs: Record<SweepTarget, number>, now: number }
      return Object.fromEntries(SWEEP_TARGETS.map(target => [target, countSweepable(files[sweepFile(target)], target, cutoffs, now)]))
    },
    lookForAddresses: params => lookForAddresses(files[passFile((params as LookParams).pass)], params as LookParams),
    addressMarker: params => addressMarker(files[passFile((params as { pass: AddressPass }).pass)], params as { pass: AddressPass }),
    sessionsAt: onMain(sessionsAt),
    activityAt: onLog(activityAt),
    deadLettersAt: onLog(deadLettersAt),
    requestsOf: onLog(requestsOf),
    backup: params => {
      const paths = params as Record<'main' | 'log', string>
      // VACUUM INTO reads one snapshot, whatever is written meanwhile; the driver's backup() starts anew with every foreign commit.
      main.run('VACUUM INTO ?', paths.main)
      log.run('VACUUM INTO ?', paths.log)
      return Object.values(paths)
    },
    check: () => [main, log].flatMap(({ db, path }) => {
      const findings = db.pragma('integrity_check') as { integrity_check: string }[]
      return findings.map(finding => finding.integrity_check).filter(text => text !== 'ok').map(text => `${path}: ${text}`)
    }),
    connections: () => [main.report(), log.report()]
  }

  return {
    handle ({ id, name, params }: WireRequest) {
      answer(reply, id, () => queries[name]!(params), READER_BUSY_TIMEOUT)
    },
    async stop () {
      main.close()
      log.close()
    }
  }
}
