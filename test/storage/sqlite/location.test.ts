/** Which files a URL means. */
import t from 'tap'
import { resolve } from 'node:path'
import { openStorage } from '../../../storage/open.js'
import { resolveLocation } from '../../../storage/sqlite/location.js'
import { recordingLogger } from '../../helper.js'

t.test('paths', async t => {
  t.same(resolveLocation('file:./data/doorman.db'), { main: resolve('data/doorman.db'), log: resolve('data/doorman-log.db') })
  t.same(resolveLocation('file:/srv/x'), { main: '/srv/x', log: '/srv/x-log' })
  t.same(resolveLocation('file:///srv/a%20b.db'), { main: '/srv/a b.db', log: '/srv/a b-log.db' })
  t.same(resolveLocation('file:a.db', 'file:/logs/b.db'), { main: resolve('a.db'), log: '/logs/b.db' })
})

t.test('refused, with what was expected and what came', async t => {
  for (const url of ['file:', 'file::memory:', ':memory:', 'doorman.db', 'file:a.db?mode=ro', 'file:a#b', 'file:dir/', 'file://host/x.db', 'file:a\0b']) {
    t.throws(() => resolveLocation(url), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /"file:" and a path/ }, url)
  }
  t.throws(() => resolveLocation('file:a.db', 'file:./a.db'), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /two different files/ })
})

t.test('other schemes are refused without showing a password', async t => {
  const options = { logUrl: null, busyTimeout: 1, maxPending: 1, log: recordingLogger() }
  await t.rejects(openStorage({ ...options, url: 'mysql://me:secret@host/db' }), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /mysql:\/\/\*\*\*@host/ })
})

t.test('a driver that is not installed says what to do', async t => {
  const options = { url: 'file:a.db', logUrl: null, busyTimeout: 1, maxPending: 1, log: recordingLogger() }
  const missing = Object.assign(new Error('Cannot find package \'better-sqlite3\'\nimported from x'), { code: 'ERR_MODULE_NOT_FOUND' })
  await t.rejects(openStorage(options, { sqlite: () => Promise.reject(missing) }), { code: 'DOORMAN_SQLITE_MISSING', message: /Cannot find package 'better-sqlite3'\. Install/ })
})
