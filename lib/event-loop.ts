/** How late the event loop is, measured all the time: one timer for the whole database, whoever shows it. */
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How often it is measured, ms. What is measured is the time between two turns of this timer, so that much is no delay. */
export const EVENT_LOOP_RESOLUTION_MS = 20

/** Nanoseconds, as perf_hooks tells them. */
export interface DelayHistogram { percentile (p: number): number, readonly mean: number, readonly max: number, readonly count: number }

/** Since the start, ms; 20 is no delay. Zeros before the first sample. */
export interface EventLoopDelay { samples: number, mean: number, p50: number, p99: number, p999: number, max: number }

export interface EventLoopWatch {
  readonly histogram: DelayHistogram
  stats (): EventLoopDelay
  stop (): void
}

/** Starts to measure. Does not keep the process alive. */
export function watchEventLoop (): EventLoopWatch {
  const histogram = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS })
  histogram.enable()
  return { histogram, stats: () => delayStats(histogram), stop () { histogram.disable() } }
}

/** What a histogram holds, in ms. */
export function delayStats (histogram: DelayHistogram): EventLoopDelay {
  const { count } = histogram
  // Without samples mean is not a number, and the rest says something.
  const ms = (nanoseconds: number) => count === 0 ? 0 : nanoseconds / 1e6
  const at = (percentile: number) => ms(histogram.percentile(percentile))
  return { samples: count, mean: ms(histogram.mean), p50: at(50), p99: at(99), p999: at(99.9), max: ms(histogram.max) }
}
