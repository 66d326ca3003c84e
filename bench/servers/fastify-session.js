/**
 * @fastify/session as its README and its authentication example show it, on the store it is given. `saveUninitialized: false`, so that visitors who
 * never log in leave no session; `rolling` (its default) keeps the last use: store and cookie are written on every request.
 *
 * Does not: list or limit sessions by user, keep the reason of a refusal, hash the ids it stores, remove old rows.
 */
import fastifyCookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import Fastify from 'fastify'
import { logRequests } from './request-rows.js'
import { nextUser } from './users.js'

const DAY = 86_400_000

/** @param {{ store?: object, db?: import('better-sqlite3').Database }} parts `db`: where the row per request goes; none: no rows */
export async function buildWithStore ({ store, db }) {
  const app = Fastify()
  await app.register(fastifyCookie)
  await app.register(fastifySession, {
    secret: 'a secret of the benchmark, 32 characters',
    store,
    saveUninitialized: false,
    cookie: { secure: false, sameSite: 'lax', maxAge: DAY }
  })
  if (db !== undefined) {
    logRequests(app, db, ({ session }) => session.user === undefined ? {} : { sessionId: session.sessionId, userId: session.user.id })
  }
  const requireSession = (request, reply, done) => {
    if (request.session.user === undefined) reply.code(401).send({ error: 'no session' })
    else done()
  }
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { preHandler: requireSession }, () => ({ hello: 'world' }))
  app.post('/login', async request => {
    request.session.user = { id: nextUser() }
    return { ok: true }
  })
  return app
}
