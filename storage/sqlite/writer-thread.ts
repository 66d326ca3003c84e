/** The writer thread: the only read-write connections of the process, one per file, each with its own queue and lock wait. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { doormanError } from '../../errors.js'
import type { FileName } from './connection.js'
import { FileWriter, type FileWriterOptions, type WriteOperation } from './file-writer.js'
import { LogAppender } from './log-writes.js'
import { openFile } from './open-file.js'
import type { ThreadSettings, WireRequest } from './protocol.js'
import { logMigrations } from './schema-log.js'
import { mainMigrations } from './schema-main.js'
import { answer, runThread, type Post, type ThreadService } from './thread-shell.js'
import { WalWatch } from './wal-watch.js'
import { logOperations, mainOperations } from './write-operations.js'

await runThread(startWriter)

async function startWriter ({ location, busyTimeout, walBacklogLimit }: ThreadSettings, { reply, notify }: Post): Promise<ThreadService> {
  const now = () => performance.now()
  const main = await openFile({ path: location.main, file: 'main', migrations: mainMigrations, busyTimeout })
  const log = await openFile({ path: location.log, file: 'log', migrations: logMigrations, busyTimeout }).catch((error: unknown) => {
    main.close()
    throw error
  })
  const appender = new LogAppender(log)
  const common: Pick<FileWriterOptions, 'busyTimeout' | 'reply' | 'now' | 'random'> = { busyTimeout, reply, now, random: Math.random }
  const watches = { main: new WalWatch({ connection: main, notify, limit: walBacklogLimit }), log: new WalWatch({ connection: log, notify, limit: walBacklogLimit }) }
  const files: Record<FileName, FileWriter> = {
    main: new FileWriter({ ...common, connection: main, rolledBack () {}, committed () { watches.main.committed() }, deadLetters: () => 0 }),
    log: new FileWriter({ ...common, connection: log, rolledBack () { appender.forgetTexts() }, committed () { watches.log.committed() }, deadLetters: () => appender.deadLetters })
  }
  const operations = new Map<string, [FileWriter, WriteOperation]>()
  for (const [name, operation] of Object.entries(mainOperations())) operations.set(name, [files.main, operation])
  for (const [name, operation] of Object.entries(logOperations(appender))) operations.set(name, [files.log, operation])

  // Questions about the thread itself need no lock, so they are answered while operations wait for one.
  const questions: Record<string, () => unknown> = {
    stats: () => ({ main: files.main.stats(), log: files.log.stats() }),
    connections: () => [main.report(busyTimeout), log.report(busyTimeout)]
  }

  return {
    handle ({ id, name, params }: WireRequest) {
      const found = operations.get(name)
      if (found !== undefined) found[0].submit(id, found[1], params as never)
      else answer(reply, id, questions[name]!, busyTimeout)
    },
    async stop (deadline) {
      const end = now() + deadline
      while (files.main.waiting + files.log.waiting > 0 && now() < end) await sleep(1)
      const error = doormanError('DOORMAN_STORAGE_CLOSED')
      files.main.abandon(error)
      files.log.abandon(error)
      watches.main.stop()
      watches.log.stop()
      main.close()
      log.close()
    }
  }
}
