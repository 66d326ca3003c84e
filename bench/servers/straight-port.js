/**
 * The repair list of the incident the suite grew out of, ported line by line: one function that opens connections (timeout 30 s, WAL,
 * synchronous NORMAL, cache_size 10000, temp_store MEMORY), a connection per operation, every operation repeated with exponential
 * backoff, the row of the request on a connection of its own, inside the request.
 *
 * Does not: keep the event loop free (better-sqlite3 waits synchronously for a lock, up to 30 s), remove old rows in this benchmark (the hourly
 * cleanup of the repair would not come to it), hash tokens, list or limit sessions.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import { countOf, INSERT_ROW, ROWS_SCHEMA, rowOf } from './request-rows.js'
import { nextUser } from './users.js'

const IDLE_MS = 86_400_000
const ATTEMPTS = 5

export async function build ({ directory }) {
  const file = join(directory, 'app.db')
  const connect = () => {
    const db = new Database(file, { timeout: 30_000 })
    db.pragma('journal_mode = WAL')
    db.pragma('busy_timeout = 30000')
    db.pragma('synchronous = NORMAL')
    db.pragma('cache_size = 10000')
    db.pragma('temp_store = MEMORY')
    return db
  }
  /** One operation on a connection of its own, again after 100, 200, 400, … ms while the database is locked. */
  async function operation (work) {
    for (let attempt = 1; ; attempt++) {
      let db
      try {
        db = connect()
        return work(db)
      } catch (error) {
        if (attempt === ATTEMPTS || !String(error.code).startsWith('SQLITE_BUSY')) throw error
        await sleep(100 * 2 ** (attempt - 1))
      } finally {
        db?.close()
      }
    }
  }

  await operation(db => db.exec(`${ROWS_SCHEMA} CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, last_active_at INTEGER NOT NULL, ip TEXT, user_agent TEXT)`))

  const app = Fastify()
  app.decorateRequest('session', null)
  app.addHook('onResponse', (request, reply) =>
    operation(db => db.prepare(INSERT_ROW).run(...rowOf(request, reply, request.session?.token, request.session?.user_id))))

  async function requireSession (request, reply) {
    const token = /(?:^|; )sid=([^;]+)/.exec(request.headers.cookie ?? '')?.[1]
    const session = token && await operation(db => db.prepare('SELECT * FROM sessions WHERE token = ?').get(token))
    if (!session || session.last_active_at + IDLE_MS <= Date.now()) return reply.code(401).send({ error: 'no session' })
    await operation(db => db.prepare('UPDATE sessions SET last_active_at = ? WHERE token = ?').run(Date.now(), token))
    request.session = session
  }

  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { onRequest: requireSession }, () => ({ hello: 'world' }))
  app.post('/login', async (request, reply) => {
    const token = randomBytes(32).toString('base64url')
    const now = Date.now()
    await operation(db => db.prepare('INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)').run(token, nextUser(), now, now, request.ip, request.headers['user-agent'] ?? null))
    reply.header('set-cookie', `sid=${token}; Path=/; HttpOnly; SameSite=Lax`)
    return { ok: true }
  })
  return { app, count: () => operation(db => ({ rows: countOf(db, 'request_rows'), sessions: countOf(db, 'sessions') })) }
}
