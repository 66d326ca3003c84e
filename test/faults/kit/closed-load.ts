/**
 * Load that saturates: each client sends its next request when the last one is answered, so every service gets as much as it can do.
 * Each client is a user who logs in, looks around, and logs out every second time. Everything goes into the ledger.
 */
import { Agent } from 'node:http'
import type { Entry, HeldSession, Kind, Ledger } from './ledger.js'
import { send, type Answer } from './load.js'

export interface ClosedLoadOptions {
  target: string
  ledger: Ledger
  /** How many send at the same time. */
  clients: number
  /** Begins every id; different for each load that shares a ledger. */
  prefix: string
}

export interface ClosedLoad {
  /** Resolves when every client has got its last answer. */
  stop (): Promise<void>
}

export function startClosedLoad ({ target, ledger, clients, prefix }: ClosedLoadOptions): ClosedLoad {
  const agent = new Agent({ keepAlive: true })
  const end = new AbortController()
  const done = Promise.all(Array.from({ length: clients }, async (_, client) => {
    for (let i = 0; !end.signal.aborted; i++) {
      const id = `${prefix}${client}-${i}`
      const session = await enter(agent, target, ledger, id)
      if (session === null) continue
      await recorded(agent, target, ledger, 'me', id, session.token)
      if (i % 2 === 0) await leave(agent, target, ledger, id, session)
      else ledger.live.push(session)
    }
  }))
  return {
    async stop () {
      end.abort()
      await done
      agent.destroy()
    }
  }
}

/** A login; null when it was refused. The session is not in the ledger yet. */
export async function enter (agent: Agent, target: string, ledger: Ledger, id: string): Promise<HeldSession | null> {
  const { answer } = await recorded(agent, target, ledger, 'login', id)
  return answer?.status === 201 ? { id: answer.body['sessionId'] as string, token: answer.body['token'] as string } : null
}

/** A logout. */
export async function leave (agent: Agent, target: string, ledger: Ledger, id: string, session: HeldSession): Promise<void> {
  const { answer } = await recorded(agent, target, ledger, 'logout', id, session.token)
  ledger[answer?.status === 204 ? 'ended' : 'unknown'].push(session)
}

/** One request with its entry in the ledger. */
export async function recorded (agent: Agent, target: string, ledger: Ledger, kind: Kind, id: string, token?: string): Promise<{ entry: Entry, answer: Answer | null }> {
  const entry: Entry = { id, kind, at: performance.now(), latency: NaN, status: 0, code: undefined, retryAfter: undefined }
  ledger.entries.push(entry)
  const answer = await send(agent, target, kind === 'login' || kind === 'logout' ? 'POST' : 'GET', `/${kind}/${id}`, token)
  entry.latency = performance.now() - entry.at
  if (answer !== null) {
    entry.status = answer.status
    entry.code = answer.body['code'] as string | undefined
    entry.retryAfter = answer.retryAfter
  }
  return { entry, answer }
}
