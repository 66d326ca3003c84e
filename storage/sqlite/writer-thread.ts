/** The writer thread: the only read-write connections of the process, one per file, each with its own queue and lock wait. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError, type DoormanError } from '../../errors.js'
import { defineTruncated } from './address-scan.js'
import type { Connection, FileName } from './connection.js'
import { assertSame, FileIdentity } from './file-identity.js'
import { FileWriter, type FileWriterOptions } from './file-writer.js'
import type { WriteOperation } from './lanes.js'
import { LockWatch } from './lock-watch.js'
import { LogIndexer, type IndexerOutcome } from './log-indexer.js'
import { LogAppender } from './log-writes.js'
import { openFile } from './open-file.js'
import type { ThreadSettings, WireReply, WireRequest } from './protocol.js'
import { listBlocks } from './queries.js'
import { logMigrations } from './schema-log.js'
import { mainMigrations } from './schema-main.js'
import { answer, runThread, type Post, type ThreadService } from './thread-shell.js'
import { WalWatch } from './wal-watch.js'
import { logOperations, mainOperations } from './write-operations.js'

/** How often an idle writer looks whether its files are still there, ms; one that writes looks with every commit. */
const IDENTITY_CHECK_MS = 1000
const FILES = ['main', 'log'] as const
/** Number of operations that nobody outside of this thread has asked for. */
const OWN = -1

async function startWriter ({ location, identities, busyTimeout, walBacklogLimit }: ThreadSettings, { reply, notify, fail }: Post): Promise<ThreadService> {
  const now = () => performance.now()
  // This thread may follow one that died: what is there meanwhile must not be migrated, let alone be created.
  assertSame(location.main, identities.main)
  assertSame(location.log, identities.log)
  const main = await openFile({ path: location.main, file: 'main', migrations: mainMigrations, busyTimeout })
  const log = await openFile({ path: location.log, file: 'log', migrations: logMigrations, busyTimeout }).catch((error: unknown) => {
    main.close()
    throw error
  })
  defineTruncated(main)
  defineTruncated(log)
  const appender = new LogAppender(log)
  const common: Pick<FileWriterOptions, 'busyTimeout' | 'reply' | 'now' | 'random'> = { busyTimeout, reply, now, random: Math.random }
  const watch = (connection: Connection) => new WalWatch({ connection, notify, now, limit: walBacklogLimit })
  const watches: Record<FileName, WalWatch> = { main: watch(main), log: watch(log) }
  const opened: Record<FileName, FileIdentity> = { main: new FileIdentity(location.main, identities.main), log: new FileIdentity(location.log, identities.log) }
  const watched = (file: FileName): Pick<FileWriterOptions, 'committed' | 'assertSame' | 'wal'> => ({
    committed () { watches[file].committed() },
    assertSame () { assertOpened(file) },
    wal: () => watches[file].figures()
  })
  const lock = (connection: Connection) => new LockWatch({ connection, notify, now, busyTimeout })
  const files: Record<FileName, FileWriter> = {
    main: new FileWriter({ ...common, ...watched('main'), connection: main, lock: lock(main), rolledBack () {}, deadLetters: () => 0 }),
    log: new FileWriter({
      ...common,
      ...watched('log'),
      connection: log,
      lock: lock(log),
      reply: replyOrIndex,
      committed () {
        watches.log.committed()
        indexer.committed(appender.stored)
      },
      rolledBack () { appender.forgetTexts() },
      deadLetters: () => appender.deadLetters
    })
  }
  const indexer = new LogIndexer({ submit: step => { files.log.submit(OWN, step, null as never) }, now: Date.now, random: Math.random })
  const operations = new Map<string, [FileWriter, WriteOperation]>()
  for (const [name, operation] of Object.entries(mainOperations())) operations.set(name, [files.main, operation])
  for (const [name, operation] of Object.entries(logOperations(appender))) operations.set(name, [files.log, operation])

  // What needs no lock is answered while operations wait for one. Blocks are asked for at every start, for which no reader shall be started.
  const questions: Record<string, (params: never) => unknown> = {
    listBlocks: (params: { now: number }) => listBlocks(main, params),
    stats: () => ({ main: files.main.stats(), log: files.log.stats() }),
    connections: () => [main.report(busyTimeout), log.report(busyTimeout)],
    assertSame: () => { assertOpened(...FILES) }
  }
  const identityCheck = setInterval(() => {
    try {
      assertOpened(...FILES)
    } catch {
      // The main thread has been told.
    }
  }, IDENTITY_CHECK_MS).unref()

  return {
    handle ({ id, name, params }: WireRequest) {
      const found = operations.get(name)
      if (found !== undefined) found[0].submit(id, found[1], params as never)
      else answer(reply, id, () => questions[name]!(params as never), busyTimeout)
    },
    async stop (deadline) {
      indexer.stop()
      const until = now() + deadline
      while (files.main.waiting + files.log.waiting > 0 && now() < until) await sleep(1)
      await stopWatching()
      end(doormanError('DOORMAN_STORAGE_CLOSED'))
    }
  }

  function stopWatching (): Promise<unknown> {
    return Promise.all(FILES.map(file => watches[file].stop()))
  }

  function replyOrIndex (replies: WireReply[]): void {
    const own = replies.find(({ id }) => id === OWN)
    if (own === undefined) return reply(replies)
    indexer.settled(own.ok ? own.value as IndexerOutcome : undefined)
    // A failure may be that of everything that waits.
    if (replies.length > 1) reply(replies.filter(({ id }) => id !== OWN))
  }

  function end (error: DoormanError): void {
    indexer.stop()
    clearInterval(identityCheck)
    for (const file of FILES) {
      files[file].abandon(error)
      files[file].connection.close()
    }
  }

  /**
   * Files that are not ours any more: nothing is written from here on. The connections are closed at once, while those for reading are open:
   * SQLite's last connection to a file would copy the WAL back, and remove by its name whatever WAL is there now.
   */
  function assertOpened (...names: FileName[]): void {
    try {
      for (const name of names) opened[name].assertSame()
    } catch (error) {
      end(error as DoormanError)
      // The readers' connections are closed when the main thread learns of it.
      stopWatching().finally(() => { fail(error as DoormanError) })
      throw error
    }
  }
}

await runThread(startWriter)
