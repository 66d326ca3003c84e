/** Values that a schema lets pass, by the name of the property where the schema says too little; and values at and just past its bounds. */
import { Entries, Raw, type Entry, type Json } from './json.js'
import type { Schema } from './openapi.js'
import type { Random } from './random.js'
import { REPORTED, type World } from './world.js'

const ADDRESSES = ['192.0.2.7', '198.51.100.99', '::ffff:192.0.2.1', '2001:db8::1', '2001:DB8:0:0:0:0:0:2', 'fe80::1%eth0', '[2001:db8::3]:443', '203.0.113.5:5555', '::', '10.0.0.1']
const NETWORKS = ['192.0.2.0/24', '198.51.100.7', '2001:db8:1::/48', '203.0.113.128/25', '2001:db8::5', '10.1.0.0/16']
const AGENTS = [
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', 'curl/8.5.0', 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1',
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36', '=HYPERLINK("http://x")', 'ünïcödé 漢字'
]
const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'
const YEAR = 365 * 86_400_000

export interface Making { random: Random, world: World, path: string }

const word = (random: Random, length: number) => Array.from({ length }, () => random.pick([...LETTERS])).join('')

/** Texts for a property of this name; undefined where the name says nothing. */
function textFor (name: string, { random, world, path }: Making): string | undefined {
  const session = world.live.length === 0 ? undefined : random.pick(world.live)
  switch (name) {
    case 'userId': return path === '/admin/ip-logs' ? `${REPORTED}${world.user(random)}` : world.user(random)
    case 'ip': return random.pick(ADDRESSES)
    case 'cidr': return random.pick(NETWORKS)
    case 'userAgent': return random.pick(AGENTS)
    case 'token': return random.chance(0.2) && world.ended.length > 0 ? random.pick(world.ended) : session?.token
    case 'sessionId': return session?.id
    case 'id': return path.startsWith('/admin/blocks') ? (world.blocks.length === 0 ? undefined : random.pick(world.blocks)) : session?.id
    case 'cursor': return random.pick([...world.cursors.filter(cursor => cursor.path === path), { cursor: undefined }]).cursor
    case 'bucket': return random.pick(['1s', '5m', '1h', '1d', '7d'])
    case 'action': return random.pick(['login', 'logout', 'order.created', 'a:b-c_d'])
    case 'requestId': return `r-${random.next()}-${random.next()}`
    case 'method': return random.pick(['GET', 'POST', 'DELETE', 'OPTIONS'])
    case 'path': case 'route': return `/shop/${word(random, 6)}`
    case 'referer': return `https://example.com/${word(random, 4)}`
    default: return undefined
  }
}

export function valueOf (schema: Schema, name: string, making: Making): Json {
  const { random } = making
  if (schema.anyOf !== undefined) return valueOf(random.pick(schema.anyOf), name, making)
  if (schema.enum !== undefined) return random.pick(schema.enum)
  switch (schema.type) {
    case 'null': return null
    case 'boolean': return random.chance(0.5)
    case 'integer': case 'number': {
      const { minimum = 0, maximum = 1000 } = schema
      // Mostly small: a list of 500 teaches no more than one of 5.
      return minimum + random.below(random.chance(0.9) ? Math.min(20, maximum - minimum + 1) : maximum - minimum + 1)
    }
    case 'array': return Array.from({ length: (schema.minItems ?? 0) + random.below(3) }, () => valueOf(schema.items!, name, making))
    case 'object': return schema.additionalProperties === true ? anyObject(random, 2) : objectOf(schema, making)
    default: {
      const text = schema.format === 'date-time' ? new Date(Date.UTC(2026, 0) + random.below(2 * YEAR)).toISOString() : textFor(name, making)
      return text ?? word(random, Math.max(schema.minLength ?? 0, random.below(12)))
    }
  }
}

/** All that is required, and half of the rest. */
export function objectOf (schema: Schema, making: Making): Entries {
  const wanted = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name) === true || making.random.chance(0.5))
  return new Entries(wanted.map(([name, inner]): Entry => ({ name, schema: inner, value: valueOf(inner, name, making) })))
}

function anyObject (random: Random, depth: number): Entries {
  return new Entries(Array.from({ length: random.below(4) }, () => ({ name: word(random, 5), value: anyValue(random, depth) })))
}

function anyValue (random: Random, depth: number): Json {
  const kind = random.below(depth > 0 ? 6 : 4)
  if (kind === 5) return anyObject(random, depth - 1)
  if (kind === 4) return [anyValue(random, depth - 1), anyValue(random, depth - 1)]
  return [null, random.chance(0.5), random.below(1e9) / 1000, word(random, 8)][kind]!
}

/** At a bound of the schema, and one past it; empty where it has none. */
export function edgesOf (schema: Schema): Json[] {
  const one = schema.anyOf?.[0] ?? schema
  const edges: Json[] = []
  for (const bound of [one.minimum, one.maximum]) if (bound !== undefined) edges.push(bound, bound - 1, bound + 1, bound + 0.5)
  for (const bound of [one.minLength, one.maxLength]) {
    if (bound !== undefined) edges.push(...[bound - 1, bound, bound + 1].filter(length => length >= 0).flatMap(length => ['x'.repeat(length), '€'.repeat(length), '\u{1f600}'.repeat(length)]))
  }
  if (one.maxItems !== undefined) edges.push([], new Raw(`[${'{},'.repeat(one.maxItems)}{}]`))
  if (one.format === 'date-time') edges.push('2026-02-30T00:00:00Z', '+275760-09-13T00:00:00.001Z', '0000-01-01T00:00:00Z', '2026-01-01T24:00:00Z', '2026-01-01', '9999-12-31T23:59:60Z', '2026-01-01T00:00:00+23:59')
  return edges
}
