/** URLs of PostgreSQL: what is read from them, and that nothing of a password is ever said. */
import t from 'tap'
import { writeFileSync } from 'node:fs'
import { openStorage } from '../../../storage/open.js'
import { isPostgresUrl, maskPassword, readPostgresUrl } from '../../../storage/postgres/location.js'
import { recordingLogger, tempFile } from '../../helper.js'

t.test('the whole of a URL', async t => {
  t.strictSame(readPostgresUrl('postgres://me:p%40ss%2Fw@one:5433,two,[2001:db8::1]:6000/door%20man?application_name=api&connect_timeout=3&connections=4&statement_timeout=90000&options=-csearch_path%3Dx&target_session_attrs=any&pgbouncer=true'), {
    hosts: [{ host: 'one', port: 5433 }, { host: 'two', port: 5432 }, { host: '2001:db8::1', port: 6000 }],
    user: 'me',
    password: 'p@ss/w',
    database: 'door man',
    tls: false,
    applicationName: 'api',
    connectTimeout: 3000,
    connections: 4,
    statementTimeout: 90_000,
    options: '-csearch_path=x',
    writable: false,
    pooled: true,
    name: 'door man',
    where: 'one:5433, two:5432, [2001:db8::1]:6000'
  })
})

t.test('what is left out', async t => {
  t.match(readPostgresUrl('postgresql://'), {
    hosts: [{ host: 'localhost', port: 5432 }], user: undefined, password: undefined, database: undefined, tls: false, applicationName: 'fastify-doorman', connectTimeout: 10_000, connections: 10, statementTimeout: null, writable: true, pooled: false, name: '', where: 'localhost:5432'
  })
  t.match(readPostgresUrl('postgres://me@db'), { user: 'me', name: 'me', password: undefined })
  t.match(readPostgresUrl('postgres:///doorman?host=/run/postgresql'), { hosts: [{ host: '/run/postgresql', port: 5432 }], where: '/run/postgresql' })
  t.match(readPostgresUrl('postgres://%2Frun%2Fpostgresql/doorman'), { hosts: [{ host: '/run/postgresql' }] })
  t.equal(readPostgresUrl('postgres:///x?target_session_attrs=primary').writable, true)
})

t.test('TLS', async t => {
  const file = tempFile('root.pem')
  writeFileSync(file, 'certificate')
  const tls = (query: string) => readPostgresUrl(`postgres://h/d?${query}`).tls
  t.equal(tls('sslmode=disable'), false)
  t.match(tls('sslmode=require'), { rejectUnauthorized: false, ca: undefined })
  t.match(tls(`sslmode=require&sslrootcert=${file}`), { rejectUnauthorized: true, ca: Buffer.from('certificate') }, 'as libpq: with a root certificate it is checked')
  const chainOnly = tls('sslmode=verify-ca')
  t.match(chainOnly, { rejectUnauthorized: true })
  t.equal(chainOnly !== false && chainOnly.checkServerIdentity?.('other.example', {} as never), undefined, 'whoever the certificate names')
  t.match(tls(`sslmode=verify-full&sslcert=${file}&sslkey=${file}`), { rejectUnauthorized: true, checkServerIdentity: undefined, cert: Buffer, key: Buffer })
  t.throws(() => tls('sslmode=require&sslrootcert=/nowhere.pem'), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /a file that can be read as sslrootcert; got "\/nowhere\.pem" \(ENOENT\)/ })
})

t.test('wrong ones say what is wrong, never the password', async t => {
  for (const [url, message] of [
    ['postgres://me:hunter2@h:x/d', /hosts as HOST:PORT, separated by commas; got "h:x"/],
    ['postgres://me:hunter2@h:0/d', /HOST:PORT/],
    ['postgres://me:hunter2@h:70000/d', /HOST:PORT/],
    ['postgres://me:hunter2@[::1/d', /HOST:PORT/],
    ['postgres://me:hunter2@a@b/d', /percent-encoded; got "postgres:\/\/\*\*\*@b\/d"/],
    ['postgres://me:hunt/er2@b/d', /percent-encoded/],
    ['postgres://me:%hunter2@b/d', /percent-encoded where .*; got a % without two digits/],
    ['postgres://h/d?sslmode=prefer', /one of disable, require, verify-ca, verify-full as sslmode; got "prefer"/],
    ['postgres://h/d?target_session_attrs=standby', /one of any, read-write, primary/],
    ['postgres://h/d?connections=0', /an integer from 1 to 1000 as connections; got "0"/],
    ['postgres://h/d?connect_timeout=soon', /an integer from 1 to 600/],
    ['postgres://h/d?password=hunter2', /without parameters other than sslmode.*; got "password"/],
    ['postgres://h/d#x', /percent-encoded/]
  ] as const) {
    t.throws(() => readPostgresUrl(url), { code: 'DOORMAN_DATABASE_URL_INVALID', message }, url)
    try {
      readPostgresUrl(url)
    } catch (error) {
      t.notMatch((error as Error).message, /hunt|er2/, url)
    }
  }
})

t.test('masked', async t => {
  t.equal(maskPassword('postgres://me:a@b/c@host/db?x=1'), 'postgres://***@host/db?x=1')
  t.equal(maskPassword('postgres://host/db?password=hunter2&sslpassword=hunter3&x=1'), 'postgres://host/db?password=***&sslpassword=***&x=1')
  t.equal(maskPassword('file:x.db'), 'file:x.db')
  t.ok(isPostgresUrl('postgres:// '))
  t.notOk(isPostgresUrl('file:postgres://'))
})

t.test('what the storage refuses before it connects', async t => {
  const options = { url: 'postgres://me:hunter2@127.0.0.1:1/d', logUrl: null, busyTimeout: 0, maxPending: 1, log: recordingLogger() }
  await t.rejects(openStorage({ ...options, logUrl: 'postgres://me:hunter2@h/log' }), { code: 'DOORMAN_OPTION_INVALID', message: /"logUrl" must be left out with PostgreSQL.*; got "postgres:\/\/\*\*\*@h\/log"/ })
  const missing = Object.assign(new Error('Cannot find package \'pg\'\nRequire stack: …'), { code: 'ERR_MODULE_NOT_FOUND' })
  await t.rejects(openStorage(options, { postgres: () => Promise.reject(missing) }), { code: 'DOORMAN_POSTGRES_MISSING', message: /Cannot find package 'pg'\. Install it beside fastify-doorman \(npm install pg\)/ })
  await t.rejects(openStorage({ ...options, url: 'mysql://me:hunter2@h/d' }), { code: 'DOORMAN_DATABASE_URL_INVALID', message: /or postgres:.*got "mysql:\/\/\*\*\*@h\/d"/ })
})
