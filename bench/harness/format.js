/** Figures as people read them: in the terminal and in the document. */

/** Three significant digits, thousands apart. */
export function number (value) {
  if (value === null || value === undefined) return '–'
  if (!Number.isFinite(value)) return String(value)
  const size = Math.abs(value)
  if (size >= 100) return Math.round(value).toLocaleString('en-US').replaceAll(',', ' ')
  if (size === 0) return '0'
  return value.toFixed(size >= 10 ? 1 : size >= 0.095 ? 2 : size >= 0.0095 ? 3 : 4)
}

export const spread = ({ median, q1, q3 }) => `${number(median)} (${number(q1)}–${number(q3)})`
export const metText = met => met === null || met === undefined ? '' : met ? 'yes' : 'no'

/** Columns as wide as they need; the first one to the left, the others to the right. */
export function terminalTable (head, rows) {
  const lines = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...lines.map(cells => [...cells[column]].length)))
  const line = cells => cells.map((cell, column) => column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])).join('  ').trimEnd()
  return [line(head), widths.map(width => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n')
}

export const markdownTable = (head, rows) =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')
