/** One line of a measure. */

/**
 * @typedef {object} Figure
 * @property {string} name
 * @property {number} value
 * @property {string} unit '' for a ratio
 * @property {string | null} target as it is printed
 * @property {boolean | null} met
 * @property {string} [note] what was run, where it needs saying
 */

/** A figure without a target. */
export const plain = (name, value, unit = '', note) => ({ name, value, unit, target: null, met: null, ...(note === undefined ? {} : { note }) })
export const atMost = (name, value, limit, unit = '', note) => ({ ...plain(name, value, unit, note), target: `≤ ${limit}${unit === '' ? '' : ` ${unit}`}`, met: value <= limit })
export const atLeast = (name, value, limit, unit = '', note) => ({ ...plain(name, value, unit, note), target: `≥ ${limit}${unit === '' ? '' : ` ${unit}`}`, met: value >= limit })
