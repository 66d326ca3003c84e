/** One line of a measure. */

/**
 * @typedef {object} Figure
 * @property {string} name
 * @property {number} value
 * @property {string} unit '' for a ratio
 * @property {string | null} target as it is printed
 * @property {boolean | null} met
 * @property {string} [note] what was run, where it needs saying
 * @property {string} [row] where the measure is printed as a table: its place in it
 * @property {string} [column]
 * @property {{ median: number, q1: number, q3: number }} [spread] printed instead of the value
 * @property {number | null} [beside] printed after the value
 */

/** A figure without a target. */
export const plain = (name, value, unit = '', note) => ({ name, value, unit, target: null, met: null, ...(note === undefined ? {} : { note }) })
export const atMost = (name, value, limit, unit = '', note) => ({ ...plain(name, value, unit, note), target: `≤ ${limit}${unit === '' ? '' : ` ${unit}`}`, met: value <= limit })
export const atLeast = (name, value, limit, unit = '', note) => ({ ...plain(name, value, unit, note), target: `≥ ${limit}${unit === '' ? '' : ` ${unit}`}`, met: value >= limit })

/** A figure without a target that has its place in a table. All figures of such a measure have one. */
export const inTable = (row, column, value, { unit = '', ...more } = {}) => ({ ...plain(`${row}: ${column}`, value, unit), row, column, ...more })
