/**
 * Mixed load at a fixed rate, whatever the service does: a request that is late delays no other, and its latency counts from
 * when it was to be sent. Everything goes into the ledger.
 */
import { Agent, request } from 'node:http'
import type { Entry, HeldSession, Kind, Ledger } from './ledger.js'

export interface LoadOptions {
  /** Addresses of the services; requests go to each in turn. */
  targets: readonly string[]
  ledger: Ledger
  /** Requests per second, of all kinds together. */
  rate: number
  /** How often each kind comes, relative to the others. */
  mix?: Readonly<Partial<Record<Kind, number>>>
  /** Begins every id, so that several loads can share a ledger. */
  prefix?: string
}

export interface Load {
  /** Sends nothing any more; resolves when every request has ended. */
  stop (): Promise<void>
  /** Requests under way. */
  readonly open: number
  /** Breaks what is under way; for a service that was killed. */
  abort (): void
}

/** A typical service: mostly pages of people who are logged in. */
export const MIX: Readonly<Record<Kind, number>> = { me: 60, anonymous: 30, login: 6, logout: 4 }

const METHODS: Record<Kind, string> = { me: 'GET', anonymous: 'GET', login: 'POST', logout: 'POST' }
/** Codes of refusals that do not say whether a logout took place. */
const UNKNOWN = ['DOORMAN_WRITER_DIED', 'DOORMAN_COMMIT_UNKNOWN', 'DOORMAN_ROW_DELAYED', 'DOORMAN_ROW_NOT_STORED']
/** Live sessions that a logout leaves for the others to use. */
const KEEP = 5

export function startLoad ({ targets, ledger, rate, mix = MIX, prefix = '' }: LoadOptions): Load {
  const agent = new Agent({ keepAlive: true })
  const kinds = (Object.entries(mix) as [Kind, number][]).flatMap(([kind, weight]) => Array<Kind>(weight).fill(kind))
  const running = new Set<Promise<void>>()
  /** Requests under way that use a session: one that is late must not find it ended by a logout that was sent after it. */
  const uses = new Map<HeldSession, number>()
  let sent = 0
  const start = performance.now()
  const timer = setInterval(() => {
    for (const due = (performance.now() - start) * rate / 1000; sent < due; sent++) {
      const done = one(kinds[Math.floor(Math.random() * kinds.length)]!, start + sent * 1000 / rate)
      running.add(done)
      done.finally(() => running.delete(done))
    }
  }, 1)

  async function one (wanted: Kind, at: number): Promise<void> {
    const { kind, session } = pick(wanted)
    const entry: Entry = { id: `${prefix}${ledger.entries.length}`, kind, at, latency: NaN, status: 0, code: undefined, retryAfter: undefined }
    ledger.entries.push(entry)
    const target = targets[sent % targets.length]!
    use(session, 1)
    const answer = await send(agent, target, METHODS[kind], `/${kind}/${entry.id}`, session?.token)
    use(session, -1)
    entry.latency = performance.now() - at
    if (answer !== null) {
      entry.status = answer.status
      entry.code = answer.body['code'] as string | undefined
      entry.retryAfter = answer.retryAfter
    }
    if (kind === 'login' && answer?.status === 201) ledger.live.push({ id: answer.body['sessionId'] as string, token: answer.body['token'] as string })
    if (kind === 'logout') {
      if (answer?.status === 204) ledger.ended.push(session!)
      // Refused with a code: nothing has happened, except where the code says that it is not known, or is about the row of the request.
      else if (answer?.status === 503 && !UNKNOWN.includes(entry.code!)) ledger.live.push(session!)
      else ledger.unknown.push(session!)
    }
  }

  /** What needs a session is a login while there is none to spare. */
  function pick (kind: Kind): { kind: Kind, session?: HeldSession } {
    if (kind === 'me' && ledger.live.length > 0) return { kind, session: ledger.live[Math.floor(Math.random() * ledger.live.length)]! }
    const idle = kind === 'logout' && ledger.live.length > KEEP ? ledger.live.findIndex(session => !uses.has(session)) : -1
    if (idle !== -1) return { kind, session: ledger.live.splice(idle, 1)[0]! }
    return { kind: kind === 'me' || kind === 'logout' ? 'anonymous' : kind }
  }

  function use (session: HeldSession | undefined, by: 1 | -1): void {
    if (session === undefined) return
    const count = (uses.get(session) ?? 0) + by
    if (count === 0) uses.delete(session)
    else uses.set(session, count)
  }

  return {
    async stop () {
      clearInterval(timer)
      await Promise.all(running)
      agent.destroy()
    },
    get open () { return running.size },
    abort () {
      clearInterval(timer)
      agent.destroy()
    }
  }
}

export interface Answer { status: number, body: Record<string, unknown>, retryAfter: string | undefined, headers: NodeJS.Dict<string | string[]> }

/** One request; null when the connection broke before the reply was complete. */
export function send (agent: Agent, target: string, method: string, path: string, token?: string): Promise<Answer | null> {
  return new Promise(resolve => {
    const broken = () => { resolve(null) }
    request(target + path, { method, agent, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('error', broken).on('end', () => {
        resolve({ status: response.statusCode!, body: text === '' ? {} : JSON.parse(text) as Record<string, unknown>, retryAfter: response.headers['retry-after'], headers: response.headers })
      })
    }).on('error', broken).end()
  })
}

/** Logs in `count` users one after the other, so that there are sessions to use. */
export async function logIn (target: string, ledger: Ledger, count: number, prefix = 'first-'): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  for (let i = 0; i < count; i++) {
    const entry: Entry = { id: `${prefix}${i}`, kind: 'login', at: performance.now(), latency: NaN, status: 0, code: undefined, retryAfter: undefined }
    ledger.entries.push(entry)
    const answer = await send(agent, target, 'POST', `/login/${entry.id}`)
    if (answer?.status !== 201) throw new Error(`login failed: ${answer?.status} ${JSON.stringify(answer?.body)}`)
    entry.status = answer.status
    entry.latency = performance.now() - entry.at
    ledger.live.push({ id: answer.body['sessionId'] as string, token: answer.body['token'] as string })
  }
  agent.destroy()
}
