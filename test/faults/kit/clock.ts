/**
 * Sets the clock of this process, as somebody sets the machine's: `Date` tells another time from now on, timers and the monotonic
 * clock do not notice. Only for this thread; the others ask for the time of day once, when they make a schema.
 */
const now = Date.now
let offset = 0

Date.now = () => now() + offset
globalThis.Date = new Proxy(Date, {
  construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [target.now()] : args, newTarget) as Date
})

/** @param ms how far the clock is off from now on, against the machine's; 0 sets it right */
export function shiftClock (ms: number): void {
  offset = ms
}
