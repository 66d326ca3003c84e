/**
 * Text from clients on its way into the log: bounded, without control characters, decoded where HTTP hides UTF-8. What a
 * header, a path or a referer is reduced to before it is stored is decided here.
 */
import { isUtf8 } from 'node:buffer'

// Control characters (C0, DEL, C1) break logs and terminals, bidi controls make text show other than it is, and halves of
// surrogate pairs are no characters: none of them can be stored and read back the same everywhere.
const UNWANTED = /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/gu
const PRINTABLE_ASCII = /^[ -~]*$/
const BYTES_ONLY = /^[\0-\xff]*$/

/**
 * Removes control characters, bidi controls and lone surrogates, then keeps at most `max` characters (code points, so that
 * none is cut in half). Applying it twice changes nothing.
 */
export function clean (text: string, max: number): string {
  if (PRINTABLE_ASCII.test(text)) return text.length > max ? text.slice(0, max) : text
  const wanted = text.replace(UNWANTED, '')
  // A string is never shorter than its code points are many.
  return wanted.length > max ? Array.from(wanted.slice(0, max * 2)).slice(0, max).join('') : wanted
}

/**
 * A header's text, cleaned. Node reads header bytes as Latin-1; where they are valid UTF-8, that is what the client meant.
 */
export function cleanHeader (text: string, max: number): string {
  if (PRINTABLE_ASCII.test(text)) return text.length > max ? text.slice(0, max) : text
  if (!BYTES_ONLY.test(text)) return clean(text, max)
  const bytes = Buffer.from(text, 'latin1')
  return clean(isUtf8(bytes) ? bytes.toString() : text, max)
}

// JSON.stringify escapes the other control characters, and lone surrogates, itself.
const UNESCAPED = /[\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g

/** JSON that means the same and holds none of what `clean` removes, as JSON.stringify wrote it. */
export function escapeJson (json: string): string {
  return json.replace(UNESCAPED, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const ABSOLUTE = /^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i
const PATH_END = /[?#]/

/**
 * The path of a request target, without query and fragment: they may hold tokens. `http://host/x` gives `/x`; `*` and
 * `host:443` (OPTIONS and CONNECT) stay as they are.
 */
export function pathOf (target: string): string {
  // The usual case first: one path, at most one query.
  const relative = target.charCodeAt(0) === 47 /* / */ ? target : target.replace(ABSOLUTE, '')
  const end = relative.search(PATH_END)
  const path = end === -1 ? relative : relative.slice(0, end)
  return path === '' && target !== '' ? '/' : path
}

// Lower case, no default port, no credentials: an origin already.
const PLAIN_ORIGIN = /^https?:\/\/[a-z\d.-]+(?::(?!(?:80|443)(?!\d))\d{1,4})?(?=[/?#]|$)/

/**
 * The origin of a Referer header (`https://example.com`): where a visitor comes from, not what was read there. Null for
 * anything that has no origin.
 */
export function originOf (referer: string, max: number): string | null {
  // `new URL` is too slow for the usual case.
  const [plain] = PLAIN_ORIGIN.exec(referer) ?? []
  if (plain !== undefined) return clean(plain, max)
  if (!URL.canParse(referer)) return null
  const { origin } = new URL(referer)
  return origin === 'null' ? null : clean(origin, max)
}
