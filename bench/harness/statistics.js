/** Medians, quartiles, percentiles and a line through points. */

/** The value below which `share` (0 to 1) of the numbers lie, by linear interpolation. */
export function quantile (numbers, share) {
  const sorted = Float64Array.from(numbers).sort()
  const position = (sorted.length - 1) * share
  const below = Math.floor(position)
  const above = Math.min(below + 1, sorted.length - 1)
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below)
}

export const median = numbers => quantile(numbers, 0.5)

/** Median with its spread. */
export function summary (numbers) {
  return { median: median(numbers), q1: quantile(numbers, 0.25), q3: quantile(numbers, 0.75), min: Math.min(...numbers), max: Math.max(...numbers), pairs: numbers.length }
}

/** Slope of the least-squares line through [x, y] points. */
export function slope (points) {
  const n = points.length
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n
  const square = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
  return square === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / square
}
