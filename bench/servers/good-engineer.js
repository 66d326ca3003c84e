/**
 * What a good engineer writes by hand: one shared connection, statements prepared once, tokens stored hashed, per request one SELECT and one
 * UPDATE of the session and one INSERT of the row.
 *
 * Does not: keep the event loop free of writes and lock waits, batch them, keep the reason of a refusal, limit sessions per user,
 * remove anything.
 */
import { createHash, randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { countOf, logRequests, openDatabase } from './request-rows.js'
import { nextUser } from './users.js'

const IDLE_MS = 86_400_000
const hash = token => createHash('sha256').update(token).digest()

export async function build ({ directory }) {
  const db = openDatabase(directory)
  db.exec(`CREATE TABLE IF NOT EXISTS sessions (token_hash BLOB PRIMARY KEY, id TEXT NOT NULL, user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, last_active_at INTEGER NOT NULL, ip TEXT, user_agent TEXT) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user_id)`)
  const find = db.prepare('SELECT id, user_id, last_active_at FROM sessions WHERE token_hash = ?')
  const touch = db.prepare('UPDATE sessions SET last_active_at = ? WHERE token_hash = ?')
  const create = db.prepare('INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)')

  const app = Fastify()
  app.decorateRequest('session', null)
  logRequests(app, db, ({ session }) => ({ sessionId: session?.id, userId: session?.user_id }))

  function requireSession (request, reply, done) {
    const token = /(?:^|; )sid=([^;]+)/.exec(request.headers.cookie ?? '')?.[1]
    const key = token === undefined ? undefined : hash(token)
    const session = key && find.get(key)
    const now = Date.now()
    if (!session || session.last_active_at + IDLE_MS <= now) {
      reply.code(401).send({ error: 'no session' })
      return
    }
    touch.run(now, key)
    request.session = session
    done()
  }

  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { onRequest: requireSession }, () => ({ hello: 'world' }))
  app.post('/login', (request, reply) => {
    const token = randomBytes(32).toString('base64url')
    const now = Date.now()
    create.run(hash(token), randomBytes(16).toString('base64url'), nextUser(), now, now, request.ip, request.headers['user-agent'] ?? null)
    reply.header('set-cookie', `sid=${token}; Path=/; HttpOnly; SameSite=Lax`)
    return { ok: true }
  })
  app.addHook('onClose', () => { db.close() })
  return { app, count: () => ({ rows: countOf(db, 'request_rows'), sessions: countOf(db, 'sessions') }) }
}
