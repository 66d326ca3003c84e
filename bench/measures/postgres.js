/**
 * Requests on PostgreSQL beside the same on SQLite and on bare Fastify: every workload, with one server process and with four. All servers are
 * up; each round has a short cell of each of the three, one right after the other, and the ratios are those within a round. The processes,
 * PostgreSQL and the load generator share all cores, since no fair share for a database can be cut out of a small machine.
 */
import pg from 'pg'
import { runCell } from '../harness/cell.js'
import { warmUp } from '../harness/compare.js'
import { startPostgres } from '../harness/postgres.js'
import { startServer } from '../harness/server.js'
import { median, summary } from '../harness/statistics.js'
import { logIn, workloads } from '../harness/workloads.js'
import { writeCookies } from '../load/generator.js'
import { inTable } from './figure.js'

const SIZES = [1, 4]
const SIDES = ['bare', 'sqlite', 'postgres']

export async function run ({ generator, rounds, milliseconds, connections, sessions, say }) {
  const database = await startPostgres()
  const running = []
  try {
    const groups = []
    for (const processes of SIZES) {
      say(`starting the servers with ${processes} ${processes === 1 ? 'process' : 'processes'}`)
      groups.push({ processes, servers: await startGroup({ database, processes, sessions, running }) })
    }
    const figures = []
    for (const workload of workloads) {
      const cell = async ({ server, cookies }) => {
        const result = await runCell({ server, workload, cookies, generator, connections, milliseconds, pinned: false })
        if (result.faults.length > 0) throw new Error(`${workload.id}: ${result.faults.join('; ')}`)
        return result
      }
      for (const { servers } of groups) for (const one of servers.values()) await warmUp(() => cell(one))
      const measured = groups.map(() => [])
      for (let round = 0; round < rounds; round++) {
        say(`${workload.id}, round ${round + 1} of ${rounds}`)
        for (const [i, { servers }] of groups.entries()) {
          const cells = {}
          for (const side of turned(round)) cells[side] = await cell(servers.get(side))
          measured[i].push(cells)
        }
      }
      for (const [i, { processes }] of groups.entries()) figures.push(...figuresOf(`${workload.id}, ${processes} ${processes === 1 ? 'process' : 'processes'}`, measured[i]))
    }
    for (const server of running) await server.stop()
    return withNote(figures, { generator, rounds, milliseconds, connections })
  } catch (error) {
    await Promise.all(running.map(server => server.kill()))
    throw error
  } finally {
    await database.stop()
  }
}

/** Who comes first changes with each round, and who comes after whom with every third. */
function turned (round) {
  const order = SIDES.map((_, i) => SIDES[(i + round) % SIDES.length])
  return Math.floor(round / SIDES.length) % 2 === 0 ? order : order.reverse()
}

/** The three servers with so many processes; what has been started is in `running`, also when the next one fails. */
async function startGroup ({ database, processes, sessions, running }) {
  const url = await makeDatabase(database.url, `processes_${processes}`)
  const options = { bare: { file: 'bare.js' }, sqlite: { file: 'doorman.js' }, postgres: { file: 'doorman.js', settings: { url } } }
  const servers = new Map()
  for (const side of SIDES) {
    const server = await startServer({ ...options[side], processes, pinned: false })
    running.push(server)
    const cookies = writeCookies(server.directory, await logIn(server, sessions))
    servers.set(side, { server: side === 'postgres' ? withDatabase(server, database) : server, cookies })
  }
  return servers
}

async function makeDatabase (url, name) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`CREATE DATABASE ${name}`)
  } finally {
    await client.end()
  }
  return new URL(name, url).href
}

/** What its requests cost the database's server is part of what they cost. */
const withDatabase = (server, database) => ({
  ...server,
  async usage () {
    const { cpuUs, mainUs } = await server.usage()
    return { cpuUs: cpuUs + database.cpuUs(), mainUs }
  }
})

const COLUMNS = { bare: 'bare Fastify', sqlite: 'SQLite', postgres: 'PostgreSQL' }

function figuresOf (row, rounds) {
  const rate = side => median(rounds.map(cells => cells[side].perSecond))
  const ratio = (side, other) => summary(rounds.map(cells => cells[side].perSecond / cells[other].perSecond))
  const cost = (side, what) => rounds.some(cells => cells[side][what] === null) ? null : median(rounds.map(cells => cells[side][what] / cells.bare[what]))
  return [
    ...SIDES.map(side => inTable(row, `${COLUMNS[side]}, requests/s`, rate(side), { unit: 'requests/s' })),
    ...[['sqlite', 'bare'], ['postgres', 'bare'], ['postgres', 'sqlite']].map(([side, other]) => {
      const spread = ratio(side, other)
      return inTable(row, `${COLUMNS[side]} to ${COLUMNS[other]}`, spread.median, { spread })
    }),
    ...['sqlite', 'postgres'].map(side => inTable(row, `${COLUMNS[side]}, processor`, cost(side, 'cpuUs'), { beside: cost(side, 'mainUs') }))
  ]
}

function withNote (figures, { generator, rounds, milliseconds, connections }) {
  const note = `Load by ${generator} on ${connections} connections; ${rounds} rounds with a cell of ${milliseconds} ms of each. Medians; ratios are those within a round, with quartiles in brackets. ` +
    'Server processes, PostgreSQL and the load generator share all cores. Processor time per request as a ratio to bare Fastify\'s: with all threads and the processes of PostgreSQL · of the main threads alone; less is better. ' +
    'A login is on PostgreSQL\'s disk before its reply (its own settings, fsync on); with SQLite it survives the end of the process (`synchronous = NORMAL`). Every row and every session was counted after each cell.'
  return figures.map((figure, i) => i === 0 ? { ...figure, note } : figure)
}
