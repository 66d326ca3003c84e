/** 14. An administrator ends connections of the service (pg_terminate_backend), one at a time and all at once, under load. */
import { holds, none, sized, sleep, type Scenario } from '../../faults/kit/index.js'
import { createDatabase, outsider, startServer, underLoad } from './kit.js'

const CUT = 'SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> \'outsider\' AND backend_type = \'client backend\' ORDER BY random()'

export const connectionsCut: Scenario = {
  number: 14,
  title: 'PostgreSQL: connections cut',
  async run (context) {
    const server = await startServer(context)
    const url = await createDatabase(server.url())
    const { ledger, back, finish } = await underLoad(context, url)
    const admin = await outsider(context, url)
    let cut = 0
    for (let i = 1; i <= sized(context, 300, 40); i++) {
      await sleep(20 + Math.random() * 80)
      const { rowCount } = await admin.query(`${CUT} ${i % 10 === 0 ? '' : 'LIMIT 1'}) AS chosen`)
      cut += rowCount ?? 0
    }
    const works = !isNaN(await back())
    holds(context, 'the service works afterwards', works, `${cut} connections cut`, 'it works')
    if (!works) return
    await finish('cut')
    // Looking at a session changes nothing, so it is simply asked again.
    none(context, 'requests that only read, and failed', ledger.entries.filter(({ kind, status, code }) => (kind === 'me' || kind === 'anonymous') && status >= 400 && code !== 'DOORMAN_ROW_DELAYED').length, ledger.entries.length)
  }
}
