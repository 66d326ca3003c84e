/** The command line: help, wrong usage, failures, and each command on a real database. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { holdLock } from '../storage/sqlite/hold-lock.js'
import { openStorage } from '../storage/open.js'
import type { SessionRecord } from '../storage/storage.js'
import { runChild, startChild } from './child.js'
import { tempDir } from './helper.js'

const quiet = { info () {}, warn () {}, error () {}, fatal () {} }

/** A folder with a database: one live session, one idle for too long, three requests from two addresses, and two blocks. */
async function withData (t: Test): Promise<string> {
  const dir = tempDir()
  const storage = await openStorage({ url: `file:${join(dir, 'data', 'doorman.db')}`, logUrl: null, busyTimeout: 10_000, maxPending: 100, log: quiet })
  const now = Date.now()
  for (const [id, userId, lastActiveAt] of [['s-live', 'alice', now], ['s-idle', 'bob', now - 25 * 3_600_000]] as const) {
    const session: SessionRecord = { id, userId, createdAt: lastActiveAt, lastActiveAt, authenticatedAt: lastActiveAt, rotatedAt: lastActiveAt, expiresAt: now + 86_400_000, ip: null, lastIp: '192.0.2.1', userAgent: null, lastUserAgent: null, device: null, flagged: false, data: '{"secret":1}' }
    await storage.createSession({ tokenHash: Buffer.alloc(32, id).toString('hex'), session, limit: null, now, idleBefore: 0 })
  }
  const row = { kind: 'ip' as const, ipSource: 'socket' as const, peerIp: null, peerPort: null, trustedHops: 0, method: 'GET', route: null, status: 200, durationUs: 5, userAgent: null, referer: null, sessionId: null, userId: null, requestId: null, outcome: 'replied' as const }
  await storage.appendLog({ source: 'test', seq: 1, at: now, rows: ['192.0.2.1', '192.0.2.2', '192.0.2.2'].map((ip, i) => ({ ...row, at: now - 1000 + i, ip, path: `/${i}` })) })
  await storage.addBlock({ id: 'b-open', cidr: '192.0.2.0/24', until: null, reason: 'scanner', createdAt: now })
  await storage.addBlock({ id: 'b-ends', cidr: '2001:db8::/32', until: now + 86_400_000, reason: null, createdAt: now - 1 })
  await storage.close(5000)
  return dir
}

const doorman = (t: Test, args: string[], env: Record<string, string> = {}, dir?: string) => runChild(t, 'cli.js', args, env, dir)

t.test('help', async t => {
  const general = await doorman(t, [])
  t.equal(general.code, 0)
  for (const name of ['serve', 'cleanup', 'backup FILE', 'sessions', 'ips', 'blocks', 'migrate --to URL', 'doctor', 'help']) t.match(general.stdout, `doorman ${name}`)
  t.notOk(existsSync('data'))
  t.equal((await doorman(t, ['help'])).stdout, general.stdout)
  t.equal((await doorman(t, ['-h'])).stdout, general.stdout)
  const one = await doorman(t, ['help', 'cleanup'])
  t.match(one.stdout, /^doorman cleanup \[--dry-run\] \[--json\]\n\nRuns the cleanup once\./)
  t.equal((await doorman(t, ['cleanup', '--help'])).stdout, one.stdout)
  t.equal((await doorman(t, ['backup', '-h'])).code, 0, 'no argument is needed to ask')
})

t.test('wrong usage: a hint, and exit code 2', async t => {
  for (const [args, message] of [
    [['clenup'], 'doorman: unknown command "clenup"; did you mean "cleanup"?\nSee "doorman help".\n'],
    [['constructor'], /unknown command "constructor"; known are serve, cleanup/],
    [['cleanup', '--dry-rn'], /unknown option "--dry-rn"; did you mean "--dry-run"\?/],
    [['cleanup', '-x'], /unknown option "-x"; known are --dry-run, --json, --help/],
    [['cleanup', '--dry-run=yes'], /does not take an argument/],
    [['sessions', '--user'], /argument missing/],
    [['cleanup', 'now'], /expected no argument; usage: doorman cleanup/],
    [['backup'], /expected FILE; usage: doorman backup FILE/],
    [['ips', '--limit', '501'], /--limit must be an integer from 1 to 500; got "501"/],
    [['sessions', '--limit', 'all'], /--limit must be/]
  ] as const) {
    const { code, stdout, stderr } = await doorman(t, [...args])
    t.equal(code, 2, args.join(' '))
    t.match(stderr, message)
    t.equal(stdout, '')
  }
})

t.test('a failure: its message, and exit code 1', async t => {
  const { code, stderr } = await doorman(t, ['ips'], { BUSY_TIMEOUT: 'long' })
  t.equal(code, 1)
  t.match(stderr, /^doorman: BUSY_TIMEOUT must be a duration/)
})

t.test('sessions, ips, cleanup, backup', async t => {
  const dir = await withData(t)
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await doorman(t, args, {}, dir)
    t.equal(stderr, '', args.join(' '))
    t.equal(code, 0)
    return stdout
  }
  const json = async (...args: string[]) => JSON.parse(await run(...args, '--json'))

  t.match(await run('sessions'), /^id +user +last active +address +device\ns-live +alice +20\S+Z +192\.0\.2\.1 +-\n$/)
  const sessions = await json('sessions', '--user', 'alice', '--limit', '5')
  t.match(sessions, { items: [{ id: 's-live', userId: 'alice' }] })
  t.notMatch(JSON.stringify(sessions), 'secret')
  t.strictSame(await json('sessions', '--user', 'carol'), { items: [] })

  t.match(await run('ips'), /^at +address +method +path +status\n.*192\.0\.2\.2 +GET +\/2 +200\n/)
  t.match(await run('ips', '--top'), /^address +requests +errors +last\n192\.0\.2\.2 +2 +0 +20\S+Z\n192\.0\.2\.1 +1 /)
  t.match(await json('ips', '--top', '--limit', '1'), { items: [{ value: '192.0.2.2', count: 2 }] })

  t.match(await run('cleanup', '--dry-run'), /^rows +to remove\nsessionsIdle +1\n/)
  t.match(await run('cleanup'), /sessionsIdle +1\n[^]*\d+ ms, complete\n$/)
  t.match(await json('cleanup'), { removed: { sessionsIdle: 0 } })

  const files = [join(dir, 'copy.db'), join(dir, 'copy-log.db')]
  t.equal(await run('backup', 'copy.db'), `${files.join('\n')}\n`)
  t.ok(files.every(file => existsSync(file)))
  const again = await doorman(t, ['backup', 'copy.db'], {}, dir)
  t.equal(again.code, 1)
  t.match(again.stderr, /^doorman: "file" must be a path where nothing exists yet/)
  const nowhere = await doorman(t, ['backup', 'missing/copy.db'], {}, dir)
  t.equal(nowhere.code, 1)
  t.match(nowhere.stderr, `doorman: The directory ${join(dir, 'missing')} cannot be written (ENOENT)`)
})

t.test('blocks: listed, and lifted for good', async t => {
  const dir = await withData(t)
  const listed = await doorman(t, ['blocks'], {}, dir)
  t.equal(listed.code, 0)
  t.match(listed.stdout, /^id +network +until +reason\n/)
  t.match(listed.stdout, /^b-open +192\.0\.2\.0\/24 +- +scanner$/m)
  t.match(listed.stdout, /^b-ends +2001:db8::\/32 +20\S+Z +-$/m)
  t.match(await doorman(t, ['blocks', '--remove', 'b-open'], {}, dir), { code: 0, stdout: 'The block b-open is lifted.\n', stderr: '' })
  t.match(await doorman(t, ['blocks', '--remove', 'b-open'], {}, dir), { code: 1, stdout: '', stderr: 'doorman: No such block\n' })
  t.strictSame(JSON.parse((await doorman(t, ['blocks', '--remove', 'b-ends', '--json'], {}, dir)).stdout), { removed: 'b-ends' })
  t.strictSame(JSON.parse((await doorman(t, ['blocks', '--json'], {}, dir)).stdout), { items: [] })
})

t.test('a cleanup that fails says so', async t => {
  const dir = await withData(t)
  t.teardown(holdLock(join(dir, 'data', 'doorman.db')))
  const { code, stdout } = await doorman(t, ['cleanup'], { BUSY_TIMEOUT: '0ms' }, dir)
  t.equal(code, 1)
  t.match(stdout, /ms, not complete: DOORMAN_STORAGE_BUSY\n$/)
})

t.test('serve is the server', async t => {
  const { output, process, ended } = startChild(t, 'cli.js', ['serve'])
  await output(/listens on http/)
  process.kill('SIGTERM')
  t.equal((await ended).code, 0)
})
