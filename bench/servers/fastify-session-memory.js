/**
 * @fastify/session with its default store, in memory; with a row per request or without.
 *
 * Does not: keep sessions beyond the process or share them with another one, ever remove one from memory (its README says not to use it
 * in production). Its W3 is not durable. See also fastify-session.js.
 */
import fastifySession from '@fastify/session'
import { buildWithStore } from './fastify-session.js'
import { countOf, openDatabase } from './request-rows.js'

export async function build ({ directory, rows }) {
  const db = rows ? openDatabase(directory) : undefined
  // The store it makes by itself, made here so that its sessions can be counted.
  const sessions = new Map()
  const app = await buildWithStore({ store: new fastifySession.MemoryStore(sessions), db })
  app.addHook('onClose', () => { db?.close() })
  return { app, count: () => ({ rows: db === undefined ? null : countOf(db, 'request_rows'), sessions: sessions.size }) }
}
