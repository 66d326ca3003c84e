/**
 * The row per request that peers leave: one table with what the suite's log holds and the same indexes, one shared connection in WAL mode,
 * one prepared INSERT after each reply. About the best that can be done on the event loop without batches.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'

/** The settings everybody recommends; the same durability as the suite's (`synchronous = NORMAL` in WAL mode). */
export function openDatabase (directory, name = 'app.db') {
  const db = new Database(join(directory, name), { timeout: 5000 })
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = NORMAL')
  return db
}

export const ROWS_SCHEMA = `
CREATE TABLE IF NOT EXISTS request_rows (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  ip TEXT,
  method TEXT NOT NULL,
  path TEXT NOT NULL,
  route TEXT,
  status INTEGER NOT NULL,
  duration_us INTEGER NOT NULL,
  user_agent TEXT,
  session_id TEXT,
  user_id TEXT,
  request_id TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS request_rows_by_time ON request_rows (at);
CREATE INDEX IF NOT EXISTS request_rows_by_ip ON request_rows (ip);
CREATE INDEX IF NOT EXISTS request_rows_by_user ON request_rows (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS request_rows_by_session ON request_rows (session_id) WHERE session_id IS NOT NULL;
`
export const INSERT_ROW = `INSERT INTO request_rows (at, ip, method, path, route, status, duration_us, user_agent, session_id, user_id, request_id)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

/** What one finished request of Fastify's leaves, in the order of INSERT_ROW. */
export function rowOf (request, reply, sessionId, userId) {
  const duration = reply.elapsedTime
  return [Math.round(Date.now() - duration), request.ip, request.method, request.url.split('?', 1)[0], request.routeOptions.url ?? null, reply.statusCode,
    Math.round(duration * 1000), request.headers['user-agent'] ?? null, sessionId ?? null, userId ?? null, request.id]
}

/**
 * Adds the row to a Fastify application.
 * @param {(request: import('fastify').FastifyRequest) => { sessionId?: string, userId?: string }} identify
 */
export function logRequests (app, db, identify) {
  db.exec(ROWS_SCHEMA)
  const insert = db.prepare(INSERT_ROW)
  app.addHook('onResponse', (request, reply, done) => {
    const { sessionId, userId } = identify(request)
    insert.run(...rowOf(request, reply, sessionId, userId))
    done()
  })
}

export const countOf = (db, table) => db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()
