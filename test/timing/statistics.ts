/** What two sets of times have in common, and what not. */
import type { Random } from '../fuzz/random.js'

/** Resamplings of the bootstrap: enough for the ends of a 95 % interval. */
const RESAMPLINGS = 500

export function median (sorted: ArrayLike<number>): number {
  const { length } = sorted
  return (sorted[(length - 1) >> 1]! + sorted[length >> 1]!) / 2
}

/**
 * The probability that one of `a` is larger than one of `b` (ties count half): the area under the ROC curve, or Mann and Whitney's U divided by
 * the number of pairs. 0.5: nobody could tell them apart by size. Unlike a difference of means it does not care how far out the outliers are.
 */
export function auc (a: readonly number[], b: readonly number[]): number {
  const all = [...a.map(value => ({ value, first: true })), ...b.map(value => ({ value, first: false }))].sort((x, y) => x.value - y.value)
  let ranks = 0
  for (let from = 0; from < all.length;) {
    let to = from
    while (to < all.length && all[to]!.value === all[from]!.value) to++
    for (let i = from; i < to; i++) if (all[i]!.first) ranks += (from + 1 + to) / 2
    from = to
  }
  return (ranks - a.length * (a.length + 1) / 2) / (a.length * b.length)
}

/** The difference of the medians of two sets, and the bootstrap's 95 % interval of it. */
export function medianDifference (a: readonly number[], b: readonly number[], random: Random): { difference: number, low: number, high: number } {
  const resampled = (values: readonly number[]) => median(Float64Array.from(values, () => random.pick(values)).sort())
  const differences = Float64Array.from({ length: RESAMPLINGS }, () => resampled(a) - resampled(b)).sort()
  const sorted = (values: readonly number[]) => Float64Array.from(values).sort()
  return { difference: median(sorted(a)) - median(sorted(b)), low: differences[Math.floor(RESAMPLINGS * 0.025)]!, high: differences[Math.ceil(RESAMPLINGS * 0.975) - 1]! }
}

/** Shuffles in place. */
export function shuffle<T> (list: T[], random: Random): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    ;[list[i], list[j]] = [list[j]!, list[i]!]
  }
  return list
}
