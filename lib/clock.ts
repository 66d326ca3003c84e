/** Time is injected everywhere, so that tests decide what the time is. */

/** Milliseconds since the epoch, an integer. */
export type Clock = () => number

export const systemClock: Clock = () => Date.now()
