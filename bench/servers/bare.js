/** What everything is measured against: Fastify with the three routes and nothing else. No session is checked, nothing is stored. `batching` adds one plugin of the suite. */
import Fastify from 'fastify'

export async function build ({ batching = false } = {}) {
  const app = Fastify()
  // Loaded here, so that the start and the memory of the others are Fastify's own.
  if (batching) await app.register((await import('../../dist/index.js')).replyBatching)
  app.get('/anonymous', () => ({ hello: 'world' }))
  app.get('/authenticated', () => ({ hello: 'world' }))
  app.post('/login', () => ({ ok: true }))
  return { app, count: () => ({ rows: null, sessions: null }) }
}
