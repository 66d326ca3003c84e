/**
 * @fastify/secure-session: the session is an encrypted cookie, nothing is stored. The key is read from a buffer, the fast one of its two ways.
 * `touch` sends the cookie again on each use, which is how it keeps a session alive (and its only trace of the last use).
 *
 * Does not: revoke (a copied cookie works until it expires), list or limit sessions, log requests. Its W3 stores nothing.
 */
import { randomBytes } from 'node:crypto'
import secureSession from '@fastify/secure-session'
import Fastify from 'fastify'
import { nextUser } from './users.js'

export async function build () {
  const app = Fastify()
  await app.register(secureSession, { key: randomBytes(32), expiry: 86_400, cookie: { path: '/', httpOnly: true, sameSite: 'lax', maxAge: 86_400 } })
  const requireSession = (request, reply, done) => {
    if (request.session.get('user') === undefined) {
      reply.code(401).send({ error: 'no session' })
      return
    }
    request.session.touch()
    done()
  }
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', { preHandler: requireSession }, () => ({ hello: 'world' }))
  app.post('/login', request => {
    request.session.set('user', { id: nextUser() })
    return { ok: true }
  })
  return { app, count: () => ({ rows: null, sessions: null }) }
}
