/** One thing wrong with a body, or with a text in a query, a path or a header. */
import { Entries, objectsIn, Raw, type Json } from './json.js'
import type { Random } from './random.js'
import { edgesOf } from './values.js'

/** What no property of these routes is. */
const ODD: readonly Json[] = [
  null, true, 0, -1, 0.5, 2 ** 31, 2 ** 53, -(2 ** 53), 1e308, new Raw('1e999'), new Raw('-0'), new Raw('1E-400'), new Raw('9'.repeat(400)), '', ' ', '0', 'null', 'x'.repeat(256), 'x'.repeat(70_000), '\0', '\ud800', '\u202e', '\u001b[2J',
  [], [[]], new Entries([]), new Raw('['.repeat(500) + ']'.repeat(500)), new Raw('{"a":'.repeat(500) + '1' + '}'.repeat(500)), [null, 1, 'a'], new Entries([{ name: '$ne', value: null }]), new Entries([{ name: 'toString', value: 1 }]), new Entries([{ name: 'length', value: -1 }])
]

/** Names that objects have already, or that parsers fall over. */
const NAMES = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', '', ' ', '\0', '\ud800', 'a.b', '$where', '0', '-1', 'length', 'token', 'statusCode', 'ipSource', 'x'.repeat(3000)]

export const BODY_MUTATIONS = ['wrong type', 'boundary', 'hostile text', 'unknown property', 'property of a prototype', 'missing property', 'property twice', 'hostile name', 'another shape'] as const

/** Spoils one place of a body. @returns the body, which may be another one, and what was done */
export function spoil (body: Json, hostile: string, random: Random): { body: Json, kind: string } {
  const kind = random.pick(BODY_MUTATIONS)
  const owners = objectsIn(body)
  const owner = owners.length === 0 ? undefined : random.pick(owners)
  if (owner === undefined || kind === 'another shape') return { kind: 'another shape', body: random.pick([[body], random.pick(ODD), hostile]) }
  const { list } = owner
  if (kind === 'unknown property') list.push({ name: `x${random.next()}`, value: random.pick(ODD) })
  else if (kind === 'hostile name') list.push({ name: hostile, value: 1 })
  else if (kind === 'property of a prototype') list.splice(random.below(list.length + 1), 0, { name: random.pick(NAMES), value: random.pick([new Entries([{ name: 'polluted', value: true }]), ...ODD]) })
  else if (list.length > 0) {
    const at = random.below(list.length)
    const entry = list[at]!
    if (kind === 'missing property') list.splice(at, 1)
    // The user of a reported request says what may be erased (world.ts), so it stays one of those.
    else if (kind === 'property twice') list.push({ ...entry, ...(entry.name === 'userId' ? {} : { value: random.pick(ODD) }) })
    else {
      const edges = entry.schema === undefined ? [] : edgesOf(entry.schema)
      entry.value = kind === 'hostile text' ? hostile : kind === 'boundary' && edges.length > 0 ? random.pick(edges) : random.pick(ODD)
    }
  }
  return { body, kind }
}

/** A text in place of one that a query or a path had. */
export function oddText (hostile: string, random: Random): string {
  const odd = random.pick(ODD)
  return random.chance(0.6) ? hostile : typeof odd === 'string' ? odd : String(odd)
}
