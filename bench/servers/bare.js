/** What everything is measured against: Fastify with the three routes and nothing else. No session is checked, nothing is stored. */
import Fastify from 'fastify'

export async function build () {
  const app = Fastify()
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', () => ({ hello: 'world' }))
  app.post('/login', () => ({ ok: true }))
  return { app, count: () => ({ rows: null, sessions: null }) }
}
