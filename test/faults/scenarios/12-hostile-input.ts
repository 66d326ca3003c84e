/**
 * 12. Hostile bytes in every place of a request, over raw sockets against the standalone server: no crash, no 5xx, every request
 * answered or its connection closed, one row for each, and nothing stored that a terminal, a log or a CSV would take for a command.
 */
import { isUtf8 } from 'node:buffer'
import { BODIES, hostileCorpus } from '../hostile.js'
import { files, holds, integrity, look, none, sized, startStandalone, type Context, type Scenario } from '../kit/index.js'
import { shootAll, type Outcome, type Shot } from '../kit/shots.js'
import { KEY } from '../kit/standalone.js'

type Place = (payload: Buffer, token: string) => Shot

const END = '\r\nHost: x\r\nConnection: close\r\n'
const join = (...parts: (string | Buffer)[]) => Buffer.concat(parts.map(part => typeof part === 'string' ? Buffer.from(part, 'latin1') : part))
const encoded = (payload: Buffer) => Array.from(payload, byte => `%${byte.toString(16).padStart(2, '0')}`).join('')
const textOf = (payload: Buffer) => isUtf8(payload) ? payload.toString() : payload.toString('latin1')
const withKey = `Authorization: Bearer ${KEY}\r\n`

function body (place: string, line: string, headers: string, content: unknown): Shot {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content))
  return { place, bytes: join(`${line} HTTP/1.1${END}${headers}Content-Type: application/json\r\nContent-Length: ${bytes.length}\r\n\r\n`, bytes) }
}

/** Where a payload may stand in a request. Those that write are the real routes, with a right key or token. */
const PLACES: readonly Place[] = [
  payload => ({ place: 'headers', bytes: join(`GET /headers HTTP/1.1${END}User-Agent: `, payload, '\r\nReferer: http://', payload, '\r\nX-Forwarded-For: ', payload, '\r\nX-Request-Id: ', payload, '\r\n\r\n') }),
  payload => ({ place: 'header name', bytes: join(`GET /name HTTP/1.1${END}X-`, payload, ': x\r\n\r\n') }),
  payload => ({ place: 'cookie', bytes: join(`GET /session HTTP/1.1${END}Cookie: sid=`, payload, '; ', payload, '\r\n\r\n') }),
  payload => ({ place: 'bearer token', bytes: join(`GET /session HTTP/1.1${END}Authorization: Bearer `, payload, '\r\n\r\n') }),
  payload => ({ place: 'API key', bytes: join(`GET /admin/sessions HTTP/1.1${END}Authorization: Bearer `, payload, '\r\n\r\n') }),
  payload => ({ place: 'query', bytes: join('GET /admin/ip-logs?ip=', payload, '&cursor=', payload, ` HTTP/1.1${END}${withKey}\r\n`) }),
  payload => ({ place: 'query, encoded', bytes: join(`GET /admin/sessions?userId=${encoded(payload)} HTTP/1.1${END}${withKey}\r\n`) }),
  payload => ({ place: 'query, other names', bytes: join(`GET /admin/ip-logs/series?from=${encoded(payload)}&limit=${encoded(payload)}&${encoded(payload)}=1 HTTP/1.1${END}${withKey}\r\n`) }),
  payload => ({ place: 'path', bytes: join('GET /', payload, ` HTTP/1.1${END}\r\n`) }),
  payload => ({ place: 'path, encoded', bytes: join(`GET /admin/users/${encoded(payload)}/export HTTP/1.1${END}${withKey}\r\n`) }),
  payload => ({ place: 'method', bytes: join(payload, ` /method HTTP/1.1${END}\r\n`), end: true }),
  payload => ({ place: 'no HTTP', bytes: join(payload, '\r\n\r\n'), end: true }),
  payload => body('body', 'POST /sessions', withKey, payload),
  payload => body('body: login', 'POST /sessions', withKey, { userId: textOf(payload), userAgent: textOf(payload), data: { [textOf(payload)]: textOf(payload) } }),
  (payload, token) => body('body: session data', 'PATCH /session', `Authorization: Bearer ${token}\r\n`, { data: { [textOf(payload)]: [textOf(payload)] } }),
  payload => body('body: introspection', 'POST /admin/sessions/introspect', withKey, { token: textOf(payload), ip: textOf(payload), userAgent: textOf(payload) }),
  payload => body('body: reported requests', 'POST /admin/ip-logs', withKey, { items: [{ requestId: textOf(payload), ip: textOf(payload), method: textOf(payload).slice(0, 40), path: textOf(payload), route: textOf(payload), status: 200, userAgent: textOf(payload), referer: textOf(payload), sessionId: textOf(payload), userId: textOf(payload) }] }),
  payload => body('body: reported request, one odd field', 'POST /admin/ip-logs', withKey, { items: [{ requestId: `r-${payload.toString('hex').slice(0, 100)}`, method: 'GET', path: `/${textOf(payload)}`, status: 200, userAgent: textOf(payload), referer: `https://x/${textOf(payload)}` }] }),
  payload => body('body: activity', 'POST /admin/activity', withKey, { userId: 'alice', action: textOf(payload), sessionId: textOf(payload), detail: { [textOf(payload)]: textOf(payload) } }),
  payload => body('body: block', 'POST /admin/blocks', withKey, { cidr: textOf(payload), reason: textOf(payload) })
]

export const hostileInput: Scenario = {
  number: 12,
  title: 'Hostile input',
  async run (context) {
    const { payloads, agents, name } = hostileCorpus()
    const paths = files(context)
    const server = await startStandalone(context, { DATABASE_URL: paths.url, LOG_LEVEL: 'error', TRUST_PROXY: 'loopback' })
    const login = await server.post('/sessions', { userId: 'alice' })
    const token = login!.body['token'] as string
    const odd = BODIES.flatMap(bytes => bodies(bytes, token))
    const shots = [
      ...payloads.flatMap(payload => PLACES.map(place => place(payload, token))),
      ...agents.flatMap((payload, i) => [PLACES[0]!, PLACES[i % PLACES.length]!].map(place => place(payload, token)))
    ]
    // Every so many of them, moved on by one for each payload, so that every place has its share.
    const step = sized(context, 1, Math.ceil(shots.length / 1500))
    const chosen = [...shots.filter((_, i) => i % step === Math.floor(i / PLACES.length) % step), ...odd]
    context.note(`${name}; ${chosen.length} of ${shots.length + odd.length} requests`)

    const outcomes = await shootAll(Number(new URL(server.address).port), chosen, { width: 48, limit: 15_000 })
    const replies = outcomes.flatMap(({ replies }) => replies)
    context.note([...new Set(replies)].sort().map(status => `${status}: ${replies.filter(reply => reply === status).length}`).join(', '))
    holds(context, 'requests sent', outcomes.length === chosen.length, `${outcomes.length}, ${name}`, 'all')
    none(context, 'replies 5xx', replies.filter(status => status >= 500).length, replies.length)
    const silent = outcomes.filter(({ replies }) => replies.length === 0)
    const unexpected = silent.filter(outcome => !isConnect(outcome.shot) && !isNothing(outcome.shot) && !isCut(outcome))
    for (const outcome of [...unexpected, ...outcomes.filter(failed)].slice(0, 10)) context.note(describe(outcome))
    none(context, 'connections left open, broken off, or with something that is no reply', outcomes.filter(failed).length, outcomes.length)
    none(context, 'requests closed without a reply, but CONNECT and empty lines', unexpected.length, outcomes.length)

    const after = await fetch(`${server.address}/session`, { headers: { authorization: `Bearer ${token}` } })
    const errors = server.log.filter(line => line.level >= 50)
    for (const line of errors.slice(0, 5)) context.note(JSON.stringify(line).slice(0, 500))
    server.process.kill('SIGTERM')
    const { code } = await server.ended
    holds(context, 'crashes: the session from before is good, and the server stops in order', after.status === 200 && code === 0 && server.stderr === '' && errors.length === 0,
      `${after.status}, exit code ${code}, ${errors.length} errors logged`, '200, exit code 0, 0 errors')

    const [{ n: rows }] = look<{ n: number }>(paths.log, 'SELECT count(*) AS n FROM ip_logs WHERE ip_source <> \'reported\'') as [{ n: number }]
    // Ours besides: the login, and the look at the session.
    const expected = replies.length + silent.filter(({ shot }) => isConnect(shot)).length + 2
    // Bytes after the end of a request may be refused before its own reply is out: one reply, and a row for each of the two.
    const most = expected + outcomes.filter(({ shot, replies }) => goesOn(shot) && replies.length === 1).length + silent.filter(isCut).length
    holds(context, 'one row for each request that was answered or refused', rows >= expected && rows <= most, `${rows}`, most === expected ? `${expected}` : `${expected} to ${most}`)
    const [{ n: buried }] = look<{ n: number }>(paths.log, 'SELECT count(*) AS n FROM dead_letters') as [{ n: number }]
    none(context, 'rows that the database refused', buried, rows)
    checkTexts(context, [paths.main, paths.log])
    holds(context, 'integrity', integrity(paths.main) === 'ok' && integrity(paths.log) === 'ok')
  }
}

/** A body as it is, at every route that takes one. */
function bodies (bytes: Buffer, token: string): Shot[] {
  const routes = ['POST /sessions', 'POST /admin/ip-logs', 'POST /admin/activity', 'POST /admin/blocks', 'POST /admin/sessions/introspect']
  return [...routes.map(route => body(`odd body: ${route}`, route, withKey, bytes)), body('odd body: PATCH /session', 'PATCH /session', `Authorization: Bearer ${token}\r\n`, bytes)]
}

/** Nobody takes tunnels here, so Node closes the connection, and the row says so. */
const isConnect = ({ bytes }: Shot) => /^(\r?\n)*CONNECT /.test(bytes.toString('latin1'))
/** Empty lines before a request are passed over (RFC 9112, 2.2), and none comes: there is nothing to answer. */
const isNothing = ({ bytes }: Shot) => /^(\r?\n)*$/.test(bytes.toString('latin1'))

/** A head that ends before the bytes do, where no body is to follow. */
const goesOn = ({ bytes }: Shot) => !/content-length/i.test(bytes.toString('latin1')) && /^(?:\r\n)*[^\r\n].*?\r\n\r\n./s.test(bytes.toString('latin1'))

/** Refused before all of it was read: the reset that TCP then sends may overtake the reply, which is no silence of the server. */
const isCut = ({ shot, end, replies }: Outcome) => end === 'reset' && replies.length === 0 && shot.bytes.length > 16_384
const failed = (outcome: Outcome) => outcome.end === 'timeout' || outcome.rest !== '' || (outcome.end === 'reset' && outcome.replies.length === 0 && !isCut(outcome))
const describe = ({ shot, replies, end, rest }: Outcome) => `${shot.place}: ${end}, replies ${replies.join()}, rest ${JSON.stringify(rest.slice(0, 100))}, sent ${JSON.stringify(shot.bytes.toString('latin1').slice(0, 300))}`

/** Looks into every column that can hold text. */
function checkTexts (context: Context, paths: readonly string[]): void {
  let values = 0
  let controls = 0
  let broken = 0
  for (const path of paths) {
    const columns = look<{ tab: string, col: string }>(path, `SELECT m.name AS tab, c.name AS col FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
      WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.type IN ('TEXT', 'ANY')`)
    for (const { tab, col } of columns) {
      const where = `FROM ${tab} WHERE typeof(${col}) = 'text'`
      const bad = look<{ value: string }>(path, `SELECT ${col} AS value ${where} AND (${col} GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*' OR instr(${col}, char(0)) > 0)`)
      controls += bad.length
      for (const { value } of bad.slice(0, 2)) context.note(`${tab}.${col}: ${JSON.stringify(value).slice(0, 200)}`)
      const bytes = look<{ value: Uint8Array }>(path, `SELECT CAST(${col} AS BLOB) AS value ${where}`)
      values += bytes.length
      broken += bytes.filter(({ value }) => !isUtf8(value)).length
    }
  }
  none(context, 'stored texts with control characters', controls, values)
  none(context, 'stored texts that are no UTF-8', broken, values)
}
