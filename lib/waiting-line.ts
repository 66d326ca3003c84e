/**
 * A first-come, first-served line of callers who wait for something, each at most equally long. It knows nothing of what
 * they wait for: its owner calls `admit` when there is one to give.
 */

export interface WaitingLine {
  /** Joins at the end. Resolves to true when admitted, to false after the wait or when dismissed. Never rejects. */
  join (): Promise<boolean>
  /** Admits the one who waits longest; false when nobody waits. */
  admit (): boolean
  /** Sends everybody away. */
  dismiss (): void
}

interface Waiter { resolve: (admitted: boolean) => void, timer: NodeJS.Timeout, gone: boolean, next: Waiter | null }

/** @param wait how long one waits, ms */
export function createWaitingLine (wait: number): WaitingLine {
  let first: Waiter | null = null
  let last: Waiter | null = null

  function join (): Promise<boolean> {
    return new Promise(resolve => {
      // Timers of one duration share a list in Node: arming and clearing one costs next to nothing.
      const waiter: Waiter = { resolve, timer: setTimeout(leave, wait).unref(), gone: false, next: null }
      if (last === null) first = waiter
      else last.next = waiter
      last = waiter

      function leave () {
        waiter.gone = true
        forgetTheGone()
        resolve(false)
      }
    })
  }

  /** Everybody waits equally long, so those who gave up are at the head and do not pile up. */
  function forgetTheGone () {
    while (first?.gone === true) first = first.next
    if (first === null) last = null
  }

  function settle (admitted: boolean): boolean {
    if (first === null) return false
    const waiter = first
    clearTimeout(waiter.timer)
    waiter.gone = true
    forgetTheGone()
    waiter.resolve(admitted)
    return true
  }

  return {
    join,
    admit: () => settle(true),
    dismiss () { while (settle(false)); }
  }
}
