/**
 * Sends generated and hostile requests to the API for some minutes, and judges every reply, every line of its log and what it stored.
 *
 *   npm run fuzz                        10 minutes
 *   npm run fuzz -- --minutes 1 --seed 7
 */
import { parseArgs } from 'node:util'
import { campaign } from './campaign.js'
import { printReport } from './report.js'

const USAGE = 'npm run fuzz -- [--minutes 10] [--seed N] [--engine sqlite]'

function options (): { minutes: number, seed: number } {
  try {
    const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' }, engine: { type: 'string', default: 'sqlite' } } })
    const minutes = Number(values.minutes)
    const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed)
    if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error(`minutes must be above 0 and seed a whole number; got ${values.minutes} and ${values.seed}`)
    if (values.engine !== 'sqlite') throw new Error(`engine must be sqlite; got ${values.engine}`)
    return { minutes, seed }
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`)
    process.exit(2)
  }
}

const { minutes, seed } = options()
console.log(`seed ${seed}, ${minutes} minutes: npm run fuzz -- --minutes ${minutes} --seed ${seed}`)
const report = await campaign({ seed, duration: minutes * 60_000, note: text => { console.log(text) } })
process.exitCode = printReport(report, text => { console.log(text) }) === 0 ? 0 : 1
