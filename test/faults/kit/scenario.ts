/** What a scenario of the fault suite is, and what it hands in. */

/** One line of the table: something measured against what is required. */
export interface Result {
  /** What was measured, such as "IP rows missing afterwards". */
  what: string
  measured: string
  required: string
  pass: boolean
  /** Depends on how fast the machine is just then: judged by the full form, only shown by the short one. */
  timing?: boolean
}

export interface Context {
  /** True: the durations and rounds that the reliability page states. False: the short form, some seconds per scenario. */
  full: boolean
  /** A folder of this scenario's own, empty, removed afterwards. */
  dir: string
  /** Hands in one line of the table. */
  result (result: Result): void
  /** Says what is being done, for whoever watches. */
  note (text: string): void
  /** Runs at the end of the scenario, last one first, whatever happened. */
  defer (cleanup: () => unknown): void
}

export interface Scenario {
  number: number
  title: string
  run (context: Context): Promise<void>
}

/** `value` for the full form, or the one for the short form. */
export function sized<T> ({ full }: Context, forFull: T, forShort: T): T {
  return full ? forFull : forShort
}

/** Hands in a count that must be zero. */
export function none (context: Context, what: string, count: number, of?: number): void {
  context.result({ what, measured: of === undefined ? `${count}` : `${count} of ${of}`, required: '0', pass: count === 0 && of !== 0 })
}

/** Hands in a yes or no, with what was seen. */
export function holds (context: Context, what: string, pass: boolean, measured = pass ? 'yes' : 'no', required = 'yes'): void {
  context.result({ what, measured, required, pass })
}

/** Hands in a duration or a ratio that depends on the machine. */
export function atMost (context: Context, what: string, value: number, limit: number, unit: string, digits = unit === 'ms' ? 1 : 2): void {
  context.result({ what, measured: `${value.toFixed(digits)} ${unit}`, required: `<= ${limit} ${unit}`, pass: value <= limit, timing: true })
}
