/**
 * express-session with better-sqlite3-session-store, both as their READMEs show them: `resave: false`, `saveUninitialized: false`, an id of its
 * own after the login. It touches the store on every request, which keeps the last use.
 *
 * Does not: keep the event loop free of writes and lock waits, prepare its statements once (the store prepares one per call), index or
 * list sessions by user, hash the ids it stores, remove old rows.
 */
import { createServer } from 'node:http'
import { once } from 'node:events'
import sqliteStore from 'better-sqlite3-session-store'
import express from 'express'
import session from 'express-session'
import { countOf, INSERT_ROW, openDatabase, ROWS_SCHEMA } from './request-rows.js'
import { nextUser } from './users.js'

const DAY = 86_400_000

export async function build ({ directory }) {
  const db = openDatabase(directory)
  db.exec(ROWS_SCHEMA)
  const insert = db.prepare(INSERT_ROW)
  const Store = sqliteStore(session)

  const app = express()
  app.disable('x-powered-by')
  app.use((request, response, next) => {
    const start = process.hrtime.bigint()
    const { method, path, ip } = request
    response.on('finish', () => {
      const userId = request.session?.user?.id ?? null
      const microseconds = Number((process.hrtime.bigint() - start) / 1000n)
      insert.run(Date.now() - Math.round(microseconds / 1000), ip, method, path, request.route?.path ?? null, response.statusCode, microseconds,
        request.headers['user-agent'] ?? null, userId === null ? null : request.sessionID, userId, null)
    })
    next()
  })
  app.use(session({
    store: new Store({ client: db, expired: { clear: true, intervalMs: 900_000 } }),
    secret: 'a secret of the benchmark, 32 characters',
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: DAY, sameSite: 'lax' }
  }))
  app.get('/anonymous', (request, response) => { response.json({ hello: 'world' }) })
  app.get('/authenticated', (request, response) => {
    if (request.session.user === undefined) response.status(401).json({ error: 'no session' })
    else response.json({ hello: 'world' })
  })
  // As the "user login" example of its documentation: regenerate, set, save before the reply.
  app.post('/login', (request, response, next) => {
    request.session.regenerate(error => {
      if (error) return next(error)
      request.session.user = { id: nextUser() }
      request.session.save(error => error ? next(error) : response.json({ ok: true }))
    })
  })

  const server = createServer(app)
  return {
    app: {
      async listen (options) {
        server.listen(options)
        await once(server, 'listening')
        return `http://127.0.0.1:${server.address().port}`
      },
      async close () {
        server.close()
        server.closeAllConnections()
        db.close()
      }
    },
    count: () => ({ rows: countOf(db, 'request_rows'), sessions: countOf(db, 'sessions') })
  }
}
