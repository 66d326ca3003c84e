/** JSON as it is written, also where no object of JavaScript has it: names twice, `__proto__`, numbers beyond every bound. */
import type { Schema } from './openapi.js'

/** Written as it is. */
export class Raw {
  constructor (readonly text: string) {}
}

export interface Entry { name: string, value: Json, schema?: Schema }

/** An object, as a list of what stands in it. */
export class Entries {
  constructor (readonly list: Entry[]) {}
}

export type Json = string | number | boolean | null | Json[] | Entries | Raw

export function write (json: Json): string {
  if (json instanceof Raw) return json.text
  if (json instanceof Entries) return `{${json.list.map(({ name, value }) => `${JSON.stringify(name)}:${write(value)}`).join()}}`
  if (Array.isArray(json)) return `[${json.map(write).join()}]`
  return JSON.stringify(json)
}

/** Every object in it, from the outside in. */
export function objectsIn (json: Json): Entries[] {
  if (json instanceof Entries) return [json, ...json.list.flatMap(({ value }) => objectsIn(value))]
  return Array.isArray(json) ? json.flatMap(objectsIn) : []
}
