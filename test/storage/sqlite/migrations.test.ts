/** Steps of the schema that change what is stored already: files of earlier versions are taken over with everything in them. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { createSessionId } from '../../../lib/token.js'
import type { Connection } from '../../../storage/sqlite/connection.js'
import type { Migration } from '../../../storage/sqlite/migrate.js'
import { openFile } from '../../../storage/sqlite/open-file.js'
import { findSession } from '../../../storage/sqlite/point-reads.js'
import { logMigrations } from '../../../storage/sqlite/schema-log.js'
import { mainMigrations } from '../../../storage/sqlite/schema-main.js'
import { findText, TextDictionary, textHash, textKey } from '../../../storage/sqlite/text-dictionary.js'
import { tempFile } from '../../helper.js'

const AT = Date.UTC(2026, 10, 23)
const DAY = Math.floor(AT / 86_400_000)

/** A file as a version with the first so many steps has left it, and as it is opened now. */
async function takeOver (file: 'main' | 'log', migrations: readonly Migration[], steps: number, fill: (before: Connection) => void): Promise<Connection> {
  const path = tempFile()
  const open = (some: readonly Migration[]) => openFile({ path, file, migrations: some, busyTimeout: 100 })
  const before = await open(migrations.slice(0, steps))
  fill(before)
  before.close()
  return await open(migrations)
}

t.test('sessions come into the order they began, with all they have', async t => {
  const hashes = Array.from({ length: 200 }, (_, i) => createHash('sha256').update(`token ${i}`).digest())
  const connection = await takeOver('main', mainMigrations, 3, before => {
    for (const [i, hash] of hashes.entries()) {
      before.run(`INSERT INTO sessions (token_hash, id, user_id, created_at, last_active_at, authenticated_at, rotated_at, expires_at, ip, last_ip, user_agent, last_user_agent, device, flagged, data)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, hash, `s-${i}`, `user-${i % 7}`, AT + i, AT + i + 1, AT + i + 2, AT + i + 3, AT + 86_400_000, `192.0.2.${i}`, `198.51.100.${i}`, 'one', 'two', 'Firefox', i % 2, `{"n":${i}}`)
    }
    before.run('DELETE FROM sessions WHERE id = ?', 's-199')
  })
  const rows = connection.all<{ id: string, rowid: number }>('SELECT rowid, * FROM sessions ORDER BY rowid')
  t.strictSame(rows.map(({ id }) => id), Array.from({ length: 199 }, (_, i) => `s-${i}`))
  t.strictSame(rows[5], {
    rowid: 6,
    token_hash: hashes[5],
    id: 's-5',
    user_id: 'user-5',
    created_at: AT + 5,
    last_active_at: AT + 6,
    authenticated_at: AT + 7,
    rotated_at: AT + 8,
    expires_at: AT + 86_400_000,
    ip: '192.0.2.5',
    last_ip: '198.51.100.5',
    user_agent: 'one',
    last_user_agent: 'two',
    device: 'Firefox',
    flagged: 1,
    data: '{"n":5}'
  })
  t.match(findSession(connection, hashes[17]!.toString('hex'), AT + 100), { state: 'live', session: { id: 's-17' } })

  const counter = () => connection.get<{ value: number }>('SELECT value FROM doorman_counters WHERE name = \'sessions\'')!.value
  const before = counter()
  t.equal(before, 1, 'to be taken over is no change')
  connection.run('UPDATE sessions SET last_active_at = last_active_at + 1')
  t.equal(counter(), before, 'nor is to be used')
  connection.run('UPDATE sessions SET flagged = 1 WHERE id = \'s-4\'')
  connection.run('DELETE FROM sessions WHERE id = \'s-4\'')
  t.equal(counter(), before + 2)
  for (const [condition, index] of [['token_hash = x\'00\'', 'sqlite_autoindex'], ['user_id = \'a\'', 'sessions_by_user'], ['last_active_at < 1', 'sessions_by_activity'], ['expires_at < 1', 'sessions_by_expiry'], ['last_ip = \'a\'', 'sessions_by_ip']] as const) {
    t.match(connection.get<{ detail: string }>(`EXPLAIN QUERY PLAN SELECT * FROM sessions WHERE ${condition}`)!.detail, new RegExp(index))
  }
  connection.close()
})

t.test('ids of sessions that are stored already are found by their time', async t => {
  const own = Array.from({ length: 50 }, (_, i) => createSessionId(randomBytes, AT + i))
  // Of a host that makes its own, beyond the year 2248, cut off; and a user who is called like a session.
  const others = ['7c9e6679-7425-40de-944b-e07fc1f90ae7', 's_1zzzzzzzzzzzzzzzzzzzzzzzzz', 's_08000000000000000000000000', 's_01kav', 's_01IKAV00000000000000000000']
  let ids: Record<string, number> = {}
  const connection = await takeOver('log', logMigrations, 3, before => {
    const store = (kind: number, text: string) => before.run('INSERT INTO texts (kind, hash, last_day, text) VALUES (?, ?, ?, ?)', kind, textHash(text), DAY, text).lastInsertRowid as number
    ids = Object.fromEntries([...own, ...others].map(text => [text, store(2, text)]))
    store(1, own[0]!)
  })
  for (const [text, id] of Object.entries(ids)) t.equal(findText(connection, 'session', text), id, text)
  t.not(findText(connection, 'user', own[0]!), ids[own[0]!])
  t.type(findText(connection, 'user', own[0]!), 'number')
  const dictionary = new TextDictionary(connection)
  t.equal(dictionary.ref('session', own[7]!, DAY), ids[own[7]!])
  t.equal(dictionary.ref('session', others[0]!, DAY), ids[others[0]!])
  for (const { text, hash } of connection.all<{ text: string, hash: number }>('SELECT text, hash FROM texts WHERE kind = 2')) t.equal(hash, textKey('session', text), text)
  connection.close()
})

t.test('ids of one time are neighbours, and seldom have the same key', async t => {
  const ids = Array.from({ length: 300 }, (_, i) => createSessionId(randomBytes, AT + Math.floor(i / 100)))
  const keys = ids.map(id => textKey('session', id))
  t.ok(Math.max(...keys.slice(0, 100)) < Math.min(...keys.slice(100, 200)), 'in the order of time')
  t.ok(keys.every(Number.isSafeInteger))
  t.ok(new Set(keys).size > 200, 'a thousand keys per millisecond')
  t.equal(textKey('user', ids[0]!), textHash(ids[0]!))
  t.equal(textKey('session', createSessionId(randomBytes, 2 ** 43 - 1)) > keys[0]!, true)
})
