/**
 * The walls of docs/architecture.md, read from the source: who may import whom, who may touch the process, where SQL lives, and
 * that files stay small and say what they are for. Parsed with TypeScript, so that text in comments does not count.
 */
import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import ts from 'typescript'

const root = process.cwd()
const FOLDERS = ['plugins', 'routes', 'lib', 'storage']

/** Longest file. What is over it is several jobs in one. */
const MAX_LINES = 300

interface SourceFile {
  path: string
  text: string
  /** Module names as written; relative ones resolved to a path from the root, with the source's ending. */
  imports: string[]
  /** `process.x`, by whatever way: property access or import of node:process. */
  processUses: string[]
  /** Text of string literals and of the fixed parts of templates. */
  strings: string[]
}

function sourceFiles (): SourceFile[] {
  const top = readdirSync(root).filter(name => name.endsWith('.ts'))
  const nested = FOLDERS.flatMap(folder => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`))
  return [...top, ...nested.filter(name => name.endsWith('.ts'))].sort().map(parse)
}

function parse (path: string): SourceFile {
  const text = readFileSync(join(root, path), 'utf8')
  const file: SourceFile = { path, text, imports: [], processUses: [], strings: [] }
  const addImport = (name: string) => {
    file.imports.push(name.startsWith('.') ? relative(root, resolve(root, dirname(path), name)).replace(/\.js$/, '.ts') : name)
  }
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined && ts.isStringLiteral(node.moduleSpecifier)) {
      addImport(node.moduleSpecifier.text)
      if (/^(node:)?process$/.test(node.moduleSpecifier.text)) file.processUses.push('*')
      return
    }
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) addImport(node.argument.literal.text)
    if (ts.isCallExpression(node) && (node.expression.kind === ts.SyntaxKind.ImportKeyword || node.expression.getText() === 'require')) {
      const [name] = node.arguments
      if (name !== undefined && ts.isStringLiteral(name)) addImport(name.text)
    }
    // new URL('./thread.js', import.meta.url) loads a module as well.
    if (ts.isNewExpression(node) && node.expression.getText() === 'URL' && node.arguments?.[1]?.getText() === 'import.meta.url' && ts.isStringLiteral(node.arguments[0]!)) {
      addImport(node.arguments[0].text)
    }
    if (ts.isPropertyAccessExpression(node) && /^(globalThis\.)?process$/.test(node.expression.getText())) file.processUses.push(node.name.text)
    if (ts.isElementAccessExpression(node) && node.expression.getText() === 'process') file.processUses.push('*')
    if (ts.isVariableDeclaration(node) && node.initializer?.getText() === 'process') file.processUses.push('*')
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node)) file.strings.push(node.text)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true))
  return file
}

const files = sourceFiles()
/** Files of a folder that do what they must not, as "file: what". */
const offences = (applies: (path: string) => boolean, find: (file: SourceFile) => readonly string[]) =>
  files.filter(file => applies(file.path)).flatMap(file => find(file).map(what => `${file.path}: ${what}`))
const within = (folder: string) => (path: string) => path.startsWith(folder)
const not = (applies: (path: string) => boolean) => (path: string) => !applies(path)
const isPackage = (name: string, wanted: string) => name === wanted || name.startsWith(`${wanted}/`)
const isFastify = (name: string) => /^(fastify|@fastify\/|fastify-)/.test(name)
const DRIVERS = ['better-sqlite3', 'pg', 'pg-native', 'postgres', 'node:sqlite', 'sqlite3']

t.test('the files are found and read', async t => {
  const paths = files.map(file => file.path)
  for (const path of ['index.ts', 'app.ts', 'server.ts', 'cli.ts', 'config.ts', 'errors.ts', 'plugins/database.ts', 'lib/sessions.ts', 'storage/storage.ts', 'storage/sqlite/connection.ts', 'routes/sessions.ts']) {
    t.ok(paths.includes(path), path)
  }
  const parts = files.find(file => file.path === 'storage/sqlite/parts.ts')!
  for (const name of ['storage/storage.ts', 'storage/sqlite/connection.ts', 'storage/sqlite/writer-thread.ts']) t.ok(parts.imports.includes(name), name)
  const guards = files.find(file => file.path === 'storage/sqlite/guards.ts')!
  for (const name of ['better-sqlite3', 'node:fs', 'errors.ts']) t.ok(guards.imports.includes(name), name)
})

t.test('every import of a file of our own leads to one that is shipped', async t => {
  const paths = new Set(files.map(file => file.path))
  t.strictSame(offences(() => true, file => file.imports.filter(name => name.endsWith('.ts') && !paths.has(name))), [])
})

t.test('lib/ knows neither Fastify, nor a driver, nor who uses it, nor an engine', async t => {
  t.strictSame(offences(within('lib/'), file => file.imports.filter(name =>
    isFastify(name) || DRIVERS.some(driver => isPackage(name, driver)) || /^(plugins|routes)\//.test(name) || (name.startsWith('storage/') && name !== 'storage/storage.ts'))), [])
  t.strictSame(offences(within('lib/'), file => file.imports.filter(name => /^(app|server|cli|config|index|session-store)\.ts$/.test(name))), [])
})

t.test('storage/ knows neither Fastify nor anything above it; an engine is reached through storage/open.ts only', async t => {
  t.strictSame(offences(within('storage/'), file => file.imports.filter(name => isFastify(name) || /^(plugins|routes)\//.test(name))), [])
  const inEngine = /^storage\/[^/]+\//
  // cli.ts: the self-test holds a lock as a foreign program would.
  t.strictSame(offences(path => !inEngine.test(path) && path !== 'storage/open.ts', file => file.imports.filter(name => inEngine.test(name))), ['cli.ts: storage/sqlite/hold-lock.ts'])
  const engineOf = (path: string) => path.split('/')[1]
  t.strictSame(offences(path => inEngine.test(path), file => file.imports.filter(name => inEngine.test(name) && engineOf(name) !== engineOf(file.path))), [], 'engines do not know each other')
})

t.test('each driver is known to its engine alone', async t => {
  t.strictSame(offences(not(within('storage/sqlite/')), file => file.imports.filter(name => isPackage(name, 'better-sqlite3'))), [])
  t.strictSame(offences(not(within('storage/postgres/')), file => file.imports.filter(name => isPackage(name, 'pg'))), [])
  t.strictSame(offences(() => true, file => file.imports.filter(name => ['pg-native', 'postgres', 'node:sqlite', 'sqlite3'].some(driver => isPackage(name, driver)))), [])
})

t.test('the environment is read in config.ts, the process ends in server.ts and cli.ts', async t => {
  const uses = (name: string) => (file: SourceFile) => file.processUses.filter(use => use === name || use === '*')
  t.strictSame(offences(path => path !== 'config.ts', uses('env')), [])
  t.strictSame(offences(path => path !== 'server.ts' && path !== 'cli.ts', file => [...uses('exit')(file), ...uses('abort')(file), ...uses('kill')(file)]), [])
})

t.test('SQL is in the engines and nowhere else', async t => {
  const SQL = /\b(SELECT\s[\s\S]*\bFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|DROP|ALTER)\s+(TABLE|INDEX|VIEW|TRIGGER|UNIQUE|TEMP)|BEGIN\s+(IMMEDIATE|EXCLUSIVE|DEFERRED)|PRAGMA\s+\w|ON\s+CONFLICT|ORDER\s+BY|WHERE\s+\w+\s*[=<>])/
  const inEngine = /^storage\/[^/]+\//
  t.strictSame(offences(path => !inEngine.test(path), file => file.strings.filter(text => SQL.test(text))), [])
  t.ok(files.some(file => inEngine.test(file.path) && file.strings.some(text => SQL.test(text))), 'and would be noticed')
})

t.test('no checkpoint waits: one file has them all, and the modes that wait for readers are nowhere', async t => {
  const inEngine = within('storage/sqlite/')
  t.strictSame([...new Set(offences(() => true, file => file.strings.filter(text => /wal_checkpoint|wal_autocheckpoint =/i.test(text))))], [
    'storage/sqlite/checkpoint.ts: PRAGMA wal_checkpoint(', 'storage/sqlite/checkpoint.ts: wal_autocheckpoint = 0', 'storage/sqlite/checkpoint.ts: wal_checkpoint(TRUNCATE)',
    'storage/sqlite/connection.ts: wal_autocheckpoint = '
  ])
  t.strictSame(offences(inEngine, file => file.strings.filter(text => /\b(FULL|RESTART)\b/i.test(text))), [])
  const importers = files.filter(file => file.imports.includes('storage/sqlite/checkpoint.ts')).map(file => file.path)
  t.strictSame(importers, ['storage/sqlite/copy-back-thread.ts', 'storage/sqlite/wal-watch.ts', 'storage/sqlite/write-operations.ts'], 'only connections of the role writer, whose busy_timeout is 0, are given to it')
})

t.test('every file begins with what it is for', async t => {
  t.strictSame(files.filter(file => !/^(#![^\n]*\n)?\/\*\*(?!\/)\s*[^\s*]|^(#![^\n]*\n)?\/\*\*\s*\n \* \S/.test(file.text)).map(file => file.path), [])
})

t.test('no file is too long', async t => {
  const lines = (file: SourceFile) => file.text.trimEnd().split('\n').length
  t.strictSame(files.filter(file => lines(file) > MAX_LINES).map(file => `${file.path}: ${lines(file)} lines`), [])
})
