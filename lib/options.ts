/**
 * Option objects are checked in passes: unknown names (near misses are pointed out), defaults, types and ranges; the
 * meaning of combinations is checked by the caller. A bad value is always an error, never silently a default; the
 * caller's object is never changed; the result has every field and is frozen.
 */
import { doormanError, show } from '../errors.js'
import { formatDuration, parseDuration } from './duration.js'

/** How one option is read. `read` returns undefined for a value it does not accept. */
export interface OptionSpec<T> {
  fallback: T
  expected: string
  read (value: unknown): T | undefined
}

export type OptionSpecs = Record<string, OptionSpec<unknown>>
export type Resolved<S extends OptionSpecs> = { readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never }

interface Range { min?: number, max?: number }
const within = (n: number, { min = 0, max = Infinity }: Range) => n >= min && n <= max
const rangeText = ({ min, max }: Range, format: (n: number) => string) =>
  (min === undefined ? '' : ` of at least ${format(min)}`) + (max === undefined ? '' : `${min === undefined ? ' of' : ' and'} at most ${format(max)}`)

/** Ready-made readers. Each takes the default first. */
export const option = {
  /** Milliseconds as a number, or text such as '24h'. */
  duration<F extends number | null> (fallback: F, range: Range = {}): OptionSpec<F | number> {
    return {
      fallback,
      expected: `a duration in milliseconds or such as "24h"${rangeText(range, formatDuration)}${fallback === null ? ', or null' : ''}`,
      read: value => {
        if (value === null && fallback === null) return fallback
        const ms = parseDuration(value)
        return ms !== undefined && within(ms, range) ? ms : undefined
      }
    }
  },
  /** A safe integer, from 0 where no `min` is given. */
  integer<F extends number | null> (fallback: F, { min = 0, ...rest }: Range = {}): OptionSpec<F | number> {
    const range = { min, ...rest }
    return {
      fallback,
      expected: `an integer${rangeText(range, String)}${fallback === null ? ', or null' : ''}`,
      read: value => {
        if (value === null && fallback === null) return fallback
        return typeof value === 'number' && Number.isSafeInteger(value) && within(value, range) ? value : undefined
      }
    }
  },
  boolean (fallback: boolean): OptionSpec<boolean> {
    return { fallback, expected: 'true or false', read: value => typeof value === 'boolean' ? value : undefined }
  },
  oneOf<const T extends string> (fallback: T, values: readonly T[]): OptionSpec<T> {
    return { fallback, expected: `one of ${values.join(', ')}`, read: value => values.find(v => v === value) }
  },
  text<F extends string | null> (fallback: F, pattern = /^.+$/s, expected = 'a non-empty string'): OptionSpec<F | string> {
    return {
      fallback,
      expected: expected + (fallback === null ? ', or null' : ''),
      read: value => {
        if (value === null && fallback === null) return fallback
        return typeof value === 'string' && pattern.test(value) ? value : undefined
      }
    }
  },
  texts (fallback: readonly string[], pattern = /^.+$/s, expected = 'a list of non-empty strings'): OptionSpec<readonly string[]> {
    return {
      fallback,
      expected,
      read: value => Array.isArray(value) && value.every(v => typeof v === 'string' && pattern.test(v)) ? [...value] as string[] : undefined
    }
  },
  /** A function, a class instance or a whole nested object that the caller checks itself. */
  custom<T> (fallback: T, expected: string, accepts: (value: unknown) => boolean): OptionSpec<T> {
    return { fallback, expected, read: value => accepts(value) ? value as T : undefined }
  }
}

/**
 * Checks `given` against `specs`.
 * @param owner what the options belong to, for messages: 'sessions' gives 'sessions.idleTimeout'
 * @throws DOORMAN_OPTION_UNKNOWN, DOORMAN_OPTION_INVALID
 */
export function resolveOptions<S extends OptionSpecs> (owner: string, given: unknown, specs: S): Resolved<S> {
  if (given !== undefined && (typeof given !== 'object' || given === null || Array.isArray(given))) {
    throw doormanError('DOORMAN_OPTION_INVALID', [owner, 'an object', show(given)])
  }
  const values = (given ?? {}) as Record<string, unknown>
  for (const name of Object.keys(values)) {
    if (Object.hasOwn(specs, name)) continue
    const near = nearest(name, Object.keys(specs))
    throw doormanError('DOORMAN_OPTION_UNKNOWN', [`${owner}.${name}`, near === undefined ? `; known are ${Object.keys(specs).join(', ')}` : `; did you mean "${near}"?`])
  }
  const resolved: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(specs)) {
    const value = values[name]
    if (value === undefined) {
      resolved[name] = spec.fallback
      continue
    }
    const read = spec.read(value)
    if (read === undefined) throw doormanError('DOORMAN_OPTION_INVALID', [`${owner}.${name}`, spec.expected, show(value)])
    resolved[name] = read
  }
  return Object.freeze(resolved) as Resolved<S>
}

/** The known name closest to a misspelt one, if any is close: other case, other separators, or up to two edits. */
export function nearest (name: string, known: readonly string[]): string | undefined {
  const plain = (s: string) => s.toLowerCase().replace(/[-_]/g, '')
  let best: string | undefined
  let bestDistance = 3
  for (const candidate of known) {
    const distance = editDistance(plain(name), plain(candidate))
    if (distance < bestDistance && distance < candidate.length / 2) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance (a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      row.push(Math.min(row[j - 1]! + 1, previous[j]! + 1, previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    previous = row
  }
  return previous[b.length]!
}
