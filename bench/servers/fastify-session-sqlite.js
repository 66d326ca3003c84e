/**
 * @fastify/session on better-sqlite3-session-store (a store for express-session, which @fastify/session accepts), and a row per request.
 *
 * Does not: keep the event loop free of writes and lock waits, prepare the store's statements once. See also fastify-session.js.
 */
import { createRequire } from 'node:module'
import { buildWithStore } from './fastify-session.js'
import { countOf, openDatabase } from './request-rows.js'

const require = createRequire(import.meta.url)

export async function build ({ directory }) {
  const db = openDatabase(directory)
  const Store = require('better-sqlite3-session-store')(require('express-session'))
  const app = await buildWithStore({ store: new Store({ client: db, expired: { clear: true, intervalMs: 900_000 } }), db })
  app.addHook('onClose', () => { db.close() })
  return { app, count: () => ({ rows: countOf(db, 'request_rows'), sessions: countOf(db, 'sessions') }) }
}
