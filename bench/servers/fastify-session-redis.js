/**
 * @fastify/session on Redis by connect-redis, as the latter's README shows it; with a row per request (in SQLite) or without. Redis is one of its
 * own on a Unix socket, the fastest way to it, with `appendonly yes` and `appendfsync everysec`: what the SQLite servers promise as
 * well, namely that a login survives the end of the process, and that a power failure can take the last ones.
 *
 * Does not: work without a second service, keep the writes of the rows off the event loop. See also fastify-session.js.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'
import { buildWithStore } from './fastify-session.js'
import { countOf, openDatabase } from './request-rows.js'

export async function build ({ directory, rows }) {
  const socket = join(directory, 'redis.sock')
  const redis = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--dir', directory, '--save', '', '--appendonly', 'yes', '--appendfsync', 'everysec'],
    { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve, reject) => {
    let said = ''
    redis.stdout.setEncoding('utf8').on('data', text => { if (/ready to accept connections/i.test(said += text)) resolve() })
    redis.once('exit', code => reject(new Error(`redis-server ended with ${code}: ${said}`)))
  })
  const client = createClient({ socket: { path: socket } })
  await client.connect()

  const db = rows ? openDatabase(directory) : undefined
  const app = await buildWithStore({ store: new RedisStore({ client, prefix: 'sess:' }), db })
  app.addHook('onClose', async () => {
    db?.close()
    await client.close()
    redis.kill()
    await once(redis, 'exit')
  })
  return {
    app,
    // Its processor time is part of what a request costs.
    helpers: [redis.pid],
    count: async () => ({ rows: db === undefined ? null : countOf(db, 'request_rows'), sessions: await client.dbSize() })
  }
}
