/** Chance that can be repeated: the same seed and index give the same numbers. Good enough to choose with, and for nothing else. */

export class Random {
  #state: number

  /** @param index of the request: each has its own numbers, so that how many ran at a time changes none of them */
  constructor (readonly seed: number, index = 0) {
    this.#state = mix((seed >>> 0) ^ mix(index + 0x9e3779b9))
  }

  /** 0 up to 2 ** 32. */
  next (): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    return mix(this.#state)
  }

  /** A whole number from 0, below `end`. */
  below (end: number): number {
    return Math.floor(this.next() / 2 ** 32 * end)
  }

  chance (part: number): boolean {
    return this.next() < part * 2 ** 32
  }

  pick<T> (list: readonly T[]): T {
    return list[this.below(list.length)]!
  }
}

/** The last steps of murmur3: every bit of the result depends on every bit of the number. */
function mix (number: number): number {
  let bits = number >>> 0
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return (bits ^ (bits >>> 16)) >>> 0
}
