/**
 * The process around the API: reads the environment, listens, says what to do next, and stops in order. Only this file and
 * cli.ts end the process.
 *
 * Stopping (SIGTERM, SIGINT) has a deadline, CLOSE_TIMEOUT. The first half is for requests under way, then their connections
 * are cut; the second half is for what still waits to be stored. Exit code 0 says that everything was stored. A second
 * signal ends the process at once, unless it comes so soon that it is the first one delivered twice.
 *
 * It stops in the same way, with exit code 1, when nothing can be stored any more (see `onFatal` of the `database` plugin): a server that
 * refuses every login is better started again, by whoever watches over it.
 */
import { buildApp } from './app.js'
import { loadConfig, type Config } from './config.js'
import { isDoormanError } from './errors.js'
import { generateApiKey } from './lib/api-keys.js'

type App = Awaited<ReturnType<typeof buildApp>>

/** Time for the last steps of a stop once its deadline has passed, ms; after that something hangs. */
const LAST_STEPS = 2000

/**
 * One Ctrl-C can arrive twice: the terminal sends it to every process of the group, and a primary or a supervisor passes it
 * on to its workers. Signals this soon after the first one, ms, are taken for the same.
 */
const SAME_SIGNAL = 500

async function start (): Promise<void> {
  const config = loadConfig()
  const generated = config.apiKeys.length === 0 ? generateApiKey() : null
  let onFatal: (error: Error) => void
  const fatal = new Promise<Error>(resolve => { onFatal = resolve })
  const app = await buildApp(generated === null ? config : { ...config, apiKeys: [generated] }, { onFatal: error => { onFatal(error) } })
  try {
    const address = await app.listen({ host: config.host, port: config.port })
    for (const warning of config.warnings) app.log.warn(warning)
    stopInTime(app, config, fatal)
    process.stdout.write(welcome(address, generated))
  } catch (error) {
    await app.close()
    throw error
  }
}

function welcome (address: string, generated: string | null): string {
  const key = generated ?? '$API_KEY'
  return [
    `fastify-doorman listens on ${address}`,
    '',
    `  Documentation  ${address}/docs`,
    generated === null ? '  API key        one of API_KEYS' : `  API key        ${generated} (for this run only; set API_KEYS to keep one)`,
    '',
    '  Open a session:',
    `    curl -X POST ${address}/sessions -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '{"userId":"alice"}'`,
    '', ''
  ].join('\n')
}

function stopInTime (app: App, { closeTimeout }: Config, fatal: Promise<Error>): void {
  let stopping = -Infinity

  const onSignal = (signal: NodeJS.Signals) => {
    const now = performance.now()
    if (stopping === -Infinity) {
      app.log.info({ signal }, 'stopping')
      stop(now)
    } else if (now - stopping >= SAME_SIGNAL) {
      quit(1, `${signal} again: stopped at once; what waited to be stored is lost`)
    }
  }
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  fatal.then(error => {
    app.log.fatal({ err: error }, 'nothing can be stored any more: stopping')
    process.stderr.write(`${describe(error)}\n`)
    if (stopping === -Infinity) stop(performance.now())
  })

  async function stop (now: number): Promise<void> {
    stopping = now
    setTimeout(() => app.server.closeAllConnections(), closeTimeout / 2).unref()
    setTimeout(quit, closeTimeout + LAST_STEPS, 1, `Stopping took longer than ${closeTimeout} ms (CLOSE_TIMEOUT): what waited to be stored is lost`).unref()
    try {
      await app.close()
    } catch (error) {
      quit(1, describe(error))
    }
    quit(app.database.storage.failure === undefined ? 0 : 1)
  }
}

/** One line. The catalogue's messages do not hold their code; those of the system do. */
function describe (error: unknown): string {
  const { message } = error as Error
  return isDoormanError(error) ? `${error.code}: ${message}` : message
}

function quit (code: number, message?: string): never {
  if (message !== undefined) process.stderr.write(`${message}\n`)
  process.exit(code)
}

await start().catch((error: unknown) => quit(1, `fastify-doorman did not start: ${describe(error)}`))
