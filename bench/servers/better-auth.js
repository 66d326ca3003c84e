/**
 * better-auth on better-sqlite3 as its documentation shows it (`auth.api.getSession` in a hook, `auth.api.signInEmail` for the login), and a row per
 * request. The password is not hashed, by its documented option, since no server here checks one: scrypt would be all that W3 measures.
 * `updateAge` is 60 s, the suite's interval between two writes of the last use. Its cookie cache, which delays revocations, is off as by default.
 *
 * Does not: keep the event loop free of writes and lock waits, hash the tokens it stores. Its calls are asynchronous on a
 * synchronous driver.
 */
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { fromNodeHeaders } from 'better-auth/node'
import Fastify from 'fastify'
import { countOf, logRequests, openDatabase } from './request-rows.js'
import { nextUser, userNames } from './users.js'

const password = 'a password of the benchmark'
const emailOf = name => `${name}@bench.example`

export async function build ({ directory }) {
  const db = openDatabase(directory)
  const options = {
    database: db,
    baseURL: 'http://127.0.0.1',
    secret: 'a secret of the benchmark, 32 characters',
    emailAndPassword: { enabled: true, autoSignIn: false, password: { hash: async text => text, verify: async ({ hash, password }) => hash === password } },
    session: { expiresIn: 86_400, updateAge: 60 },
    telemetry: { enabled: false },
    logger: { disabled: true }
  }
  const { runMigrations } = await getMigrations(options)
  await runMigrations()
  const auth = betterAuth(options)
  for (const name of userNames) await auth.api.signUpEmail({ body: { name, email: emailOf(name), password } })

  const app = Fastify()
  app.decorateRequest('session', null)
  logRequests(app, db, ({ session }) => ({ sessionId: session?.id, userId: session?.userId }))
  async function requireSession (request, reply) {
    const found = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) })
    if (found === null) return reply.code(401).send({ error: 'no session' })
    request.session = found.session
  }
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { preHandler: requireSession }, () => ({ hello: 'world' }))
  app.post('/login', async (request, reply) => {
    const { headers } = await auth.api.signInEmail({ body: { email: emailOf(nextUser()), password }, headers: fromNodeHeaders(request.headers), returnHeaders: true })
    reply.header('set-cookie', headers.getSetCookie())
    return { ok: true }
  })
  app.addHook('onClose', () => { db.close() })
  return { app, count: () => ({ rows: countOf(db, 'request_rows'), sessions: countOf(db, 'session') }) }
}
