/** The database plugin: options, registration, order of closing. */
import t from 'tap'
import Fastify from 'fastify'
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import database from '../../plugins/database.js'
import { databaseUrl, onlySqlite } from '../engine.js'
import { tempFile, until } from '../helper.js'
import { activityRow } from '../storage/contract.js'

t.test('opens at registration, closes last', onlySqlite(), async t => {
  const file = tempFile()
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
  const url = await databaseUrl()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(database, { url })
  await t.rejects(async () => { await app.register(database, { url }) }, { code: 'DOORMAN_ALREADY_REGISTERED' })
})

t.test('options are checked before anything is opened', onlySqlite(), async t => {
  const file = tempFile()
  const refused = async (options: object, expected: { code: string, message?: RegExp }) => {
    const app = Fastify()
    await t.rejects(async () => { await app.register(database, { url: `file:${file}`, ...options }) }, expected, JSON.stringify(options))
    await app.close()
  }
  await refused({ busytimeout: 5 }, { code: 'DOORMAN_OPTION_UNKNOWN', message: /did you mean "busyTimeout"/ })
  await refused({ busyTimeout: '30 seconds' }, { code: 'DOORMAN_OPTION_INVALID', message: /database\.busyTimeout.*duration.*"30 seconds"/ })
  await refused({ walBacklogLimit: 999 }, { code: 'DOORMAN_OPTION_INVALID', message: /database\.walBacklogLimit.*1000.*999/ })
  await refused({ clock: 5 }, { code: 'DOORMAN_OPTION_INVALID', message: /a function; got 5/ })
  await refused({ onFatal: true }, { code: 'DOORMAN_OPTION_INVALID', message: /database\.onFatal.*a function, or null; got true/ })
  await refused({ url: 'doorman.db' }, { code: 'DOORMAN_DATABASE_URL_INVALID' })
  t.notOk(existsSync(file))
})

t.test('when nothing can be stored any more, the host decides', onlySqlite('about files that are replaced'), async t => {
  const file = tempFile()
  const app = Fastify()
  const fatal: Error[] = []
  await app.register(database, { url: `file:${file}`, onFatal: error => { fatal.push(error) } })
  rmSync(file)
  await t.rejects(app.database.batch([{ sql: 'CREATE TABLE t (x)' }]), { code: 'DOORMAN_STORAGE_REPLACED' })
  await until(() => fatal.length > 0)
  t.match(fatal, [{ code: 'DOORMAN_STORAGE_REPLACED' }])
  t.equal(app.database.health().status, 'degraded')
  app.database.log.offer(activityRow())
  const start = performance.now()
  await t.rejects(app.close(), { code: 'DOORMAN_CLOSE_INCOMPLETE', message: /after 0 ms: 1 operations/, cause: { code: 'DOORMAN_STORAGE_REPLACED' } })
  t.ok(performance.now() - start < 5000, 'what cannot be stored is not waited for')
})

t.test('a host may go by what its operations reject with', onlySqlite('about files that are replaced'), async t => {
  const file = tempFile()
  const app = Fastify()
  await app.register(database, { url: `file:${file}`, onFatal: null })
  rmSync(file)
  await until(() => app.database.storage.failure !== undefined)
  await t.rejects(app.database.batch([{ sql: 'CREATE TABLE t (x)' }]), { code: 'DOORMAN_STORAGE_REPLACED' })
  await app.close()
})

t.test('a host that decides nothing is ended', onlySqlite('about files that are replaced'), async t => {
  const program = `
    import Fastify from ${JSON.stringify(import.meta.resolve('fastify'))}
    import { rmSync } from 'node:fs'
    import database from ${JSON.stringify(new URL('../../plugins/database.js', import.meta.url).href)}
    const app = Fastify()
    await app.register(database, { url: 'file:./host.db' })
    await app.listen({ port: 0 })
    rmSync('host.db')`
  const dir = t.testdir({ 'program.mjs': program })
  const { status, stderr } = spawnSync(process.execPath, [join(dir, 'program.mjs')], { cwd: dir, encoding: 'utf8', timeout: 30_000 })
  t.not(status, 0)
  t.match(stderr, /DOORMAN_STORAGE_REPLACED/)
})
