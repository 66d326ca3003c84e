/** The main thread's side of a thread: every promise settles, whatever becomes of the thread. */
import t, { type Test } from 'tap'
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ThreadClient, threadHealth, type ThreadClientOptions } from '../../../storage/sqlite/thread-client.js'
import { recordingLogger, until } from '../../helper.js'

const script = new URL('./fixtures/thread.js', import.meta.url)

function client (t: Test, options: Partial<ThreadClientOptions> = {}, main = 'main') {
  const log = recordingLogger()
  const client = new ThreadClient({ name: 'writer', script, settings: { location: { main, log: 'log' }, busyTimeout: 100 }, maxPending: 10, log, ...options })
  t.teardown(() => client.close(100))
  return Object.assign(client, { log })
}

t.test('requests and answers', async t => {
  const thread = client(t)
  t.same(await Promise.all([thread.run('echo', 1), thread.run('echo', { two: [2] })]), [1, { two: [2] }])
  await t.rejects(thread.run('fail', null), { code: 'DOORMAN_SQL_INVALID', message: /bad params/ })
  t.equal(thread.pending, 0)
})

t.test('the number of waiting requests is bounded, except for those with a queue of their own', async t => {
  const thread = client(t, { maxPending: 2 })
  await thread.ready
  const first = [thread.run('echo', 1), thread.run('echo', 2)]
  await t.rejects(thread.run('echo', 3), { code: 'DOORMAN_QUEUE_FULL', statusCode: 503 })
  t.equal(await thread.run('echo', 4, true), 4)
  t.same(await Promise.all(first), [1, 2])
})

t.test('opening that fails', async t => {
  const thread = client(t, {}, 'refuse')
  await t.rejects(thread.ready, { code: 'DOORMAN_STORAGE_CORRUPT' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_STORAGE_CLOSED' })
})

t.test('a thread that dies while opening is not started again', async t => {
  const thread = client(t, {}, 'die')
  await t.rejects(thread.ready, { code: 'DOORMAN_WRITER_DIED', message: /exit code 4/ })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_WRITER_DIED' })
  t.equal(thread.restarts, 0)
  t.same(threadHealth({ writer: thread, reader: { failed: undefined } }), { status: 'degraded', reasons: ['the writer thread has failed'] })
})

for (const [how, name] of [['throws', 'throw'], ['exits', 'exit']] as const) {
  t.test(`a thread that ${how}: what waited fails with a code, a new one takes over`, async t => {
    const thread = client(t, name === 'exit' ? { name: 'reader' } : {})
    await thread.ready
    const code = name === 'exit' ? 'DOORMAN_READER_DIED' : 'DOORMAN_WRITER_DIED'
    await t.rejects(thread.run(name, null), { code, message: name === 'exit' ? /exit code 3/ : /thrown in the thread/ })
    t.equal(await thread.run('echo', 'again'), 'again')
    t.equal(thread.restarts, 1)
    t.match(thread.log.lines, [{ level: 'error', message: /starting another/ }])
  })
}

t.test('a thread that keeps dying is given up, loudly', async t => {
  const thread = client(t)
  for (let i = 0; i < 5; i++) await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_WRITER_DIED' })
  t.match(thread.failed, { code: 'DOORMAN_WRITER_DIED' })
  t.match(thread.log.lines.at(-1), { level: 'fatal', fields: { deaths: 5 } })
})

t.test('a thread that cannot be started again is given up', async t => {
  const settings = { location: { main: 'main', log: 'log' }, busyTimeout: 100 }
  const thread = client(t, { settings })
  await thread.ready
  settings.location.main = 'refuse'
  await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  await until(() => thread.failed !== undefined)
  t.match(thread.log.lines.at(-1), { level: 'fatal', message: /could not be started again/ })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_WRITER_DIED' })
})

t.test('closing: what was sent before is answered; a stuck thread is left after the deadline', async t => {
  const thread = client(t)
  await thread.ready
  const sent = thread.run('echo', 'before')
  t.equal(await thread.close(1000), 0)
  t.equal(await sent, 'before')
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_STORAGE_CLOSED' })

  const stuck = client(t)
  await stuck.ready
  const never = stuck.run('spin', 2500)
  const behind = stuck.run('echo', 1)
  t.equal(await stuck.close(10), 2, 'says how many were not carried out')
  await t.rejects(never, { code: 'DOORMAN_STORAGE_CLOSED' })
  await t.rejects(behind, { code: 'DOORMAN_STORAGE_CLOSED' })
})

t.test('a thread at rest does not keep its process alive', async t => {
  const program = `
    import { ThreadClient } from ${JSON.stringify(new URL('../../../storage/sqlite/thread-client.js', import.meta.url).href)}
    const log = { info () {}, warn () {}, error () {}, fatal () {} }
    const thread = new ThreadClient({ name: 'writer', script: new URL(${JSON.stringify(script.href)}), settings: { location: { main: '', log: '' }, busyTimeout: 1 }, maxPending: 1, log })
    await thread.ready
    console.log(await thread.run('echo', 'done'))`
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', timeout: 30_000, cwd: fileURLToPath(new URL('.', import.meta.url)) })
  t.equal(stdout.trim(), 'done')
  t.equal(status, 0)
})
