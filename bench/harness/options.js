/** The command line of the benchmark. */
import { parseArgs } from 'node:util'
import { generators } from '../load/generator.js'
import { measures } from '../measures/list.js'
import { candidates } from '../servers/list.js'

export const USAGE = `npm run bench -- [OPTIONS]

  --only ID,ID         these servers (bare is always there): ${candidates.map(({ id }) => id).join(', ')}
  --measure NAME,NAME  these instead of the comparison, or "all": ${Object.keys(measures).join(', ')}
  --quick              short cells and small sizes: shows that it works, not how fast it is
  --rounds N           pairs per server and workload (10)
  --cell MS            length of a cell (1000)
  --connections N      (50)
  --load NAME          ${generators.join(', ')}; default: the first of them that is there
  --log FILE           access log to replay for "disk"; without it one is made up
  --publish            take the figures into results/latest.json and the documents even though they are of a quick or partial run
  --docs               only write the measured parts of the documents anew from results/latest.json
  --help`

/** A message for the user, not a stack. */
export class UsageError extends Error {}

function integer (name, text, fallback, min) {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min) throw new UsageError(`--${name}: expected an integer from ${min} on, got "${text}"`)
  return value
}

/** The names given, all of them known; `null` when the option is missing. */
function names (option, text, known) {
  if (text === undefined) return null
  if (text === 'all') return known
  const list = text.split(',').map(name => name.trim()).filter(name => name !== '')
  const unknown = list.filter(name => !known.includes(name))
  if (list.length === 0 || unknown.length > 0) throw new UsageError(`--${option}: expected some of ${known.join(', ')}, got "${text}"`)
  return list
}

export function readOptions (args) {
  let values
  try {
    values = parseArgs({
      args,
      options: {
        only: { type: 'string' },
        measure: { type: 'string' },
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        cell: { type: 'string' },
        connections: { type: 'string' },
        load: { type: 'string' },
        log: { type: 'string' },
        publish: { type: 'boolean', default: false },
        docs: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false }
      }
    }).values
  } catch (error) {
    throw new UsageError(error.message)
  }
  const { quick } = values
  const generator = values.load ?? null
  if (generator !== null && !generators.includes(generator)) throw new UsageError(`--load: expected one of ${generators.join(', ')}, got "${generator}"`)
  return {
    quick,
    /** null: the best that is there once the peers are installed. */
    generator,
    only: names('only', values.only, candidates.map(({ id }) => id)),
    measure: names('measure', values.measure, Object.keys(measures)),
    rounds: integer('rounds', values.rounds, quick ? 3 : 10, 1),
    milliseconds: integer('cell', values.cell, 1000, 100),
    connections: integer('connections', values.connections, 50, 1),
    sessions: quick ? 50 : 1000,
    log: values.log ?? null,
    publish: values.publish,
    docs: values.docs,
    help: values.help
  }
}
