/**
 * Fills the suite's files with many rows, fast: rows it has written itself are copied with other keys, by SQL, so that they look like its own
 * whatever columns the schema has. Only for files that no server has open.
 */
import Database from 'better-sqlite3'
import { ask, feed, logFile, mainFile, openSuite, PER_VISITOR } from './suite.js'

const STEP = 1_000_000
const DAY_MS = 86_400_000
const IDS_PER_MS = 1024
const IDS_PER_HOUR = IDS_PER_MS * 3_600_000

/** Numbers from ? (included) to ? (excluded). */
const NUMBERS = 'WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)'

function open (file) {
  const db = new Database(file)
  db.pragma('synchronous = OFF')
  db.pragma('cache_size = -400000')
  return db
}

/** Columns of a table, each as the SQL in `changed` or as it is in `row`. */
function columns (db, table, changed) {
  const names = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).pluck().all()
  return { names: names.join(', '), values: names.map(name => changed[name] ?? `row.${name}`).join(', ') }
}

/** Inserts in steps with the indexes left out, and makes them at the end: sorted, which is many times faster. */
function insertMany (db, table, number, present, insert, say, end = () => {}) {
  const indexes = db.prepare('SELECT name, sql FROM sqlite_master WHERE type = \'index\' AND tbl_name = ? AND sql IS NOT NULL').all(table)
  const few = number < 10_000
  if (!few) for (const { name } of indexes) db.exec(`DROP INDEX ${name}`)
  for (let from = present; from < present + number; from += STEP) {
    insert(from, Math.min(from + STEP, present + number))
    say(`${table}: ${Math.min(from + STEP, present + number).toLocaleString('en-US')} rows`)
  }
  if (!few) for (const { sql } of indexes) db.exec(sql)
  end()
  db.exec('ANALYZE')
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
}

/** Live sessions up to `total`, ten per user. Makes the files where there are none. */
export async function fillSessions (directory, total, say) {
  const app = await openSuite(directory)
  if (ask(mainFile(directory), 'SELECT count(*) FROM sessions') === 0) await app.sessions.create({ userId: 'user-0', ip: '10.0.0.1', userAgent: 'curl/8.0' })
  await app.close()
  const present = ask(mainFile(directory), 'SELECT count(*) FROM sessions')
  if (present >= total) return
  const db = open(mainFile(directory))
  // Keys rise, so that pages fill in order, and are spread over the whole range, as hashes are.
  const { names, values } = columns(db, 'sessions', {
    token_hash: `unhex(printf('%08x', n * ${Math.floor((2 ** 32 - 1) / total)}) || hex(randomblob(28)))`,
    id: 'printf(\'s_%010d%s\', n, hex(randomblob(6)))',
    user_id: 'printf(\'user-%d\', n / 10)',
    created_at: 'row.created_at - n % 3600000',
    last_ip: 'printf(\'10.%d.%d.%d\', n / 65536 % 256, n / 256 % 256, n % 256)'
  })
  const insert = db.prepare(`${NUMBERS} INSERT INTO sessions (${names}) SELECT ${values} FROM numbers, (SELECT * FROM sessions LIMIT 1) AS row`)
  insertMany(db, 'sessions', total - present, present, (from, to) => insert.run(from, to), say)
}

/**
 * What is changed in a copied row of the log: time, and an address of a million. The copies take the place of a thousand rows in turn.
 * @param {string} at SQL for the time of row n
 */
function copyLog (db, at) {
  const { names, values } = columns(db, 'ip_log_rows', { id: `(${at}) * ${IDS_PER_MS}`, at_offset: '0', ip: `(10 << 24) + n / ${PER_VISITOR} * 7919 % 1000003` })
  db.exec(`DROP TABLE IF EXISTS temp.sample;
    CREATE TEMP TABLE sample AS SELECT row_number() OVER () - 1 AS sample_number, * FROM (SELECT * FROM ip_log_rows ORDER BY id DESC LIMIT 1000);
    CREATE UNIQUE INDEX temp.sample_by_number ON sample (sample_number)`)
  const size = db.prepare('SELECT count(*) FROM temp.sample').pluck().get()
  return db.prepare(`${NUMBERS} INSERT OR IGNORE INTO ip_log_rows (${names}) SELECT ${values} FROM numbers JOIN temp.sample AS row ON row.sample_number = n % ${size}`)
}

/** Rows of the log up to about `total`, spread over the 20 days before yesterday: within their retention. Makes the files where there are none. */
export async function fillLog (directory, total, say) {
  const app = await openSuite(directory)
  if (ask(logFile(directory), 'SELECT count(*) FROM ip_log_rows') === 0) await feed(app, 100)
  await app.close()
  const present = ask(logFile(directory), 'SELECT count(*) FROM ip_log_rows')
  if (present >= total) return
  const db = open(logFile(directory))
  const step = Math.max(1, Math.floor(20 * DAY_MS / total))
  const start = Date.now() - DAY_MS - total * step
  const insert = copyLog(db, `${start} + n * ${step}`)
  const idOf = n => (start + n * step) * IDS_PER_MS
  insertMany(db, 'ip_log_rows', total - present, present, (from, to) => {
    insert.run(from, to)
    addEntries(db, idOf(from), idOf(to))
  }, say, () => {
    addEntries(db, idOf(total), Number.MAX_SAFE_INTEGER)
    db.prepare('UPDATE log_counters SET value = (SELECT max(id) FROM ip_log_rows) WHERE name IN (\'indexed_until\', \'index_announced\')').run()
  })
}

/** What leads to the rows by address, user and session, as the suite adds it some seconds after them: in the order of its keys. */
function addEntries (db, from, to) {
  for (const [name, column] of [['ip', 'ip'], ['user', 'user_ref'], ['session', 'session_ref']]) {
    db.prepare(`INSERT OR IGNORE INTO ip_log_by_${name} (hour, key, rest) SELECT id / ${IDS_PER_HOUR}, ${column}, id % ${IDS_PER_HOUR}
      FROM ip_log_rows WHERE id >= ? AND id < ? AND ${column} IS NOT NULL ORDER BY 1, 2, 3`).run(BigInt(from), BigInt(to))
  }
}

/** Adds rows that the next cleanup has to remove, one per millisecond from `from` on. */
export function addOld (directory, number, from, say) {
  const db = open(logFile(directory))
  copyLog(db, `${from} + n`).run(0, number)
  say(`${number} rows past their retention`)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
}
