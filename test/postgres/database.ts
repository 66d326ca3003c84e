/**
 * An empty database on a real PostgreSQL server, for a test of its own. The server is the one of the whole run where there is one
 * (DOORMAN_TEST_POSTGRES, set by suites.test.ts); else one for this process, started when it is first needed and gone with the process.
 */
import tap from 'tap'
import { createDatabase, dropDatabase, startPostgres, type PostgresServer } from './server.js'

let own: Promise<PostgresServer> | undefined

/** The server of this process: for tests that need no server of their own, but look at it. */
export function ownServer (): Promise<PostgresServer> {
  own ??= startPostgres().then(server => {
    server.unref()
    return server
  })
  return own
}

/** What is dropped at the end of the process' tests: no sooner, or what a test still closes would find its database gone. */
const made: string[] = []

/** URL of a new, empty database. */
export async function freshDatabase (): Promise<string> {
  const url = await createDatabase(process.env['DOORMAN_TEST_POSTGRES'] ?? (await ownServer()).url())
  if (made.push(url) === 1) {
    tap.teardown(async () => {
      for (const url of made) await dropDatabase(url)
    })
  }
  return url
}
