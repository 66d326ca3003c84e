/** Rows as aligned columns, for people at a terminal. */

type Cell = string | number | null

/**
 * Lays rows out under a header; numbers are aligned to the right, null is shown as "-". Control characters, which could
 * steer the terminal, are replaced: paths and user agents are written by strangers.
 */
export function textTable (header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const lines = [header, ...rows].map(row => row.map(cell => String(cell ?? '-').replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd')))
  const widths = header.map((_, column) => Math.max(...lines.map(line => line[column]!.length)))
  const isNumeric = header.map((_, column) => rows.length > 0 && rows.every(row => typeof row[column] === 'number'))
  return lines.map(line => line.map((text, column) => isNumeric[column] ? text.padStart(widths[column]!) : text.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
}
