/** The API on a fresh database, with a clock that the test moves. */
import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { buildApp } from '../../app.js'
import { loadConfig } from '../../config.js'
import { databaseUrl } from '../engine.js'

export const KEY = 'test-key-test-key-test-key-test-key'
export const START = Date.parse('2026-03-01T12:00:00.000Z')

export type Api = Awaited<ReturnType<typeof startApi>>

/** @param env variables besides DATABASE_URL and API_KEYS */
export async function startApi (t: Test, env: Record<string, string> = {}) {
  let now = START
  const config = loadConfig({ DATABASE_URL: await databaseUrl(), API_KEYS: KEY, LOG_LEVEL: 'silent', ...env }, { file: null })
  const app = await buildApp(config, { clock: () => now })
  t.teardown(() => app.close())

  async function send (method: string, url: string, body?: unknown, headers: Record<string, string> = {}, more: Partial<InjectOptions> = {}) {
    const reply = await app.inject({ method: method as 'GET', url, headers, ...(body === undefined ? {} : { payload: body as object }), ...more })
    return { status: reply.statusCode, body: parse(reply), headers: reply.headers, reply }
  }

  return {
    app,
    config,
    send,
    /** A request with the API key. */
    admin: (method: string, url: string, body?: unknown) => send(method, url, body, { authorization: `Bearer ${KEY}` }),
    /** A request with a session's token. */
    as: (token: string, method: string, url: string, body?: unknown) => send(method, url, body, { authorization: `Bearer ${token}` }),
    async login (userId = 'alice', more: object = {}): Promise<{ token: string, session: Record<string, unknown> & { id: string } }> {
      return (await send('POST', '/sessions', { userId, ...more }, { authorization: `Bearer ${KEY}` })).body
    },
    advance (ms: number) { now += ms }
  }
}

// Replies are looked at with matchers, so their type says nothing here.

function parse (reply: LightMyRequestResponse): any {
  return String(reply.headers['content-type']).startsWith('application/json') ? reply.json() : reply.body
}
