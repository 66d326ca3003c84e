/** The session store must not bring the suite's `request.session` along, which would collide with that of @fastify/session. Never run. */
import Fastify, { type FastifyRequest } from 'fastify'
import { createSessionStore } from 'fastify-doorman/session-store'

declare module 'fastify' {
  interface FastifyRequest { session: { user?: { id: string } } }
}

export const userOf = (request: FastifyRequest): string | undefined => request.session.user?.id
export const make = (database: Parameters<typeof createSessionStore>[0]['database']) => [Fastify(), createSessionStore({ database, idleTimeout: '24h' })]
