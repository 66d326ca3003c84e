/** User agents read as a family ("Firefox on Windows"): for people to recognise a session by, and for comparison. */
import Bowser from 'bowser'
import { createCache } from './cache.js'

// For user agents it does not know, the library gives any text in front of the version. `Mozilla` says nothing.
const NAME = /^(?!Mozilla\b)[A-Za-z][\w.-]{0,39}(?: [A-Za-z][\w.-]{0,19}){0,3}/

/**
 * User agents that are remembered, with what they are: reading one takes some twenty microseconds, and most people have one of a few hundred. Long
 * ones are not, so that hostile headers do not fill the memory (at most 1 MB).
 */
const CACHE_SIZE = 1000
const CACHED_LENGTH = 500
const known = createCache<string | null>(CACHE_SIZE)

/** Family and system, such as "Firefox on Windows"; the product name of a tool, such as "curl"; null when neither is known. */
export function describeDevice (userAgent: string | null): string | null {
  if (userAgent === null || userAgent === '') return null
  if (userAgent.length > CACHED_LENGTH) return read(userAgent)
  let device = known.get(userAgent)
  if (device === undefined) known.set(userAgent, device = read(userAgent))
  return device
}

function read (userAgent: string): string | null {
  const { browser, os } = Bowser.parse(userAgent)
  const [name] = NAME.exec(browser.name || userAgent) ?? []
  const system = os.name
  if (name === undefined) return system ?? null
  return system === undefined ? name : `${name} on ${system}`
}
