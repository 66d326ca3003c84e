/**
 * The log on PostgreSQL: batches as the queue sends them, one after the other, beside COPY of the same rows into the same table with the same
 * indexes, once in the same transactions and once in a single one; and how long the retention of two million rows takes.
 */
import { createHash } from 'node:crypto'
import pg from 'pg'
import { openStorage } from '../../dist/storage/open.js'
import { sweepAll, nothingRemoved } from '../../dist/lib/sweep-run.js'
import { startPostgres } from '../harness/postgres.js'
import { median } from '../harness/statistics.js'
import { USER_AGENT } from '../harness/workloads.js'
import { atLeast, atMost, plain } from './figure.js'
import { PER_VISITOR } from './suite.js'

const DAY_MS = 86_400_000
const PER_BATCH = 500
const DAYS = 40
const KEPT_DAYS = 30

export async function run ({ quick, say }) {
  const server = await startPostgres()
  const log = { info () {}, warn: (fields, message) => say(message), error: (fields, message) => say(message), fatal: (fields, message) => say(message) }
  const storage = await openStorage({ url: server.url, logUrl: null, busyTimeout: 30_000, maxPending: 1000, log })
  const client = new pg.Client({ connectionString: server.url })
  try {
    await client.connect()
    return [...await againstCopy(storage, client, { quick, say }), ...await retention(storage, client, { quick, say })]
  } finally {
    await client.end()
    await storage.close(5000)
    await server.stop()
  }
}

/** Rows of a usual service, as the suite makes them; all of today. */
function sampleRows (number, today) {
  return Array.from({ length: number }, (_, n) => {
    const visitor = Math.floor(n / PER_VISITOR)
    const address = visitor * 7919 % 65_536
    const signedIn = visitor % 2 === 0
    return {
      kind: 'ip',
      at: today + Math.floor(n / 10),
      ip: `10.${visitor % 16}.${address >> 8}.${address & 255}`,
      ipSource: 'socket',
      peerIp: null,
      peerPort: 40_000 + visitor % 20_000,
      trustedHops: 0,
      method: 'GET',
      path: `/articles/${n % 200}`,
      route: '/articles/:id',
      status: 200,
      durationUs: n % 40 * 1000,
      userAgent: USER_AGENT,
      referer: null,
      sessionId: signedIn ? `s_of_the_benchmark_${visitor}` : null,
      userId: signedIn ? `user-${visitor % 1000}` : null,
      requestId: `req-${n.toString(36)}`,
      outcome: 'replied'
    }
  })
}

const COPIED = {
  at: 'at',
  ip: 'ip',
  ip_source: 'ipSource',
  peer_ip: 'peerIp',
  peer_port: 'peerPort',
  trusted_hops: 'trustedHops',
  method: 'method',
  path: 'path',
  route: 'route',
  status: 'status',
  duration_us: 'durationUs',
  user_agent: 'userAgent',
  referer: 'referer',
  session_id: 'sessionId',
  user_id: 'userId',
  request_id: 'requestId',
  outcome: 'outcome'
}
const ESCAPES = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }
const field = value => value === null ? '\\N' : typeof value === 'string' ? value.replace(/[\\\t\n\r]/g, character => ESCAPES[character]) : value
const copyText = rows => rows.map(row => `${Object.values(COPIED).map(property => field(row[property])).join('\t')}\n`).join('')

/** COPY … FROM STDIN through the driver, which knows the protocol's messages but has no method for it. */
function copy (client, rows) {
  return new Promise((resolve, reject) => {
    let failure
    client.query({
      submit (connection) { connection.query(`COPY ip_logs (${Object.keys(COPIED)}) FROM STDIN`) },
      handleCopyInResponse (connection) {
        for (let i = 0; i < rows.length; i += PER_BATCH) connection.sendCopyFromChunk(Buffer.from(copyText(rows.slice(i, i + PER_BATCH))))
        connection.endCopyFrom()
      },
      handleError (error) { failure = error },
      handleReadyForQuery () { failure === undefined ? resolve() : reject(failure) },
      handleCommandComplete () {},
      handleRowDescription () {},
      handleDataRow () {}
    })
  })
}

async function againstCopy (storage, client, { quick, say }) {
  const rows = sampleRows(quick ? 10_000 : 100_000, Math.floor(Date.now() / DAY_MS) * DAY_MS)
  const batches = Array.from({ length: rows.length / PER_BATCH }, (_, i) => rows.slice(i * PER_BATCH, (i + 1) * PER_BATCH))
  const ways = {
    suite: async source => { for (const [i, batch] of batches.entries()) await storage.appendLog({ source, seq: i + 1, at: Date.now(), rows: batch }) },
    copyBatches: async () => { for (const batch of batches) await copy(client, batch) },
    copyOnce: () => copy(client, rows)
  }
  const rates = { suite: [], copyBatches: [], copyOnce: [] }
  const turns = quick ? 2 : 9
  // The first turn warms up. The order changes, so that nobody always comes after the same one.
  for (let turn = 0; turn <= turns; turn++) {
    for (const name of turn % 2 === 0 ? Object.keys(ways) : Object.keys(ways).reverse()) {
      await client.query('TRUNCATE ip_logs')
      await client.query('CHECKPOINT')
      const start = performance.now()
      await ways[name](`turn ${turn}`)
      const rate = rows.length / (performance.now() - start) * 1000
      const { rows: [{ stored }] } = await client.query('SELECT count(*)::int AS stored FROM ip_logs')
      if (stored !== rows.length) throw new Error(`${name} stored ${stored} of ${rows.length} rows`)
      if (turn > 0) rates[name].push(rate)
    }
    if (turn > 0) say(`turn ${turn} of ${turns}: ${Object.entries(rates).map(([name, all]) => `${name} ${Math.round(all.at(-1))}`).join(', ')} rows per second`)
  }
  const ratio = other => median(rates.suite.map((rate, i) => rate / rates[other][i]))
  const note = `${rows.length} rows of today in batches of ${PER_BATCH}, ${turns} turns, paired ratios; one connection, every COMMIT synced. COPY has its rows as text from the same objects.`
  return [
    atLeast('rows logged per second, to COPY in the same transactions', ratio('copyBatches'), 0.5, '', note),
    atLeast('rows logged per second, to one COPY of all rows', ratio('copyOnce'), 0.5),
    plain('rows per second, the suite', median(rates.suite)),
    plain('rows per second, COPY in the same transactions', median(rates.copyBatches)),
    plain('rows per second, one COPY', median(rates.copyOnce))
  ]
}

async function retention (storage, client, { quick, say }) {
  const perDay = quick ? 500 : 50_000
  const today = Math.floor(Date.now() / DAY_MS) * DAY_MS
  const before = today - KEPT_DAYS * DAY_MS
  const taken = []
  const deletions = []
  await client.query('TRUNCATE ip_logs')
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    await fill(storage, client, { today, perDay, round })
    const untouched = await fingerprint(client, before)
    const outcome = { removed: nothingRemoved(), freedPages: 0, complete: false }
    const cutoffs = { ...nothingRemoved(), ipLogs: before }
    const start = performance.now()
    await sweepAll({ storage, cutoffs, now: Date.now(), batchSize: 500, random: Math.random, monotonic: () => performance.now(), goOn: async () => true, place: { stoppedAt: null } }, outcome)
    taken.push((performance.now() - start) / 1000)
    const expected = perDay * (DAYS - KEPT_DAYS)
    if (outcome.removed.ipLogs !== expected) throw new Error(`${outcome.removed.ipLogs} rows were removed, not ${expected}`)
    deletions.push(await fingerprint(client, before) === untouched ? 0 : 1)
    say(`retention, round ${round + 1}: ${outcome.removed.ipLogs} of ${perDay * DAYS} rows in ${taken.at(-1).toFixed(2)} s`)
  }
  const all = await dropAll(storage, client, { today, perDay })
  const note = `${perDay * DAYS} rows of ${DAYS} days, of which ${KEPT_DAYS} are kept; a whole run of the cleanup with its pauses. Rows of kept days are compared by place, version and content.`
  return [
    atMost('retention, days that are over dropped', median(taken), 1, 's', note),
    atMost('retention, all of the 40 days dropped', all, 1, 's'),
    atMost('rounds in which a row of a kept day was touched', deletions.reduce((sum, n) => sum + n, 0), 0)
  ]
}

/** The days' partitions are made by a row each, the others follow by SQL. */
async function fill (storage, client, { today, perDay, round }) {
  await client.query('TRUNCATE ip_logs')
  const rows = sampleRows(DAYS, 0).map((row, i) => ({ ...row, at: today - (i + 1) * DAY_MS }))
  await storage.appendLog({ source: `fill ${round}`, seq: 1, at: Date.now(), rows })
  const columns = Object.keys(COPIED).filter(name => name !== 'at')
  await client.query(`INSERT INTO ip_logs (at, ${columns}) SELECT row.at + n, ${columns.map(name => `row.${name}`)} FROM (SELECT * FROM ip_logs) AS row, generate_series(1, ${perDay - 1}) AS n`)
  // As autovacuum has done long before days are that old.
  await client.query('VACUUM ANALYZE ip_logs')
}

async function fingerprint (client, from) {
  const { rows } = await client.query(`SELECT tableoid::text, count(*)::text, sum(hashtextextended(ctid::text || xmin::text || xmax::text || at || '-' || id || path, 0))::text AS sum
    FROM ip_logs WHERE at >= $1 GROUP BY 1 ORDER BY 1`, [from])
  return createHash('sha256').update(JSON.stringify(rows)).digest('hex')
}

/** Seconds for all of the days. */
async function dropAll (storage, client, { today, perDay }) {
  await fill(storage, client, { today, perDay, round: 'all' })
  const start = performance.now()
  let removed = 0
  for (let count = PER_BATCH; count >= PER_BATCH; removed += count) count = await storage.sweep({ target: 'ipLogs', before: today, limit: PER_BATCH, now: Date.now() })
  const seconds = (performance.now() - start) / 1000
  if (removed !== DAYS * perDay) throw new Error(`${removed} rows were removed, not ${DAYS * perDay}`)
  return seconds
}
