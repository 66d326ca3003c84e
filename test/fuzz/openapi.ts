/** What the service says of itself at /docs/json, as far as requests are made from it. */

/** The part of JSON Schema that the routes use. */
export interface Schema {
  type?: string
  enum?: string[]
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean
  items?: Schema
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  minItems?: number
  maxItems?: number
  format?: string
  pattern?: string
}

export interface Parameter { name: string, in: 'path' | 'query', required: boolean, schema: Schema }

export interface Operation {
  /** Such as `GET /sessions/{id}`. */
  label: string
  method: string
  path: string
  /** Who may use it. */
  needs: 'apiKey' | 'session' | null
  parameters: Parameter[]
  body: Schema | null
}

interface Document {
  paths: Record<string, Record<string, {
    security?: Record<string, unknown>[]
    parameters?: Parameter[]
    requestBody?: { content: Record<string, { schema: Schema }> }
  }>>
}

/** @param document as it came; what is in no document (the documentation itself, what does not exist) is not in the result either */
export function operationsOf (document: unknown): Operation[] {
  return Object.entries((document as Document).paths).flatMap(([path, methods]) => Object.entries(methods).map(([name, said]) => {
    const method = name.toUpperCase()
    const needs = Object.keys(said.security?.[0] ?? {})[0] ?? null
    return {
      label: `${method} ${path}`,
      method,
      path,
      needs: needs === 'apiKey' || needs === 'session' ? needs : null,
      parameters: said.parameters ?? [],
      body: said.requestBody?.content['application/json']?.schema ?? null
    }
  }))
}
