/**
 * The suite as the README registers it: every feature of the default configuration on (log of requests, sessions with last use, flag for
 * changed clients, trail of users, cleanup, metrics). Only settings differ between the servers made of it: `durability`, `replyBatching`, and `url` for PostgreSQL.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import { doorman } from '../../dist/index.js'
import { nextUser } from './users.js'

export async function build ({ directory, url, durability = 'queued', replyBatching = true, trustProxy = false }) {
  const app = Fastify({ trustProxy })
  await app.register(doorman, { database: { url: url ?? `file:${join(directory, 'doorman.db')}` }, ipTracking: { durability }, replyBatching })
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { config: { session: 'required' } }, () => ({ hello: 'world' }))
  app.post('/login', async (request, reply) => {
    const { token, session } = await app.sessions.create({ userId: nextUser(), ip: request.clientAddress, userAgent: request.headers['user-agent'] })
    app.setSessionCookie(reply, token, session)
    return { ok: true }
  })
  return {
    app,
    // Counted by a connection of its own, not by the suite's counters.
    async count () {
      await app.database.flush()
      return url === undefined ? countInFiles(directory) : countInPostgres(url)
    }
  }
}

const ROWS = 'SELECT count(*) FROM ip_logs'
const SESSIONS = 'SELECT count(*) FROM sessions'

function countInFiles (directory) {
  const one = (file, sql) => {
    const db = new Database(join(directory, file), { readonly: true })
    try {
      return db.prepare(sql).pluck().get()
    } finally {
      db.close()
    }
  }
  return { rows: one('doorman-log.db', ROWS), sessions: one('doorman.db', SESSIONS) }
}

async function countInPostgres (url) {
  // Only here: what the servers on SQLite cost must not have it in it.
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows: [{ rows, sessions }] } = await client.query(`SELECT (${ROWS})::int AS rows, (${SESSIONS})::int AS sessions`)
    return { rows, sessions }
  } finally {
    await client.end()
  }
}
