/** Appending when there is no space (nothing of the batch stays, and it can be sent again), and rows that end the transaction they are in. */
import t, { type Test } from 'tap'
import { packRows } from '../../../storage/sqlite/log-wire.js'
import { LogAppender } from '../../../storage/sqlite/log-writes.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { tempFile } from '../../helper.js'
import { ipRow, NOW } from '../contract.js'

async function setUp (t: Test) {
  const connection = await openFile({ path: tempFile(), file: 'log', migrations: logMigrations, busyTimeout: 100 })
  t.teardown(() => connection.close())
  const limit = (pages: number) => connection.db.pragma(`max_page_count = ${pages}`)
  return { connection, appender: new LogAppender(connection), limit }
}

const big = Array.from({ length: 500 }, (_, i) => ipRow({ path: `/${i}${'x'.repeat(900)}` }))

for (const [how, rows] of [['at once', big], ['row by row, beside a bad row', [ipRow({ status: 1000 }), ...big]]] as const) {
  t.test(`no space, ${how}`, async t => {
    const { connection, appender, limit } = await setUp(t)
    limit(connection.number('page_count') + 40)
    connection.db.exec('BEGIN IMMEDIATE')
    t.throws(() => appender.append({ source: 's', seq: 1, at: NOW, rows: packRows(rows) }), { code: 'SQLITE_FULL' })
    if (connection.db.inTransaction) connection.db.exec('ROLLBACK')
    appender.forgetTexts()
    limit(1_000_000)
    t.match(appender.append({ source: 's', seq: 1, at: NOW, rows: packRows(rows) }), { deadLetters: rows.length - 500 })
    t.same(connection.get('SELECT count(*) AS n FROM ip_logs WHERE path IS NOT NULL'), { n: 500 })
  })
}

t.test('a row that ends the transaction is found, set aside, and the others are stored', async t => {
  const { connection, appender } = await setUp(t)
  connection.db.exec(`
    CREATE TRIGGER rude BEFORE INSERT ON ip_log_rows WHEN NEW.method IN ('RUDE', 'ROUGH') BEGIN SELECT RAISE(ROLLBACK, 'not here'); END;
    CREATE TRIGGER polite BEFORE INSERT ON ip_log_rows WHEN NEW.method = 'POLITE' BEGIN SELECT RAISE(ABORT, 'please not'); END`)
  const rows = ['GET', 'POLITE', 'RUDE', 'GET', 'ROUGH', 'GET'].map(method => ipRow({ method }))
  const batch = { source: 's', seq: 1, at: NOW, rows: packRows(rows) }
  const attempt = () => {
    connection.db.exec('BEGIN IMMEDIATE')
    try {
      const result = appender.append(batch)
      connection.db.exec('COMMIT')
      return result
    } catch {
      return connection.db.inTransaction ? 'still open' : appender.again()
    }
  }
  const results = [attempt(), attempt(), attempt()]
  t.same(results, [true, true, { deadLetters: 3, duplicates: 0 }])
  t.equal(appender.again(), false, 'nothing was learned since')
  t.equal(appender.deadLetters, 3)
  t.same(connection.all('SELECT method FROM ip_logs ORDER BY id'), [{ method: 'GET' }, { method: 'GET' }, { method: 'GET' }])
  t.same(connection.all('SELECT reason, content ->> \'method\' AS method FROM dead_letters ORDER BY id'), [
    { reason: 'SQLITE_CONSTRAINT_TRIGGER: please not', method: 'POLITE' },
    { reason: 'SQLITE_CONSTRAINT_TRIGGER: not here', method: 'RUDE' },
    { reason: 'SQLITE_CONSTRAINT_TRIGGER: not here', method: 'ROUGH' }
  ])
})

t.test('a batch that begins with such a row', async t => {
  const { connection, appender } = await setUp(t)
  connection.db.exec('CREATE TRIGGER rude BEFORE INSERT ON ip_log_rows WHEN NEW.method = \'RUDE\' BEGIN SELECT RAISE(ROLLBACK, \'not here\'); END')
  const batch = { source: 's', seq: 1, at: NOW, rows: packRows([ipRow({ method: 'RUDE' }), ipRow()]) }
  const ends = () => {
    connection.db.exec('BEGIN IMMEDIATE')
    t.throws(() => appender.append(batch), { code: 'SQLITE_CONSTRAINT_TRIGGER' })
    return [connection.db.inTransaction, appender.again()]
  }
  t.same(ends(), [false, true], 'at once: some row does it')
  t.same(ends(), [false, true], 'row by row: this one')
  connection.db.exec('BEGIN IMMEDIATE')
  t.same(appender.append(batch), { deadLetters: 1, duplicates: 0 })
  connection.db.exec('COMMIT')
})
