/** The tables of a result, as head and rows: what the terminal and the document print alike. */
import { candidates } from '../servers/list.js'
import { metText, number, spread } from './format.js'
import { workloads } from './workloads.js'

const figureOf = (figures, candidate, workload) => figures.find(figure => figure.candidate === candidate && figure.workload === workload)
const shown = figures => candidates.filter(({ id }) => figures.some(({ candidate }) => candidate === id))

/** One row per server: ratio with quartiles per workload, then processor time per request as ratio (whole process · main thread). */
export function comparisonTable (figures) {
  const head = ['Server', ...workloads.map(({ id }) => id), ...workloads.map(({ id }) => `${id} processor`)]
  const rows = shown(figures).map(({ id, title }) => {
    const own = workloads.map(workload => figureOf(figures, id, workload.id))
    return [title, ...own.map(({ ratio }) => spread(ratio)), ...own.map(({ cpuRatio, mainRatio }) => `${number(cpuRatio)} · ${number(mainRatio)}`)]
  })
  return { head, rows }
}

/** What the suite has to reach. */
export function targetTable (figures, title = 'Target') {
  const rows = shown(figures).filter(({ targets }) => targets !== undefined).map(({ id, title }) => [title, ...workloads.map(workload => {
    const { ratio, target, met } = figureOf(figures, id, workload.id)
    return `${number(ratio.median)} of ≥ ${target.toFixed(2)}: ${metText(met)}`
  })])
  return { head: [title, ...workloads.map(({ id }) => id)], rows }
}

/** What went wrong while it was measured, in words. */
export const faultLines = figures => figures.filter(({ faults }) => faults.length > 0)
  .map(({ candidate, workload, faults }) => `${candidates.find(({ id }) => id === candidate).title}, ${workload}: ${faults.join('; ')}`)

/** One row per figure, unless they have their places in a table. */
export function measureTable (figures) {
  if (figures[0].row !== undefined) return placedTable(figures)
  return {
    head: ['Figure', 'Value', 'Target', 'Met'],
    rows: figures.map(({ name, value, unit, target, met }) => [name, `${number(value)}${unit === '' ? '' : ` ${unit}`}`, target ?? '', metText(met)])
  }
}

function placedTable (figures) {
  const columns = [...new Set(figures.map(({ column }) => column))]
  const rows = [...new Set(figures.map(({ row }) => row))]
  const text = ({ value, spread: quartiles, beside }) => quartiles === undefined ? `${number(value)}${beside === undefined ? '' : ` · ${number(beside)}`}` : spread(quartiles)
  return { head: ['', ...columns], rows: rows.map(row => [row, ...columns.map(column => text(figures.find(figure => figure.row === row && figure.column === column)))]) }
}
