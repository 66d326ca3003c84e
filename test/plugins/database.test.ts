/** The database plugin: options, registration, order of closing. */
import t from 'tap'
import Fastify from 'fastify'
import { existsSync } from 'node:fs'
import database from '../../plugins/database.js'
import { tempFile } from '../helper.js'

t.test('opens at registration, closes last', async t => {
  const file = tempFile(t)
  const app = Fastify()
  await app.register(database, { url: `file:${file}`, clock: () => 5 })
  t.ok(existsSync(file))
  t.equal(app.database.clock(), 5)
  app.addHook('onClose', async app => { t.same(app.database.health(), { status: 'ok' }, 'still open when others close') })
  await app.close()
  await t.rejects(app.database.batch([{ sql: 'SELECT 1' }]), { code: 'DOORMAN_STORAGE_CLOSED' })
  t.notOk(existsSync(`${file}-wal`))
})

t.test('twice on one instance is refused', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const url = `file:${tempFile(t)}`
  await app.register(database, { url })
  await t.rejects(async () => { await app.register(database, { url }) }, { code: 'DOORMAN_ALREADY_REGISTERED' })
})

t.test('options are checked before anything is opened', async t => {
  const file = tempFile(t)
  const refused = async (options: object, expected: { code: string, message?: RegExp }) => {
    const app = Fastify()
    await t.rejects(async () => { await app.register(database, { url: `file:${file}`, ...options }) }, expected, JSON.stringify(options))
    await app.close()
  }
  await refused({ busytimeout: 5 }, { code: 'DOORMAN_OPTION_UNKNOWN', message: /did you mean "busyTimeout"/ })
  await refused({ busyTimeout: '30 seconds' }, { code: 'DOORMAN_OPTION_INVALID', message: /database\.busyTimeout.*duration.*"30 seconds"/ })
  await refused({ clock: 5 }, { code: 'DOORMAN_OPTION_INVALID', message: /a function; got 5/ })
  await refused({ url: 'doorman.db' }, { code: 'DOORMAN_DATABASE_URL_INVALID' })
  t.notOk(existsSync(file))
})
