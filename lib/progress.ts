/** How far a long job is: a bar that is drawn over itself on a terminal, elsewhere a line now and then. */

/** A bar is drawn again after so many ms at the earliest, a line elsewhere is written after so many. */
const BAR_MS = 100
const LINE_MS = 10_000
const BAR_WIDTH = 24

export interface ProgressOptions {
  /** Where it is shown. Never standard output, which is for results. */
  write (text: string): void
  isTerminal: boolean
  /** Milliseconds, monotonic. */
  monotonic (): number
}

export interface Progress {
  /** `label` says what is done now. A new label begins a new step, whose speed is its own. */
  show (label: string, done: number, total: number): void
  /** Takes the bar away. */
  end (): void
}

export function createProgress ({ write, isTerminal, monotonic }: ProgressOptions): Progress {
  let last = -Infinity
  let step = { label: '', start: 0, from: 0 }
  let drawn = false

  return {
    show (label, done, total) {
      const now = monotonic()
      if (label !== step.label) step = { label, start: now, from: done }
      if (now - last < (isTerminal ? BAR_MS : LINE_MS)) return
      last = now
      const share = Math.min(1, done / Math.max(1, total))
      const speed = (done - step.from) / Math.max(1, now - step.start)
      const left = speed === 0 ? '' : `, ${Math.ceil(Math.max(0, total - done) / speed / 1000)} s left`
      const line = `${label}: ${Math.floor(share * 100)} %, ${count(done)} of ${count(total)} rows${left}`
      const filled = Math.round(share * BAR_WIDTH)
      write(isTerminal ? `\r[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${line}\x1b[K` : `${line}\n`)
      drawn = isTerminal
    },
    end () {
      if (drawn) write('\r\x1b[K')
      drawn = false
    }
  }
}

/** With separators, such as 1,234,567. */
export const count = (n: number): string => n.toLocaleString('en')
