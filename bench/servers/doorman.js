/**
 * The suite as the README registers it: every feature of the default configuration on (log of requests, sessions with last use, flag for
 * changed clients, trail of users, cleanup, metrics). Of the settings only `durability` differs between the two servers made of it.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import { doorman } from '../../dist/index.js'
import { nextUser } from './users.js'

export async function build ({ directory, durability = 'queued', trustProxy = false }) {
  const app = Fastify({ trustProxy })
  await app.register(doorman, { database: { url: `file:${join(directory, 'doorman.db')}` }, ipTracking: { durability } })
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { config: { session: 'required' } }, () => ({ hello: 'world' }))
  app.post('/login', async (request, reply) => {
    const { token, session } = await app.sessions.create({ userId: nextUser(), ip: request.clientAddress, userAgent: request.headers['user-agent'] })
    app.setSessionCookie(reply, token, session)
    return { ok: true }
  })
  return {
    app,
    // Counted in the files by a connection of its own, not by the suite's counters.
    async count () {
      await app.database.flush()
      const one = (file, sql) => {
        const db = new Database(join(directory, file), { readonly: true })
        try {
          return db.prepare(sql).pluck().get()
        } finally {
          db.close()
        }
      }
      return { rows: one('doorman-log.db', 'SELECT count(*) FROM ip_logs'), sessions: one('doorman.db', 'SELECT count(*) FROM sessions') }
    }
  }
}
