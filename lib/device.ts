/** User agents read as a family ("Firefox on Windows"): for people to recognise a session by, and for comparison. */
import Bowser from 'bowser'

// For user agents it does not know, the library gives any text in front of the version. `Mozilla` says nothing.
const NAME = /^(?!Mozilla\b)[A-Za-z][\w.-]{0,39}(?: [A-Za-z][\w.-]{0,19}){0,3}/

/** Family and system, such as "Firefox on Windows"; the product name of a tool, such as "curl"; null when neither is known. */
export function describeDevice (userAgent: string | null): string | null {
  if (userAgent === null || userAgent === '') return null
  const { browser, os } = Bowser.parse(userAgent)
  const [name] = NAME.exec(browser.name || userAgent) ?? []
  const system = os.name
  if (name === undefined) return system ?? null
  return system === undefined ? name : `${name} on ${system}`
}
