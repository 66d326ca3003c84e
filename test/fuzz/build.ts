/** Makes the requests: from the operations of the OpenAPI document, as they should be, with one thing wrong, or with hostile texts in every place. */
import { isUtf8 } from 'node:buffer'
import { Entries, objectsIn, write, type Json } from './json.js'
import { oddText, spoil } from './mutate.js'
import type { Operation } from './openapi.js'
import type { Random } from './random.js'
import { malformed } from './raw.js'
import { frame, type Parts, type Request } from './request.js'
import { objectOf, valueOf, type Making } from './values.js'
import { REPORTED, type Session, type World } from './world.js'

export interface Ground {
  operations: readonly Operation[]
  payloads: readonly Buffer[]
  world: World
  key: string
}

/** Requests of no operation: the documentation, and what does not exist. */
const ELSEWHERE = ['/', '/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/index.html', '/docs/static/swagger-ui.css', '/docs/static/..%2f..%2fpackage.json', '/docs/static/nothing.js', '/metrics/', '//session', '/Session', '/session/', '/admin', '/health', '/.env', '/favicon.ico', '/sessions/a/b', '/*', '/admin/users//export']
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'SEARCH', 'QUERY', 'LOCK', 'PURGE']
const TYPES = ['', 'text/plain', 'application/xml', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'multipart/form-data', 'application/json; charset=utf-16', 'application/json, text/html', 'application/JSON', 'application/vnd.api+json', 'application/json;', 'json', '*/*', ';', 'application/json; charset="', `application/${'x'.repeat(4000)}`]
/** Longer heads are refused, and the connection with them. */
const LONGEST_HEAD = 12_000

const join = (query: readonly [string, string][]) => query.length === 0 ? '' : `?${query.map(([name, value]) => `${name}=${value}`).join('&')}`
const textOf = (payload: Buffer) => isUtf8(payload) ? payload.toString() : payload.toString('latin1')
const encodedBytes = (payload: Buffer) => Array.from(payload, byte => `%${byte.toString(16).padStart(2, '0')}`).join('')
/** Lone surrogates have no UTF-8, and so no percent-encoding of their own: they go as what stands for them. */
const encoded = (text: string) => encodeURIComponent(Buffer.from(text).toString())

interface Draft {
  operation: Operation
  session: Session | null
  path: [name: string, value: string][]
  query: [string, string][]
  headers: [string, string][]
  body: Json | null
}

export function makeRequest (ground: Ground, random: Random): Request {
  const { operations, world } = ground
  const login = operations.find(({ label }) => label === 'POST /sessions')!
  if (world.needsSessions && random.chance(0.5)) return build(draft(login, ground, random), 'valid')
  const dice = random.below(100)
  if (dice < 5) return malformed(ground, random)
  if (dice < 9) return elsewhere(ground, random)
  const made = draft(random.pick(operations), ground, random)
  if (dice < 45) return build(made, 'valid')
  if (dice < 66) return nearValid(made, ground, random)
  if (dice < 76) return oddCredential(made, ground, random)
  if (dice < 82) return misplaced(made, ground, random)
  if (dice < 88) return oddTransport(made, random)
  return hostileHead(made, ground, random)
}

/** As it should be. */
function draft (operation: Operation, { world, key }: Ground, random: Random): Draft {
  const making: Making = { random, world, path: operation.path }
  const session = operation.needs === 'session' && world.live.length > 0 ? random.pick(world.live) : null
  const parameters = operation.parameters.filter(({ required }) => required || random.chance(0.4)).map(({ name, in: place, schema }) => ({ place, entry: [name, encoded(String(valueOf(schema, name, making)))] as [string, string] }))
  const credential: [string, string][] = operation.needs === 'apiKey' ? [['Authorization', `Bearer ${key}`]] : session === null ? [] : [random.chance(0.5) ? ['Authorization', `Bearer ${session.token}`] : ['Cookie', `sid=${session.token}`]]
  const agent: [string, string][] = random.chance(0.5) ? [['User-Agent', String(valueOf({ type: 'string' }, 'userAgent', making)).replace(/[^ -~]/g, '')]] : []
  const body = operation.body === null ? null : operation.body.type === 'object' ? objectOf(operation.body, making) : valueOf(operation.body, '', making)
  return { operation, session, path: parameters.filter(({ place }) => place === 'path').map(({ entry }) => entry), query: parameters.filter(({ place }) => place === 'query').map(({ entry }) => entry), headers: [...credential, ...agent], body }
}

function partsOf ({ operation, path, query, headers, body }: Draft): Parts {
  if (operation.path === '/admin/ip-logs' && body !== null) markReported(body)
  const filled = path.reduce((text, [name, value]) => text.replace(`{${name}}`, () => value), operation.path)
  return {
    method: operation.method,
    target: filled + join(query),
    headers: body === null ? headers : [...headers, ['Content-Type', 'application/json']],
    body: body === null ? null : Buffer.from(write(body))
  }
}

/** See REPORTED: whatever a mutation made of the user of a reported request. */
function markReported (body: Json): void {
  for (const { list } of objectsIn(body)) {
    for (const entry of list) if (entry.name === 'userId' && typeof entry.value === 'string' && !entry.value.startsWith(REPORTED)) entry.value = REPORTED + entry.value
  }
}

function build (made: Draft, kind: string, parts = partsOf(made)): Request {
  const { label, path } = made.operation
  const bytes = frame(parts)
  if (bytes.length - (parts.body?.length ?? 0) < LONGEST_HEAD) return { label, kind, method: parts.method, path, bytes, replies: 1, expected: 1, session: made.session }
  return { label, kind, method: parts.method, path, bytes: frame({ ...parts, headers: [['Connection', 'close'], ...parts.headers] }), replies: null, expected: 1, session: made.session }
}

const hostileOf = ({ payloads }: Ground, random: Random) => random.pick(payloads)

function nearValid (made: Draft, ground: Ground, random: Random): Request {
  const hostile = textOf(hostileOf(ground, random))
  if (made.body !== null && random.chance(0.8)) {
    const { body, kind } = spoil(made.body, hostile, random)
    return build({ ...made, body }, `body: ${kind}`)
  }
  const places = [...made.path, ...made.query]
  const dice = random.below(5)
  if (places.length === 0 || dice === 0) made.query.push([random.pick(['x', '__proto__', 'constructor[prototype]', 'limit', encoded(hostile)]), encoded(oddText(hostile, random))])
  else {
    const place = random.pick(places)
    if (dice === 1 && made.query.includes(place)) made.query.push([...place])
    else if (dice === 2) place[1] = encodedBytes(hostileOf(ground, random))
    else place[1] = encoded(oddText(hostile, random))
  }
  return build(made, 'path or query: one odd value')
}

function oddCredential (made: Draft, { world, key, payloads }: Ground, random: Random): Request {
  const token = world.live.length === 0 ? 'dm_none' : random.pick(world.live).token
  const ended = world.ended.length === 0 ? token : random.pick(world.ended)
  const near = token.slice(0, -1) + (token.endsWith('A') ? 'B' : 'A')
  const hostile = random.pick(payloads).toString('latin1').replace(/\p{Cc}/gu, '')
  const [kind, ...headers] = random.pick<[string, ...[string, string][]]>([
    ['none'], ['wrong API key', ['Authorization', `Bearer ${'w'.repeat(40)}`]], ['ended token', ['Authorization', `Bearer ${ended}`]], ['ended token in a cookie', ['Cookie', `sid=${ended}`]], ['malformed token', ['Authorization', `Bearer ${near}`]], ['malformed token in a cookie', ['Cookie', `sid=${near}`]],
    ['token in two cookies', ['Cookie', `sid=${token}; sid=${ended}`]], ['two headers', ['Authorization', `Bearer ${token}`], ['Authorization', `Bearer ${key}`]], ['basic', ['Authorization', `Basic ${Buffer.from('a:b').toString('base64')}`]],
    ['API key as a cookie', ['Cookie', `sid=${key}`]], ['hostile token', ['Authorization', `Bearer ${hostile}`]], ['hostile cookie', ['Cookie', `sid=${hostile}; ${hostile}=1`]], ['key with blanks', ['Authorization', `Bearer    ${key}   `]], ['key in lower-case scheme', ['authorization', `bearer ${key}`]],
    ['from another site', ['Cookie', `sid=${token}`], ['Sec-Fetch-Site', 'cross-site'], ['Origin', 'https://evil.example']], ['odd origin', ['Cookie', `sid=${token}`], ['Origin', hostile]], ['odd Sec-Fetch-Site', ['Cookie', `sid=${token}`], ['Sec-Fetch-Site', hostile]], ['token and key', ['Cookie', `sid=${token}`], ['Authorization', `Bearer ${key}`]]
  ])
  return build({ ...made, session: null, headers }, `credential: ${kind}`)
}

/** A live token where none belongs: it may neither be shown nor logged nor stored there. */
function misplaced (made: Draft, { world }: Ground, random: Random): Request {
  const token = world.live.length === 0 ? 'dm_none' : random.pick(world.live).token
  const place = random.pick(['path', 'id', 'query', 'query name', 'header', 'body', 'body name'])
  // A user id is the caller's to choose, and shown again.
  const id = made.path.find(([name]) => name === 'id')
  if (place === 'id' && id !== undefined) id[1] = token
  else if (place === 'query' || place === 'id') {
    const names = made.operation.parameters.filter(entry => entry.in === 'query').map(({ name }) => name)
    made.query = [[random.pick([...names, 'token']), token]]
  } else if (place === 'query name') made.query.push([token, '1'])
  else if (place === 'header') made.headers.push([random.pick(['X-Request-Id', 'Origin', 'X-Forwarded-For', 'Content-Type', 'Accept', 'Referer', 'X-Token']), random.chance(0.5) ? token : `https://x.example/${token}?${token}`])
  else if (place === 'body name' && made.body instanceof Entries) made.body.list.push({ name: token, value: 1 })
  else if (place === 'body' && made.body instanceof Entries) {
    // What a caller stores as its own data, user agent or reason is shown again.
    const entry = made.body.list.find(({ name }) => ['ip', 'cidr', 'until', 'items'].includes(name))
    if (entry !== undefined) entry.value = token
  } else return build(made, 'token in the path', { ...partsOf(made), target: random.pick([`/${token}`, `/sessions/x/${token}`, `/docs/${token}`, `/docs/static/${token}`, `/${token}%zz`]) })
  return build(made, `token in the ${place}`)
}

function oddTransport (made: Draft, random: Random): Request {
  const parts = partsOf(made)
  const dice = random.below(4)
  if (dice === 0) return build(made, 'another method', { ...parts, method: random.pick(METHODS) })
  if (dice === 1) return build(made, 'another content type', { ...parts, headers: [...made.headers, ['Content-Type', random.pick(TYPES)]], body: parts.body ?? Buffer.from('{}') })
  if (dice === 2) return build(made, 'a body where none belongs, or none', { ...parts, body: parts.body === null ? Buffer.from('{"a":1}') : null })
  const extra = random.pick<[string, string][]>([
    [['Accept', 'text/event-stream']], [['Accept-Version', '9.x']], [['Range', 'bytes=-1,5-,9-2']], [['If-None-Match', '*']], [['If-Modified-Since', 'never']], [['Accept-Encoding', 'br;q=1.0, *;q=0']], [['X-HTTP-Method-Override', 'DELETE']], [['Content-Encoding', 'gzip']],
    [['X-Forwarded-For', '203.0.113.9, 10.0.0.1'], ['X-Forwarded-Proto', 'https'], ['X-Forwarded-Host', 'evil.example']], [['Forwarded', 'for=203.0.113.9;proto=https']], [['Keep-Alive', 'timeout=0']], [['TE', 'trailers']], Array.from({ length: 200 }, (_, i): [string, string] => [`X-${i}`, 'x']), [['Connection', 'close, x-request-id']]
  ])
  // Who blocks networks while being somebody else's address may block the fuzzer.
  return made.operation.label === 'POST /admin/blocks' ? build(made, 'valid') : build(made, 'odd headers', { ...parts, headers: [...parts.headers, ...extra] })
}

/** Hostile bytes as they are, within the head. On a connection of its own: who knows where the server sees its end. */
function hostileHead (made: Draft, ground: Ground, random: Random): Request {
  const payload = hostileOf(ground, random).toString('latin1')
  const parts = partsOf(made)
  const place = random.pick(['header', 'header name', 'cookie', 'bearer', 'user agent', 'forwarded', 'path', 'query', 'method'])
  if (made.operation.label === 'POST /admin/blocks' && place === 'forwarded') return build(made, 'valid')
  if (place === 'path') parts.target = `/${payload}`
  else if (place === 'query') parts.target = `${parts.target.split('?', 1)[0]}?${payload}=${payload}`
  else if (place === 'method') parts.method = payload
  else parts.headers.push({ header: ['X-Any', payload], 'header name': [`X-${payload}`, 'x'], cookie: ['Cookie', `${payload}=${payload}; sid=${payload}`], bearer: ['X-Bearer', `Bearer ${payload}`], 'user agent': ['User-Agent', payload], forwarded: ['X-Forwarded-For', payload] }[place] as [string, string])
  if (place === 'bearer') parts.headers = parts.headers.map(([name, value]) => name === 'Authorization' ? [name, `Bearer ${payload}`] : [name, value])
  const { label, path } = made.operation
  const plain = !/[\r\n]/.test(payload) && !['method', 'path', 'query', 'header name'].includes(place)
  return { label, kind: `hostile ${place}`, method: parts.method, path, bytes: frame({ ...parts, headers: [['Connection', 'close'], ...parts.headers] }), replies: null, expected: plain ? 1 : null, end: place === 'method', session: null }
}

function elsewhere ({ payloads, key }: Ground, random: Random): Request {
  const target = random.chance(0.5) ? random.pick(ELSEWHERE) : `/${encodedBytes(random.pick(payloads)).slice(0, 9000)}`
  const method = random.pick(['GET', 'GET', ...METHODS])
  const bytes = frame({ method, target, headers: [['Connection', 'close'], ...(random.chance(0.3) ? [['Authorization', `Bearer ${key}`] as [string, string]] : [])], body: null })
  return { label: 'elsewhere', kind: 'documentation, or nothing', method, path: '/', bytes, replies: null, expected: bytes.length < LONGEST_HEAD ? 1 : null, session: null }
}
