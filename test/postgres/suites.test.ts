/**
 * The tests of the public surface a second time, on PostgreSQL: each file in a process of its own, as on SQLite, all on one server of the
 * newest major, and some of them on Debian's. Prints how many tests ran on which engine.
 */
import t from 'tap'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { textTable } from '../../lib/text-table.js'
import { DEBIAN_15, isInstalled, startPostgres, type PostgresServer } from './server.js'

const TESTS = new URL('../', import.meta.url)
const folder = (name: string) => readdirSync(new URL(name, TESTS)).filter(file => file.endsWith('.test.js')).map(file => `${name}/${file}`)

const FILES = [
  'mission.test.js', 'composition.test.js', 'retention.test.js', 'app.test.js', 'leaks.test.js', 'session-store.test.js',
  'plugins/abuse.test.js', 'plugins/database.test.js', 'plugins/doorman.test.js', 'plugins/sessions.test.js', 'plugins/session-ends.test.js', 'plugins/live-sessions.test.js',
  ...folder('routes'),
  // The page is about no engine.
  ...folder('conformance').filter(file => file !== 'conformance/page.test.js')
]
/** What shows best whether SQL and server get on. */
const FILES_FOR_DEBIAN = ['mission.test.js', 'retention.test.js']

t.jobs = 2
const debian = isInstalled(DEBIAN_15)
const [newest, older] = await Promise.all([startPostgres(), debian ? startPostgres({ bin: DEBIAN_15 }) : null])
// All at once: a test that has nothing left to do ends.
const runs = FILES.map(async file => {
  const results = await run(file, 'the newest major', newest)
  return { file, all: results?.count ?? 0, skipped: results?.skip ?? 0 }
})
if (older !== null) for (const file of FILES_FOR_DEBIAN) run(file, 'Debian\'s server', older)
else t.test('Debian\'s server', { skip: `there is none in ${DEBIAN_15}` }, async () => {})

t.test('tests per engine', async t => {
  const counts = await Promise.all(runs)
  const rows = counts.map(({ file, all, skipped }) => [file.replace('.test.js', ''), all, all - skipped, skipped])
  const sum = (column: number) => rows.reduce((total, row) => total + (row[column] as number), 0)
  t.comment(textTable(['', 'SQLite', 'PostgreSQL', 'about SQLite only'], [...rows, ['all', sum(1), sum(2), sum(3)]]))
  t.ok(counts.every(({ all, skipped }) => all > skipped), 'each file has tests for both')
})

function run (file: string, name: string, server: PostgresServer) {
  const env = { ...process.env, DOORMAN_TEST_ENGINE: 'postgres', DOORMAN_TEST_POSTGRES: server.url() }
  const path = fileURLToPath(new URL(file, TESTS))
  return t.spawn(process.execPath, [...process.execArgv, path], { env, buffered: true }, `${file.replace('.test.js', '')} on ${name} (${server.major})`)
}

t.teardown(() => Promise.all([newest.remove(), older?.remove()]))
