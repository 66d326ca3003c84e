#!/usr/bin/env node
/**
 * The `doorman` command: the server, and what an operator does beside it on the same configuration. Results go to standard
 * output (with --json one JSON text), complaints to standard error. Exit codes: 0 done, 1 failed or something found, 2 wrong
 * usage. Only this file and server.ts end the process.
 */
import { parseArgs, type ParseArgsConfig } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { loadConfig, type Config } from './config.js'
import { doormanError } from './errors.js'
import { runDoctor, type Finding } from './lib/doctor.js'
import { migrationText } from './lib/migration-report.js'
import { runMigration } from './lib/migration.js'
import { nearest } from './lib/options.js'
import { createProgress } from './lib/progress.js'
import { textTable } from './lib/text-table.js'
import cleanup from './plugins/cleanup.js'
import database from './plugins/database.js'
import { openMigration, openStorage } from './storage/open.js'

type OptionsConfig = NonNullable<ParseArgsConfig['options']>

interface Command {
  usage: string
  summary: string
  details: string
  options: OptionsConfig
  /** Names of the positional arguments. */
  args: readonly string[]
  run (given: Given): Promise<number>
}
interface Given { values: Record<string, string | boolean | undefined>, args: string[], json: boolean }

class UsageError extends Error {}

const iso = (ms: number) => new Date(ms).toISOString()

const LIMIT = { limit: { type: 'string' } } as const

const commands: Record<string, Command> = {
  serve: {
    usage: 'doorman serve',
    summary: 'start the API',
    details: 'Starts the standalone API, as "npm start" does. Stop it with SIGTERM or Ctrl-C.',
    options: {},
    args: [],
    async run () {
      await import('./server.js')
      return 0
    }
  },
  cleanup: {
    usage: 'doorman cleanup [--dry-run]',
    summary: 'remove what is older than its retention, now',
    details: 'Runs the cleanup once. --dry-run only counts what would go. Works beside a running server.',
    options: { 'dry-run': { type: 'boolean' } },
    args: [],
    run: ({ values, json }) => withDatabase(async app => {
      const run = await app.cleanup.run({ dryRun: values['dry-run'] === true })
      print(json, run, () => `${textTable(['rows', run.dryRun ? 'to remove' : 'removed'], Object.entries(run.removed))}\n${run.durationMs} ms, ${run.complete ? 'complete' : 'not complete'}${run.error === null ? '' : `: ${run.error}`}`)
      return run.error === null ? 0 : 1
    })
  },
  backup: {
    usage: 'doorman backup FILE',
    summary: 'write a consistent copy while the server runs',
    details: 'Writes FILE and, beside it, the copy of the log file. The folder must exist, neither file may.',
    options: {},
    args: ['FILE'],
    run: ({ args, json }) => withDatabase(async app => {
      const files = await app.database.storage.backup(args[0]!)
      print(json, { files }, () => files.join('\n'))
      return 0
    })
  },
  sessions: {
    usage: 'doorman sessions [--user ID] [--limit N]',
    summary: 'list live sessions, newest first',
    details: '--user shows those of one user. --limit is at most 500 (default 50).',
    options: { user: { type: 'string' }, ...LIMIT },
    args: [],
    run ({ values, json }) {
      const limit = limitOf(values)
      const user = values.user as string | undefined
      return withDatabase(async ({ database }, config) => {
        const now = database.clock()
        const { items } = await database.storage.listSessions({ now, idleBefore: now - config.sessionIdleTimeout, limit, ...(user === undefined ? {} : { userId: user }) })
        const sessions = items.map(({ data, ...session }) => session)
        print(json, { items: sessions }, () => textTable(['id', 'user', 'last active', 'address', 'device'],
          sessions.map(({ id, userId, lastActiveAt, lastIp, device }) => [id, userId, iso(lastActiveAt), lastIp, device])))
        return 0
      })
    }
  },
  ips: {
    usage: 'doorman ips [--top] [--limit N]',
    summary: 'show the latest requests, or the addresses with the most',
    details: '--top counts requests per address instead. --limit is at most 500 (default 50).',
    options: { top: { type: 'boolean' }, ...LIMIT },
    args: [],
    run ({ values, json }) {
      const limit = limitOf(values)
      return withDatabase(async ({ database: { storage } }) => {
        if (values.top === true) {
          const items = await storage.topIpLogs('ip', {}, limit)
          print(json, { items }, () => textTable(['address', 'requests', 'errors', 'last'], items.map(({ value, count, errors, lastAt }) => [value, count, errors, iso(lastAt)])))
        } else {
          const { items } = await storage.listIpLogs({}, { limit })
          print(json, { items }, () => textTable(['at', 'address', 'method', 'path', 'status'], items.map(({ at, ip, method, path, status }) => [iso(at), ip, method, path, status])))
        }
        return 0
      })
    }
  },
  blocks: {
    usage: 'doorman blocks [--remove ID]',
    summary: 'list blocked addresses, or lift a block',
    details: '--remove lets the addresses of a block in again: within a second, by every server on the database.',
    options: { remove: { type: 'string' } },
    args: [],
    run: ({ values, json }) => withDatabase(async ({ database: { storage, clock } }) => {
      const id = values.remove as string | undefined
      if (id === undefined) {
        const items = await storage.listBlocks(clock())
        print(json, { items }, () => textTable(['id', 'network', 'until', 'reason'], items.map(({ id, cidr, until, reason }) => [id, cidr, until === null ? null : iso(until), reason])))
        return 0
      }
      if (!await storage.removeBlock(id)) throw doormanError('DOORMAN_BLOCK_NOT_FOUND')
      print(json, { removed: id }, () => `The block ${id} is lifted.`)
      return 0
    })
  },
  migrate: {
    usage: 'doorman migrate --to URL [--final] [--verify]',
    summary: 'copy everything to PostgreSQL while the server runs',
    details: 'Copies what the SQLite files of DATABASE_URL hold, then reads it back and compares. It may be interrupted and repeated, and goes on where it was. --final ends it: every process on the files has to be stopped first. --verify only reads back and compares. Leave the password to PGPASSWORD or ~/.pgpass where others can see the command line.',
    options: { to: { type: 'string' }, final: { type: 'boolean' }, verify: { type: 'boolean' } },
    args: [],
    run: given => migrate(given)
  },
  doctor: {
    usage: 'doorman doctor',
    summary: 'test the configured database',
    details: 'Checks the settings of every connection, writes with one and with five connections, with a foreign lock, and checks the files. Its own rows are gone at the end. Works beside a running server.',
    options: {},
    args: [],
    run: ({ json }) => withDatabase(async (app, config) => {
      const { storage, clock } = app.database
      // Only where there is a file to lock: elsewhere its driver may not be installed.
      const holdLock = async (path: string) => (await import('./storage/sqlite/hold-lock.js')).holdLock(path)
      const openAnother = () => openStorage({ url: config.databaseUrl, logUrl: null, busyTimeout: config.busyTimeout, maxPending: 1000, log: app.log })
      const show = ({ ok, check, detail, ms }: Finding) => { process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${check}: ${detail} (${ms} ms)\n`) }
      const findings = await runDoctor({ storage, openAnother, holdLock, clock, ...(json ? {} : { onFinding: show }) })
      const sound = findings.every(finding => finding.ok)
      const verdict = sound ? 'The database is in order.' : 'Something is wrong: see the checks that failed.'
      print(json, { sound, verdict, findings }, () => verdict)
      return sound ? 0 : 1
    })
  }
}

const names = [...Object.keys(commands), 'help']

/** Opens the configured database for one command, without a server. */
async function withDatabase (use: (app: FastifyInstance, config: Config) => Promise<number>): Promise<number> {
  const config = loadConfig()
  const app = Fastify({ logger: { level: 'warn', stream: process.stderr } })
  try {
    // The command itself fails then, with the code.
    await app.register(database, { url: config.databaseUrl, busyTimeout: config.busyTimeout, closeTimeout: config.closeTimeout, onFatal: null })
    await app.register(cleanup, {
      enabled: false,
      sessionIdleTimeout: config.sessionIdleTimeout,
      ipLogRetention: config.ipLogRetention,
      addressTruncateAfter: config.ipTruncateAfter,
      activityRetention: config.activityRetention,
      deviceRetention: config.deviceRetention
    })
    return await use(app, config)
  } finally {
    await app.close()
  }
}

async function migrate ({ values: { to, final, verify }, json }: Given): Promise<number> {
  if (typeof to !== 'string') throw new UsageError(`expected --to URL; usage: ${commands.migrate!.usage}`)
  if (final === true && verify === true) throw new UsageError('--final and --verify exclude each other')
  const { databaseUrl, busyTimeout } = loadConfig()
  const { log } = Fastify({ logger: { level: 'error', stream: process.stderr } })
  const { source, target } = await openMigration({ from: databaseUrl, to, exclusive: final === true, busyTimeout, log })
  const progress = createProgress({ write: text => { process.stderr.write(text) }, isTerminal: process.stderr.isTTY, monotonic: () => performance.now() })
  try {
    const mode = final === true ? 'final' : verify === true ? 'verify' : 'copy'
    const report = await runMigration({ source, target, mode, onProgress: ({ step, pass, table, done, total }) => { progress.show(step === 'copy' ? `pass ${pass}, ${table}` : `comparing ${table}`, done, total) } })
    progress.end()
    print(json, report, () => migrationText(report))
    return report.same ? 0 : 1
  } finally {
    progress.end()
    source.close()
    await target.close()
  }
}

function limitOf ({ limit = '50' }: Given['values']): number {
  if (/^\d{1,3}$/.test(String(limit)) && Number(limit) >= 1 && Number(limit) <= 500) return Number(limit)
  throw new UsageError(`--limit must be an integer from 1 to 500; got "${limit}"`)
}

function print (json: boolean, result: unknown, text: () => string): void {
  process.stdout.write(`${json ? JSON.stringify(result) : text()}\n`)
}

function help (name?: string): string {
  const command = name === undefined ? undefined : commands[name]
  if (command !== undefined) return `${command.usage} [--json]\n\n${command.details}\n`
  return [
    'doorman: sessions, request log and retention on SQLite or PostgreSQL',
    '',
    ...Object.values(commands).map(({ usage, summary }) => `  ${usage.padEnd(46)} ${summary}`),
    `  ${'doorman help [COMMAND]'.padEnd(46)} more about a command`,
    '',
    '--json prints a result as JSON. The configuration comes from the environment and .env, as for the server.',
    ''
  ].join('\n')
}

function unknown (what: string, name: string, known: readonly string[]): UsageError {
  const near = nearest(name, known)
  return new UsageError(`unknown ${what} "${name}"${near === undefined ? `; known are ${known.join(', ')}` : `; did you mean "${near}"?`}`)
}

/** Reads the command line by hand where util.parseArgs would only say that something is wrong. */
function parse (command: Command, argv: string[]): Given & { help: boolean } {
  const options: OptionsConfig = { ...command.options, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } }
  const { tokens } = parseArgs({ args: argv, options, allowPositionals: true, strict: false, tokens: true })
  const known = Object.keys(options)
  for (const token of tokens) {
    if (token.kind === 'option' && !known.includes(token.name)) throw unknown('option', token.rawName, known.map(name => `--${name}`))
  }
  const { values, positionals } = parseArgs({ args: argv, options, allowPositionals: true })
  const { help = false, json = false, ...rest } = values as Given['values']
  if (help === false && positionals.length !== command.args.length) {
    throw new UsageError(`expected ${command.args.length === 0 ? 'no argument' : command.args.join(' ')}; usage: ${command.usage}`)
  }
  return { values: rest, args: positionals, json: json === true, help: help === true }
}

async function main ([name = 'help', ...argv]: string[]): Promise<number> {
  if (name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(help(argv[0]))
    return 0
  }
  const command = Object.hasOwn(commands, name) ? commands[name]! : undefined
  if (command === undefined) throw unknown('command', name, names)
  const given = parse(command, argv)
  if (!given.help) return command.run(given)
  process.stdout.write(help(name))
  return 0
}

function complain (error: unknown): number {
  const { message, code } = error as Error & { code?: string }
  const usage = error instanceof UsageError || code?.startsWith('ERR_PARSE_ARGS') === true
  process.stderr.write(`doorman: ${message}${usage ? '\nSee "doorman help".' : ''}\n`)
  return usage ? 2 : 1
}

const code = await main(process.argv.slice(2)).catch(complain)
// The server goes on running after its command has returned.
if (process.argv[2] !== 'serve' || code !== 0) process.exit(code)
