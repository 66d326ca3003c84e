/** Appending when there is no space: nothing of the batch stays, and it can be sent again. */
import t, { type Test } from 'tap'
import { LogAppender } from '../../../storage/sqlite/log-writes.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { tempFile } from '../../helper.js'
import { ipRow, NOW } from '../contract.js'

async function setUp (t: Test) {
  const connection = await openFile({ path: tempFile(t), file: 'log', migrations: logMigrations, busyTimeout: 100 })
  t.teardown(() => connection.close())
  const limit = (pages: number) => connection.db.pragma(`max_page_count = ${pages}`)
  return { connection, appender: new LogAppender(connection), limit }
}

const big = Array.from({ length: 500 }, (_, i) => ipRow({ path: `/${i}${'x'.repeat(900)}` }))

for (const [how, rows] of [['at once', big], ['row by row, beside a bad row', [ipRow({ status: 1000 }), ...big]]] as const) {
  t.test(`no space, ${how}`, async t => {
    const { connection, appender, limit } = await setUp(t)
    limit(connection.number('page_count') + 5)
    connection.db.exec('BEGIN IMMEDIATE')
    t.throws(() => appender.append({ source: 's', seq: 1, at: NOW, rows: [...rows] }), { code: 'SQLITE_FULL' })
    if (connection.db.inTransaction) connection.db.exec('ROLLBACK')
    appender.forgetTexts()
    limit(1_000_000)
    t.match(appender.append({ source: 's', seq: 1, at: NOW, rows: [...rows] }), { deadLetters: rows.length - 500 })
    t.same(connection.get('SELECT count(*) AS n FROM ip_logs WHERE path IS NOT NULL'), { n: 500 })
  })
}
