/** 16. The file system of the tables is full; then there is space again. WAL is elsewhere, as a server whose WAL finds no space stops. */
import { chownSync } from 'node:fs'
import { join } from 'node:path'
import { holds, mountSmall, none, sized, sleep, until, type Scenario } from '../../faults/kit/index.js'
import { query } from '../server.js'
import { outsider, startServer, underLoad } from './kit.js'

const SIZE = 40 * 2 ** 20
/** As the server's user, see server.ts. */
const NOBODY = 65534

export const diskFull: Scenario = {
  number: 16,
  title: 'PostgreSQL: no space',
  async run (context) {
    const server = await startServer(context)
    const dir = join(server.dir, 'small')
    if (!mountSmall(context, dir, SIZE)) {
      holds(context, 'a small file system for the tables', true, 'cannot be made here: not performed', 'where it is allowed')
      return
    }
    // Mounts go before the server's folder does: what is handed to `defer` last runs first, so the server has to end before that.
    context.defer(() => server.kill())
    chownSync(dir, NOBODY, NOBODY)
    await server.query(`CREATE TABLESPACE small LOCATION '${dir}'`)
    await server.query('CREATE DATABASE doorman TABLESPACE small STRATEGY FILE_COPY')
    const url = server.url('doorman')
    const { service, ledger, since, back, finish } = await underLoad(context, url, { durability: 'queued' })
    const admin = await outsider(context, url)
    await admin.query('CREATE TABLE filler (text text); ALTER TABLE filler ALTER text SET STORAGE PLAIN')
    // Fails for lack of space; the pages it got stay with the table until it is dropped.
    for (const rows of [100_000, 1000, 100, 10, 1, 1]) await admin.query('INSERT INTO filler SELECT repeat(\'x\', 7000) FROM generate_series(1, $1)', [rows]).catch(() => {})
    const first = ledger.entries.length
    const met = await until(() => since(first).some(({ code }) => code === 'DOORMAN_STORAGE_FULL'))
    holds(context, 'logins are refused with DOORMAN_STORAGE_FULL', met)
    await sleep(sized(context, 20_000, 1000))
    const health = await service.health()
    holds(context, 'health is degraded meanwhile', health.status === 'degraded', health.status === 'degraded' ? health.reasons.join('; ') : 'ok', 'degraded')
    const during = since(first)
    await admin.query('DROP TABLE filler')
    const returned = await back()
    holds(context, 'with space again it works by itself', !isNaN(returned), `after ${returned.toFixed(0)} ms`, 'it works')
    await finish('no space')
    none(context, 'requests that only read, and failed', during.filter(({ kind, status }) => (kind === 'me' || kind === 'anonymous') && status >= 400).length, during.length)
    none(context, 'changes refused with another code', during.filter(({ status, code }) => status >= 400 && code !== 'DOORMAN_STORAGE_FULL').length, during.length)
    none(context, 'rows set aside as if they were at fault', (await query<{ n: number }>(url, 'SELECT count(*)::int AS n FROM dead_letters'))[0]!.n)
  }
}
