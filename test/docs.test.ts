/** The documents against the code: error codes, options and their defaults, routes, metrics, commands, links, and the examples as printed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { errorCatalogue } from '../errors.js'
import { doorman } from '../index.js'
import { parseDuration } from '../lib/duration.js'
import { createSessionStore } from '../session-store.js'
import { startChild } from './child.js'
import { KEY, startApi } from './routes/helper.js'
import { tempFile } from './helper.js'

const PAGES = ['README.md', 'CHANGELOG.md', 'SECURITY.md', ...readdirSync('docs').map(name => `docs/${name}`)]
const read = (file: string) => readFileSync(file, 'utf8')
const readme = read('README.md')

/** Text without fenced code. */
const prose = (text: string) => text.replace(/^```[^]*?^```$/gm, '')
/** What stands under a heading, up to the next one of the same or a higher level. */
function section (text: string, heading: string): string {
  const start = text.indexOf(`\n${heading}\n`)
  if (start === -1) throw new Error(`no heading "${heading}"`)
  const level = /^#+/.exec(heading)![0].length
  const rest = text.slice(start + heading.length + 2)
  const end = rest.search(new RegExp(`^#{1,${level}} `, 'm'))
  return end === -1 ? rest : rest.slice(0, end)
}
/** Rows of all tables in a text, without heads: cells trimmed. */
const tables = (text: string): string[][][] =>
  [...text.matchAll(/^\|[^\n]*\n\| ---[^\n]*\n((?:\|[^\n]*\n)+)/gm)].map(([, rows]) => rows!.trim().split('\n').map(row => row.split(/(?<!\\)\|/).slice(1, -1).map(cell => cell.trim())))
/** The text in a cell's first code span. */
const code = (cell: string) => /`([^`]+)`/.exec(cell)?.[1]
const sorted = (list: readonly (string | undefined)[]) => [...list].sort()

// ---------------------------------------------------------------- errors

t.test('docs/errors.md and the catalogue are equal', async t => {
  const documented = tables(read('docs/errors.md')).flat()
  for (const cells of documented) t.equal(cells.length, 4, cells[0]!)
  t.strictSame(
    sorted(documented.map(([name, status]) => `${code(name!)} ${status}`)),
    sorted(Object.entries(errorCatalogue).map(([name, [status]]) => `${name} ${status}`)))
})

t.test('every code a document names exists', async t => {
  for (const page of PAGES) {
    for (const [name] of read(page).matchAll(/DOORMAN_[A-Z_]*[A-Z]\b/g)) t.ok(name in errorCatalogue, `${page}: ${name}`)
  }
})

// ---------------------------------------------------------------- links

/** Anchors of a page's headings, as GitHub makes them. */
function anchors (text: string): Set<string> {
  const seen = new Map<string, number>()
  return new Set([...prose(text).matchAll(/^#+ (.+)$/gm)].map(([, title]) => {
    const slug = title!.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replace(/ /g, '-')
    const before = seen.get(slug) ?? 0
    seen.set(slug, before + 1)
    return before === 0 ? slug : `${slug}-${before}`
  }))
}

t.test('every link inside the project leads somewhere', async t => {
  for (const page of PAGES) {
    for (const [, target] of prose(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target!)) continue
      const [path = '', anchor] = target!.split('#')
      const file = path === '' ? page : join(dirname(page), path)
      t.ok(existsSync(file), `${page}: ${target}`)
      if (anchor !== undefined) t.ok(anchors(read(file)).has(anchor), `${page}: ${target}`)
    }
  }
})

t.test('the README leads to every document and names what a newcomer needs', async t => {
  for (const file of [...PAGES.slice(1), '.env.example', 'LICENSE']) t.match(readme, `](${file}`, file)
  t.match(readme, /^npm ci && npm start\nnpm ci && npm test$/m)
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  for (const page of PAGES) {
    for (const [, script] of read(page).matchAll(/npm run ([\w:]+)/g)) t.ok(script! in scripts, `${page}: npm run ${script}`)
  }
})

t.test('docs/dependencies.md lists every dependency, with no other beside it', async t => {
  const manifest = JSON.parse(read('package.json')) as Record<'dependencies' | 'peerDependencies' | 'devDependencies', Record<string, string>>
  const page = read('docs/dependencies.md')
  const listed = (heading: string) => sorted(tables(section(page, heading))[0]!.map(([name]) => code(name!)))
  const peers = Object.keys(manifest.peerDependencies)
  t.strictSame(listed('## At run time'), sorted(Object.keys(manifest.dependencies)))
  t.strictSame(listed('## Peers'), sorted(peers))
  t.strictSame(listed('## For development'), sorted(Object.keys(manifest.devDependencies).filter(name => !peers.includes(name))))
})

// ---------------------------------------------------------------- options

const NONSENSE = { zzzzzzzzzzzzzzzz: 1 }
/** The names an option object knows, as its own error lists them. */
const known = (error: unknown) => / known are (.+)$/.exec((error as Error).message)![1]!.split(', ')

async function knownToPlugin (t: Test, part: string, nested?: string): Promise<string[]> {
  const given = nested === undefined ? NONSENSE : { [nested]: NONSENSE }
  const url = `file:${tempFile()}`
  const app = Fastify()
  t.teardown(() => app.close())
  const options = { database: { url, ...(part === 'database' ? given : {}) }, ...(part === 'database' ? {} : { [part]: given }) }
  return app.register(doorman, options as object).then(() => [], known)
}

const optionTables = (heading: string) => tables(section(readme, heading)).filter(rows => rows[0]!.length === 5)
const names = (rows: string[][]) => sorted(rows.map(([name]) => code(name!)))

for (const [part, nested] of [['database'], ['ipTracking', 'ignore'], ['sessions', 'cookie'], ['abuse', 'block'], ['activity'], ['cleanup'], ['metrics']] as const) {
  t.test(`the options of ${part} are those in the README`, async t => {
    const [own, inner] = optionTables(`### ${part}`)
    t.strictSame(names(own!), sorted(await knownToPlugin(t, part)))
    if (nested !== undefined) t.strictSame(names(inner!), sorted(await knownToPlugin(t, part, nested)))
    else t.equal(inner, undefined)
  })
}

t.test('the options of the session store are those in the README', async t => {
  const [own] = optionTables('## Other session plugins')
  try {
    createSessionStore(NONSENSE as never)
    t.fail('it should have refused')
  } catch (error) {
    t.strictSame(names(own!), sorted(known(error)))
  }
})

/** A default as a cell prints it, in the form the resolved options have. */
function fallback (cell: string): unknown {
  const text = code(cell)!
  const quoted = /^'(.*)'$/.exec(text)?.[1]
  return quoted === undefined ? JSON.parse(text) : parseDuration(quoted) ?? quoted
}

t.test('the defaults of sessions, abuse and cleanup are those in the README', async t => {
  const url = `file:${tempFile()}`
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(doorman, { database: { url } })
  for (const [heading, resolved] of [['### sessions', app.sessions.options], ['### abuse', app.abuse.options], ['### cleanup', app.cleanup.options]] as const) {
    const printed = new Map(optionTables(heading)[0]!.map(cells => [code(cells[0]!), cells[2]!]))
    for (const [name, value] of Object.entries<unknown>({ ...resolved })) t.equal(fallback(printed.get(name)!), value, `${heading}: ${name}`)
  }
})

// ---------------------------------------------------------------- names

t.test('the routes are those in the README', async t => {
  const { app } = await startApi(t)
  await app.ready()
  const paths = app.swagger().paths as Record<string, object>
  const routes = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map(method => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`))
  t.strictSame(sorted(tables(section(readme, '## Routes'))[0]!.map(([route]) => code(route!))), sorted(routes))
})

t.test('the decorators in the README exist', async t => {
  const { app } = await startApi(t)
  for (const [cell, members] of tables(section(readme, '## Decorators'))[0]!) {
    for (const [, owner, name] of cell!.matchAll(/`(fastify|request)\.(\w+)/g)) {
      t.ok(owner === 'fastify' ? app.hasDecorator(name!) : app.hasRequestDecorator(name!), `${owner}.${name}`)
    }
    const [, service] = /^`fastify\.(\w+)`$/.exec(cell!) ?? []
    if (service === undefined) continue
    const object = app[service as 'sessions'] as unknown as Record<string, unknown>
    for (const [, member] of members!.matchAll(/`(\w+)(?=[.(`])/g)) t.ok(member! in object, `${service}.${member}`)
  }
})

t.test('the metrics in docs/operations.md exist', async t => {
  const { app, admin } = await startApi(t)
  await app.cleanup.run()
  await admin('GET', '/admin/cleanup')
  const names = new Set([...(await app.metrics.render()).matchAll(/^# HELP (\w+)/gm)].map(([, name]) => name!))
  for (const [name] of read('docs/operations.md').matchAll(/\bdoorman_\w+/g)) {
    // Families without samples are left out: these have some only when something is wrong, or came too late for this text.
    t.ok(names.has(name) || name === 'doorman_degraded', name)
  }
  for (const name of names) t.match(read('docs/operations.md'), `\`${name}\``, `${name} is documented`)
})

t.test('the commands in the README are those of the program', async t => {
  const help = execFileSync(process.execPath, [...process.execArgv, new URL('../cli.js', import.meta.url).pathname, 'help'], { encoding: 'utf8', cwd: t.testdir() })
  const usages = [...help.matchAll(/^ {2}(doorman .+?) {2,}/gm)].map(([, usage]) => usage!)
  const printed = /^```text\n([^]*?)\n```$/m.exec(section(readme, '## Command line'))![1]!.split('\n')
  t.strictSame(sorted(printed), sorted(usages))
})

// ---------------------------------------------------------------- examples

t.test('the plugin example in the README runs as printed', async t => {
  const example = /^```js\n([^]*?)\n```$/m.exec(section(readme, '## As a plugin'))![1]!
  t.ok(example.includes("from 'fastify-doorman'"))
  // Within the project, where it finds fastify.
  const dir = t.testdir({
    'example.mjs': example
      .replace("'fastify-doorman'", JSON.stringify(new URL('../index.js', import.meta.url).href))
      .replace('file:./data/app.db', `file:${tempFile()}`)
      .replace('port: 3000', 'port: 0')
      .concat('\nexport { app }\n')
  })
  const { app } = await import(pathToFileURL(join(dir, 'example.mjs')).href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  t.equal((await app.inject('/me')).statusCode, 401)
  const login = await app.inject({ method: 'POST', url: '/login' })
  const [cookie = ''] = String(login.headers['set-cookie']).split(';')
  const me = await app.inject({ url: '/me', headers: { cookie } })
  t.match(me.json(), { userId: 'alice' })
})

t.test('the example of a program of one\'s own on the standalone API runs as printed', async t => {
  const example = /^```js\n([^]*?)\n```$/m.exec(section(readme, '## Routes'))![1]!
  const variables = { DATABASE_URL: `file:${tempFile()}`, API_KEYS: KEY, LOG_LEVEL: 'silent' }
  const dir = t.testdir({
    'example.mjs': example
      .replace("'fastify-doorman/app'", JSON.stringify(new URL('../app.js', import.meta.url).href))
      .replace('loadConfig()', `loadConfig(${JSON.stringify(variables)}, { file: null })`)
      .concat('\nexport { app }\n')
  })
  const { app } = await import(pathToFileURL(join(dir, 'example.mjs')).href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  t.same((await app.inject('/hello')).json(), { hello: 'world' })
})

/** Every key printed is in the reply, with a value of the same kind. */
function agrees (t: Test, printed: unknown, came: unknown, path: string) {
  if (Array.isArray(printed)) {
    t.ok(Array.isArray(came) && came.length >= printed.length, path)
    printed.forEach((item, i) => agrees(t, item, (came as unknown[])[i], `${path}.${i}`))
  } else if (typeof printed === 'object' && printed !== null) {
    for (const [key, value] of Object.entries(printed)) {
      t.ok(Object.hasOwn(came as object, key), `${path}.${key}`)
      agrees(t, value, (came as Record<string, unknown>)[key], `${path}.${key}`)
    }
  } else {
    t.equal(typeof came, typeof printed, path)
  }
}

const hasCurl = spawnSync('curl', ['--version']).status === 0 && spawnSync('bash', ['--version']).status === 0

t.test('the walk through the API works as printed', { skip: hasCurl ? false : 'curl and bash are not installed' }, async t => {
  const server = startChild(t, 'server.js', [], { API_KEYS: KEY, LOG_LEVEL: 'warn' })
  const [, URL] = await server.output(/listens on (\S+)/)
  const steps = [...section(readme, '## Walk through the API').matchAll(/^```sh\n(curl [^\n]+)\n```$(?:\n\n```json\n([^]*?)\n```)?/gm)]
  t.equal(steps.length, 9)
  // The first one is in use; the one a rotation gave takes its place when the reader has seen that the old one is dead.
  const tokens: string[] = []
  for (const [, command, printed] of steps) {
    const reply = execFileSync('bash', ['-c', command!], { encoding: 'utf8', env: { PATH: process.env.PATH, URL, KEY, TOKEN: tokens[0] } })
    if (printed === undefined) {
      t.equal(reply, '', command!)
      continue
    }
    const came = JSON.parse(reply) as Record<string, unknown>
    agrees(t, JSON.parse(printed), came, command!)
    if (typeof came.token === 'string') tokens.push(came.token)
    if (came.code === 'DOORMAN_SESSION_INVALID') tokens.shift()
  }
  server.process.kill()
  t.equal((await server.ended).code, 0)
})
