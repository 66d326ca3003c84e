/** What no reply and no line of the log may be, whatever was asked. */
import type { Request } from './request.js'
import type { Secrets } from './secrets.js'
import { header, type Exchange, type Reply } from './wire.js'

/** Of the inside: stacks, paths, SQL and what SQLite says. */
const INSIDE: readonly [what: string, pattern: RegExp][] = [
  ['a stack trace', /\bat (?:async )?(?:[\w.<>[\] ]+ \()?(?:file:\/\/|node:|\/)[^\s)"]+:\d+:\d+/],
  ['a path', /node_modules|\/build\/|\/dist\/|\.js:\d+/],
  ['SQL', /\bSQLITE_[A-Z]+|\b(?:SELECT|INSERT|UPDATE|DELETE|PRAGMA)\b[^"]*\b(?:sessions|session_tombstones|ip_log_rows|ip_logs|texts|user_activity|dead_letters|ip_blocks|doorman_\w+)\b/i]
]

export interface Checks {
  /** @param allowed tokens that this reply may show, once in its body and once in its cookie */
  reply (request: Request, reply: Reply, allowed: readonly string[]): string[]
  exchange (request: Request, exchange: Exchange): string[]
  line (line: string): string[]
}

/** @param folders that no reply may name */
export function createChecks (secrets: Secrets, folders: readonly string[]): Checks {
  function inside (text: string, sent: string): string[] {
    const found = INSIDE.flatMap(([what, pattern]) => {
      const match = pattern.exec(text)?.[0]
      // What came from the client itself says nothing of us.
      return match === undefined || sent.includes(match) ? [] : [`shows ${what}: ${match.slice(0, 200)}`]
    })
    return [...found, ...namesFolder(text)]
  }

  const namesFolder = (text: string) => folders.filter(folder => text.includes(folder)).map(folder => `names the folder ${folder}`)

  return {
    reply (request, reply, allowed) {
      const problems: string[] = []
      const { status } = reply
      if (status >= 500) problems.push(`status ${status}`)
      if (status >= 400) problems.push(...errorShape(request, reply), ...inside(`${reply.head}\n${reply.body}`, sentBy(request)))
      else problems.push(...namesFolder(reply.head + reply.body))
      if (/^x-injected|^set-cookie: *a=b/im.test(reply.head)) problems.push('has a header that the client wrote')
      const { head, body } = allowed.reduce((rest: Reply, token): Reply => ({
        ...rest,
        head: header(reply, 'set-cookie')?.includes(token) === true ? rest.head.replace(token, '') : rest.head,
        body: rest.body.replace(`"token":"${token}"`, '')
      }), reply)
      return [...problems, ...secrets.find(`${head}\n${body}`).map(name => `shows ${name}`)]
    },

    exchange ({ replies: wanted, expected, bytes }, { replies, end, rest }) {
      if (end === 'timeout') return ['was not answered, nor was its connection closed']
      if (rest !== '') return [`was answered by something that is no reply: ${JSON.stringify(rest.slice(0, 200))}`]
      // Refused before all of it was read: the reset that TCP then sends may overtake the reply, which is no silence of the server.
      if (end === 'reset' && bytes.length > 16_384) return []
      const due = wanted ?? expected
      return due !== null && replies.length !== due ? [`got ${replies.length} replies instead of ${due} (${end})`] : []
    },

    line (line) {
      if (!line.startsWith('{')) return /^(?:fastify-doorman listens on |\s|$)/.test(line) ? secretsIn(line) : [`the log has a line that is no JSON: ${line.slice(0, 200)}`]
      const { level, msg, err } = JSON.parse(line) as { level: number, msg?: string, err?: unknown }
      const problems = secretsIn(line)
      if (level >= 50) problems.push(`an error was logged: ${msg} ${JSON.stringify(err ?? '')}`.slice(0, 1000))
      // Below, a refusal is explained to whoever looks for its cause, with its stack.
      else if (level >= 40) problems.push(...inside(line, '').map(text => `a warning ${text}`))
      return problems
    }
  }

  function secretsIn (line: string): string[] {
    return secrets.find(line).map(name => `the log shows ${name}: ${line.slice(0, 600)}`)
  }
}

const KEYS = 'statusCode,code,error,message'

/** Every error is said in one shape, so that clients can rely on it. */
function errorShape (request: Request, reply: Reply): string[] {
  // Replies to HEAD have no body. Node's own to an `Expect` that it does not know has none either.
  if (request.method === 'HEAD' || reply.status === 417) return []
  if (header(reply, 'content-type')?.startsWith('application/json') !== true) return [`an error with the content type ${header(reply, 'content-type')}`]
  try {
    const body = JSON.parse(reply.body) as Record<string, unknown>
    if (Object.keys(body).join() !== KEYS) return [`an error with the properties ${Object.keys(body).join()}`]
    if (body['statusCode'] !== reply.status) return [`an error whose body says ${String(body['statusCode'])}, and its head ${reply.status}`]
    return /^(?:DOORMAN|FST)_[A-Z_]+$/.test(String(body['code'])) ? [] : [`an error with the code ${String(body['code'])}`]
  } catch {
    return ['an error that is no JSON']
  }
}

/** What a client sent, in the forms in which it may come back. */
function sentBy ({ bytes }: Request): string {
  const text = bytes.toString('latin1')
  const decoded = text.replace(/(?:%[\da-f]{2})+/gi, run => Buffer.from(run.replaceAll('%', ''), 'hex').toString())
  return `${text}\n${bytes.toString()}\n${decoded}`
}
