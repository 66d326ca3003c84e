/** `doorman doctor`, as a command. */
import t from 'tap'
import { runChild } from './child.js'

t.test('doctor on a sound database', async t => {
  const { code, stdout, stderr } = await runChild(t, 'cli.js', ['doctor', '--json'])
  t.equal(stderr, '')
  t.equal(code, 0)
  const { sound, verdict, findings } = JSON.parse(stdout)
  t.ok(sound)
  t.equal(verdict, 'The database is in order.')
  t.equal(findings.length, 6)
})

t.test('doctor on one that does not wait for locks: each check on a line, and exit code 1', async t => {
  const { code, stdout } = await runChild(t, 'cli.js', ['doctor'], { BUSY_TIMEOUT: '0ms' })
  t.equal(code, 1)
  t.match(stdout, /^(?:(?:ok {4}|FAILED) \S.* \(\d+ ms\)\n){6}Something is wrong: see the checks that failed\.\n$/)
  t.match(stdout, /^FAILED a foreign lock: The database stayed locked/m)
})
