/**
 * A bounded memory of computed values for hot paths. Two generations instead of a list in order of use: when the young one
 * is full the old one is dropped whole, so that a hit costs one look-up and nothing is ever moved one by one.
 */

export interface Cache<T> {
  get (key: string): T | undefined
  set (key: string, value: T): void
  clear (): void
}

/** @param size how many entries a generation has; at most twice as many are kept */
export function createCache<T> (size: number): Cache<T> {
  let young = new Map<string, T>()
  let old = new Map<string, T>()

  function set (key: string, value: T) {
    if (young.size >= size) {
      old = young
      young = new Map()
    }
    young.set(key, value)
  }

  return {
    get (key) {
      let value = young.get(key)
      if (value === undefined) {
        value = old.get(key)
        // What is still in use survives the change of generations.
        if (value !== undefined) set(key, value)
      }
      return value
    },
    set,
    clear () {
      young = new Map()
      old = new Map()
    }
  }
}
