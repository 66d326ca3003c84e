/** A stand-in for the database plugin: a real queue in front of memory, so that tests see rows without files or threads. */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Clock } from '../../lib/clock.js'
import { createRowQueue, type RowQueue, type RowQueueOptions } from '../../lib/row-queue.js'
import type { ActivityRow, BlockRecord, IpLogRow, LogRow, Storage } from '../../storage/storage.js'

export interface FakeDatabase {
  rows: LogRow[]
  blocks: BlockRecord[]
  /** Rises with every change of blocks. */
  counter: number
  log: RowQueue<LogRow>
  /** Waits for what is queued and returns the requests' rows, oldest first. */
  ipRows (): Promise<IpLogRow[]>
  activityRows (): Promise<ActivityRow[]>
  /** Calls of reading operations: name and arguments. */
  calls: [string, ...unknown[]][]
  plugin: (fastify: FastifyInstance) => Promise<void>
}

export interface FakeOptions extends Partial<Pick<RowQueueOptions<LogRow>, 'limit' | 'wait' | 'commit'>> {
  clock?: Clock
  random?: () => number
  storage?: Partial<Storage>
}

export function fakeDatabase ({ limit = 1000, wait = 50, clock = Date.now, random = Math.random, commit, storage = {} }: FakeOptions = {}): FakeDatabase {
  const rows: LogRow[] = []
  const calls: FakeDatabase['calls'] = []
  const log = createRowQueue<LogRow>({
    name: 'log',
    limit,
    wait,
    batchSize: 100,
    linger: 0,
    clock,
    random,
    commit: commit ?? (async batch => { rows.push(...batch) })
  })
  const read = (name: string, result: unknown) => async (...args: unknown[]) => {
    calls.push([name, ...args])
    return result
  }
  const fake = {
    listIpLogs: read('listIpLogs', { items: [], next: null }),
    topIpLogs: read('topIpLogs', []),
    seriesIpLogs: read('seriesIpLogs', []),
    listActivity: read('listActivity', { items: [], next: null }),
    listBlocks: async () => [...db.blocks],
    async addBlock (block: BlockRecord) {
      db.blocks.push(block)
      db.counter++
    },
    async removeBlock (id: string) {
      const before = db.blocks.length
      db.blocks = db.blocks.filter(block => block.id !== id)
      db.counter++
      return db.blocks.length < before
    },
    changeCounter: () => db.counter,
    ...storage
  }
  const settled = async () => {
    await new Promise(resolve => setImmediate(resolve))
    await log.flush()
  }
  const db: FakeDatabase = {
    rows,
    blocks: [],
    counter: 0,
    log,
    calls,
    async ipRows () {
      await settled()
      return rows.filter(row => row.kind === 'ip')
    },
    async activityRows () {
      await settled()
      return rows.filter(row => row.kind === 'activity')
    },
    plugin: fp(async fastify => {
      fastify.decorate('database', { storage: fake as unknown as Storage, log, clock, random } as unknown as FastifyInstance['database'])
      fastify.addHook('onClose', async () => { await log.close(100) })
    }, { name: 'doorman-database', fastify: '5.x' })
  }
  return db
}
