/**
 * How fast rows get into the file, and that the WAL stays small: a minute of rows as fast as the suite takes them, beside a minute of a plain bulk insert of
 * the rows it has stored, by better-sqlite3 in one process with nothing in between: the same table and settings, one prepared INSERT, the same rows per
 * transaction, no dictionary to look up and no thread to reach. It has the indexes that find the same rows (by address, user and session) as anybody would make
 * them; the suite fills tables for that later (docs/architecture.md). What the rows alone cost is shown beside it.
 */
import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { temporaryDirectory } from '../harness/server.js'
import { median } from '../harness/statistics.js'
import { atLeast, plain } from './figure.js'
import { feed, logFile, openSuite } from './suite.js'

const PER_TRANSACTION = 500
const MIB = 2 ** 20
/** Columns by which rows are found; users and sessions are not in every row. */
const INDEXES = ['(ip)', '(user_ref) WHERE user_ref IS NOT NULL', '(session_ref) WHERE session_ref IS NOT NULL']

const sizeOf = file => statSync(file, { throwIfNoEntry: false })?.size ?? 0

export async function run ({ quick, say }) {
  // A minute of each, in turns: what else the machine does meets both.
  const turns = quick ? 3 : 6
  const milliseconds = quick ? 1000 : 10_000
  const directory = temporaryDirectory()
  try {
    const app = await openSuite(directory)
    await feed(app, milliseconds / 2)
    const bulk = bulkInsert(logFile(directory), join(directory, 'plain.db'), INDEXES)
    const rowsAlone = bulkInsert(logFile(directory), join(directory, 'rows.db'), [])
    for (const plain of [bulk, rowsAlone]) plain.insert(milliseconds / 2)
    const rates = { suite: [], plain: [], rows: [] }
    const wal = []
    let looked = 0
    let rows = 0
    const watch = () => {
      if (performance.now() - looked < 100) return
      looked = performance.now()
      wal.push(sizeOf(`${logFile(directory)}-wal`) / MIB)
    }
    for (let turn = 0; turn < turns; turn++) {
      const fed = await feed(app, milliseconds, watch)
      rows += fed.rows
      rates.suite.push(fed.perSecond)
      rates.plain.push(bulk.insert(milliseconds))
      rates.rows.push(rowsAlone.insert(milliseconds / 2))
      say(`turn ${turn + 1} of ${turns}: ${Math.round(rates.suite.at(-1))} rows per second, plain ${Math.round(rates.plain.at(-1))}`)
    }
    bulk.close()
    rowsAlone.close()
    await app.close()
    // Bounded: what it reached in the first half is not exceeded in the second, or it is no more than a WAL is cut to.
    const half = wal.length >> 1
    const [first, second] = [Math.max(...wal.slice(0, half)), Math.max(...wal.slice(half))]
    const note = `${rows} rows in ${turns} turns of ${milliseconds / 1000} s, given in one process with no server between; paired ratios. The plain insert has nothing to look up: its rows hold the numbers of their texts already.`
    return [
      atLeast('rows per second, to a plain bulk insert', median(rates.suite.map((rate, i) => rate / rates.plain[i])), 0.6, '', note),
      plain('rows per second, the suite', median(rates.suite)),
      plain('rows per second, plain bulk insert', median(rates.plain)),
      plain('rows per second, plain bulk insert without any index', median(rates.rows)),
      { name: 'largest WAL', value: Math.max(...wal), unit: 'MiB', target: 'no larger in the second half (or ≤ 16 MiB)', met: second <= Math.max(16, first * 1.1) },
      plain('WAL, median', median(wal), 'MiB')
    ]
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** A file like the suite's log, and rows like those it holds, to be inserted again and again with ever later ids. */
function bulkInsert (from, to, indexes) {
  const source = new Database(from, { readonly: true })
  const target = new Database(to)
  target.pragma('journal_mode = WAL')
  target.pragma('synchronous = NORMAL')
  for (const sql of source.prepare('SELECT sql FROM sqlite_master WHERE tbl_name = \'ip_log_rows\' AND sql IS NOT NULL ORDER BY type DESC').pluck().all()) target.exec(sql)
  for (const [i, index] of indexes.entries()) target.exec(`CREATE INDEX by_${i} ON ip_log_rows ${index}`)
  const rows = source.prepare('SELECT * FROM ip_log_rows ORDER BY id LIMIT 100000').raw().all()
  source.close()
  const statement = target.prepare(`INSERT INTO ip_log_rows VALUES (${rows[0].map(() => '?').join(', ')})`)
  const key = target.prepare('SELECT cid FROM pragma_table_info(\'ip_log_rows\') WHERE pk = 1').pluck().get()
  const span = rows.at(-1)[key] - rows[0][key] + 1
  const transaction = target.transaction(batch => { for (const row of batch) statement.run(row) })
  let next = 0
  return {
    /** @returns rows per second */
    insert (milliseconds) {
      const start = performance.now()
      let done = 0
      while (performance.now() - start < milliseconds) {
        const batch = rows.slice(next, next + PER_TRANSACTION)
        transaction(batch)
        for (const row of batch) row[key] += span
        done += batch.length
        next = next + PER_TRANSACTION < rows.length ? next + PER_TRANSACTION : 0
      }
      return done / (performance.now() - start) * 1000
    },
    close () { target.close() }
  }
}
