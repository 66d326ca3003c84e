/** The main thread's side of a thread: every promise settles, whatever becomes of the thread. */
import t, { type Test } from 'tap'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { failedThreads, ThreadClient, type ThreadClientOptions } from '../../../storage/sqlite/thread-client.js'
import { recordingLogger, until } from '../../helper.js'

const script = new URL('./fixtures/thread.js', import.meta.url)

function client (t: Test, options: Partial<ThreadClientOptions> = {}, main = 'main') {
  const log = recordingLogger()
  const client = new ThreadClient({ name: 'writer', script, settings: { location: { main, log: 'log' }, busyTimeout: 100, identities: { main: undefined, log: undefined } }, maxPending: 10, log, ...options })
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

t.test('what cannot be sent fails alone', async t => {
  const thread = client(t)
  await thread.ready
  const settled = await Promise.allSettled([thread.run('echo', 1), thread.run('echo', Promise.resolve()), thread.run('echo', 3)])
  t.match(settled, [{ value: 1 }, { status: 'rejected', reason: { code: 'DOORMAN_SQL_INVALID', message: /could not be cloned/ } }, { value: 3 }])
  await t.rejects(thread.run('echo', () => {}), { code: 'DOORMAN_SQL_INVALID' })
  t.equal(thread.pending, 0)
})

t.test('what the thread says by itself', async t => {
  const notices: unknown[] = []
  const thread = client(t, { onNotice: notice => notices.push(notice) })
  thread.run('notify', { file: 'log', walBacklog: 5, stuck: true }).catch(() => {})
  await until(() => notices.length === 1)
  t.same(notices, [{ file: 'log', walBacklog: 5, stuck: true }])
  const deaf = client(t)
  deaf.run('notify', { file: 'log', walBacklog: 5, stuck: true }).catch(() => {})
  t.equal(await deaf.run('echo', 1), 1, 'nobody has to listen')
})

t.test('opening that fails', async t => {
  const thread = client(t, {}, 'refuse')
  await t.rejects(thread.ready, { code: 'DOORMAN_STORAGE_CORRUPT' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_STORAGE_CORRUPT' })
})

t.test('a thread that dies while opening for the first time is not started again', async t => {
  const thread = client(t, {}, 'die')
  await t.rejects(thread.ready, { code: 'DOORMAN_WRITER_DIED', message: /exit code 4/ })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_WRITER_DIED' })
  t.equal(thread.restarts, 0)
  t.same(failedThreads({ writer: thread, reader: { failed: undefined } }), ['the writer thread has failed (DOORMAN_WRITER_DIED)'])
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
  const givenUp: unknown[] = []
  const thread = client(t, { onGivenUp: error => givenUp.push(error) })
  for (let i = 0; i < 5; i++) await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_WRITER_DIED' })
  t.match(thread.failed, { code: 'DOORMAN_WRITER_DIED' })
  t.match(thread.log.lines.at(-1), { level: 'fatal', fields: { deaths: 5 }, message: 'the writer thread keeps dying: given up' })
  t.match(givenUp, [{ code: 'DOORMAN_WRITER_DIED' }])
  t.equal(givenUp.length, 1)
})

t.test('a thread that says itself that nothing can be done is not started again', async t => {
  const givenUp: unknown[] = []
  const errors: unknown[] = []
  const thread = client(t, { onGivenUp: error => givenUp.push(error), onError: error => errors.push(error) })
  await t.rejects(thread.run('fail', null), { code: 'DOORMAN_SQL_INVALID' })
  t.match(errors, [{ code: 'DOORMAN_SQL_INVALID' }], 'every error of a request is told')
  await t.rejects(thread.run('give up', null), { code: 'DOORMAN_STORAGE_REPLACED' })
  t.match(givenUp, [{ code: 'DOORMAN_STORAGE_REPLACED' }])
  t.match(thread.log.lines, [{ level: 'fatal', fields: { err: { code: 'DOORMAN_STORAGE_REPLACED' } } }])
  t.equal(await thread.close(1000), 0, 'it has ended')
  t.equal(thread.restarts, 0)
})

t.test('one that meets another file when it is started again is given up at once', async t => {
  const settings = { location: { main: 'main', log: 'log' }, busyTimeout: 100, identities: { main: undefined, log: undefined } }
  const givenUp: unknown[] = []
  const thread = client(t, { settings, onGivenUp: error => givenUp.push(error) })
  await thread.ready
  settings.location.main = 'replaced'
  await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_STORAGE_REPLACED' })
  t.match(givenUp, [{ code: 'DOORMAN_STORAGE_REPLACED' }])
  t.equal(thread.restarts, 1)
})

t.test('a new thread that cannot open is tried again; what waits for it settles either way', async t => {
  const settings = { location: { main: 'main', log: 'log' }, busyTimeout: 100, identities: { main: undefined, log: undefined } }
  const thread = client(t, { settings })
  await thread.ready
  settings.location.main = 'refuse'
  await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  const waiting = thread.run('echo', 'waited')
  await until(() => thread.restarts > 1)
  settings.location.main = 'main'
  t.equal(await waiting, 'waited', 'as soon as it can')

  settings.location.main = 'refuse'
  await t.rejects(thread.run('exit', null), { code: 'DOORMAN_WRITER_DIED' })
  await t.rejects(thread.run('echo', 1), { code: 'DOORMAN_STORAGE_CORRUPT' })
  t.match(thread.log.lines.at(-1), { level: 'fatal' })
})

t.test('a thread that dies while its client closes is not started again', async t => {
  const thread = client(t)
  await thread.ready
  const dying = thread.run('exit', null)
  const closed = thread.close(1000)
  await t.rejects(dying)
  await closed
  t.equal(thread.restarts, 0)

  const late = client(t)
  await late.ready
  await t.rejects(late.run('exit', null))
  await t.rejects(late.run('exit', null))
  t.equal(await late.close(10), 0, 'a start that waits for its turn does not happen')
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
  const never = stuck.run('spin', 900)
  const behind = stuck.run('echo', 1)
  t.equal(await stuck.close(10), 2, 'says how many were not carried out')
  await t.rejects(never, { code: 'DOORMAN_STORAGE_CLOSED' })
  await t.rejects(behind, { code: 'DOORMAN_STORAGE_CLOSED' })
  t.equal(await stuck.close(5000), 2, 'its late answers find nobody, and do no harm')
})

t.test('a thread at rest does not keep its process alive', async t => {
  const program = `
    import { ThreadClient } from ${JSON.stringify(new URL('../../../storage/sqlite/thread-client.js', import.meta.url).href)}
    const log = { info () {}, warn () {}, error () {}, fatal () {} }
    const thread = new ThreadClient({ name: 'writer', script: new URL(${JSON.stringify(script.href)}), settings: { location: { main: '', log: '' }, busyTimeout: 1 }, maxPending: 1, log })
    await thread.ready
    console.log(await thread.run('echo', 'done'))`
  const file = join(t.testdir({ 'program.mjs': program }), 'program.mjs')
  // Flags that a thread must not be given in a list of its own, and one that it must not inherit.
  for (const flags of [['--max-old-space-size=256', '--expose-gc', file], ['--input-type=module', '-e', program]]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, flags, { encoding: 'utf8', timeout: 30_000 })
    t.equal(stdout.trim(), 'done', stderr)
    t.equal(status, 0)
  }
})
