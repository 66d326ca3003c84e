/** Durations as people write them: `250` (milliseconds) or `'30s'`, `'15m'`, `'24h'`, `'30d'`, `'1.5h'`. */

const UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1, w: 604_800_000 } as const
const SHAPE = /^(?<amount>\d+(?:\.\d+)?)(?<unit>ms|s|m|h|d|w)$/

/** Reads a duration. Returns whole milliseconds ≥ 0, or undefined for anything that is not one (a bare numeric string included). */
export function parseDuration (value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined
  const { amount, unit } = typeof value === 'string' ? SHAPE.exec(value)?.groups ?? {} : {}
  const exact = Number(amount) * UNITS[unit as keyof typeof UNITS]
  // 2.3h is 8279999.999999999 in floating point; 0.0001s really is no whole number of milliseconds.
  const ms = Math.round(exact)
  return Number.isSafeInteger(ms) && Math.abs(exact - ms) < 1e-6 ? ms : undefined
}

/** Writes a duration with the largest unit up to days that divides it: 86400000 → `1d`, 90000 → `90s`, 0 → `0ms`. */
export function formatDuration (ms: number): string {
  const unit = (['d', 'h', 'm', 's'] as const).find(unit => ms >= UNITS[unit] && ms % UNITS[unit] === 0) ?? 'ms'
  return `${ms / UNITS[unit]}${unit}`
}
