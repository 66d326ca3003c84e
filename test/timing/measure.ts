/**
 * How long refusals take that must not tell what was refused: requests of several classes over one kept loopback connection, one at a time and in
 * random order, so that what the machine does besides falls on all alike.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSessionId, createToken } from '../../lib/token.js'
import { Random } from '../fuzz/random.js'
import { frame } from '../fuzz/request.js'
import { startService } from '../fuzz/server.js'
import { Lane, type Reply } from '../fuzz/wire.js'
import { auc, median, medianDifference, shuffle } from './statistics.js'

const KEY = 'timing-key-3Vb8Xq1Zt6Lm9Rw4Kp7Hs'
const PATIENCE = 10_000
/** Sessions that requests of a class are about. */
const POOL = 200
/** Requests of each class before those that count: until then code is compiled and caches fill. */
const WARM_UP = 0.2
/** Below this distance from 0.5 an attacker learns next to nothing from one request, whatever the control says. */
const SMALLEST = 0.05

/** The pairs that must not be told apart, after those of one class halved by chance: what noise alone looks like. */
const PAIRS: readonly (readonly [a: string, b: string, control: string])[] = [
  ['malformed token', 'unknown token', 'unknown token'], ['ended token', 'unknown token', 'unknown token'], ['ended token', 'malformed token', 'unknown token'],
  ['another user\'s id', 'unknown id', 'unknown id'], ['malformed id', 'unknown id', 'unknown id'], ['another user\'s id', 'malformed id', 'unknown id']
]

export interface Comparison {
  a: string
  b: string
  /** Medians, and their difference with its 95 % interval, µs. */
  medians: [number, number]
  difference: { difference: number, low: number, high: number }
  /** Probability that one of `a` takes longer than one of `b`. */
  auc: number
  /** The same for the two halves of one class. */
  control: number
  /** The distance from 0.5 that noise explains. */
  band: number
  indistinguishable: boolean
}

export interface Timing {
  comparisons: Comparison[]
  /** By class: the replies that there were, without their dates. One each, and the same for all classes of a route. */
  replies: Map<string, Set<string>>
  /** Of each class. */
  samples: number
}

export async function measure (samples: number, seed = 1): Promise<Timing> {
  const dir = await mkdtemp(join(tmpdir(), 'doorman-timing-'))
  const service = await startService(dir, { API_KEYS: KEY, DATABASE_URL: `file:${join(dir, 'doorman.db')}`, LOG_LEVEL: 'warn', SESSION_REVOKE_FRESHNESS: '1h' }, () => {})
  const lane = new Lane(service.port)
  const random = new Random(seed)
  try {
    const send = async (bytes: Buffer) => {
      const { replies, took } = await lane.exchange({ bytes, headOnly: false, limit: PATIENCE })
      return { reply: replies[0]!, took }
    }
    const login = async (userId: string) => {
      const body = Buffer.from(JSON.stringify({ userId }))
      const { reply } = await send(frame({ method: 'POST', target: '/sessions', headers: [['Authorization', `Bearer ${KEY}`], ['Content-Type', 'application/json']], body }))
      return JSON.parse(reply.body) as { token: string, session: { id: string } }
    }
    const get = (token: string) => frame({ method: 'GET', target: '/session', headers: [['Authorization', `Bearer ${token}`]], body: null })
    const me = await login('me')
    const remove = (id: string) => frame({ method: 'DELETE', target: `/sessions/${id}`, headers: [['Authorization', `Bearer ${me.token}`]], body: null })
    const ended: string[] = []
    const others: string[] = []
    for (let i = 0; i < POOL; i++) {
      const { token } = await login(`gone-${i}`)
      await send(frame({ method: 'DELETE', target: '/session', headers: [['Authorization', `Bearer ${token}`]], body: null }))
      ended.push(token)
      others.push((await login(`other-${i}`)).session.id)
    }

    const unknown = () => createToken(randomBytes)
    const classes: Record<string, () => Buffer> = {
      'unknown token': () => get(unknown()),
      // All but its last digit is right.
      'malformed token': () => get(unknown().replace(/.$/, digit => digit === 'A' ? 'B' : 'A')),
      'ended token': () => get(random.pick(ended)),
      'unknown id': () => remove(createSessionId(randomBytes, Date.now())),
      'another user\'s id': () => remove(random.pick(others)),
      'malformed id': () => remove(`u_${'u'.repeat(26)}`)
    }
    const times = new Map<string, number[]>(Object.keys(classes).map(name => [name, []]))
    const replies = new Map<string, Set<string>>(Object.keys(classes).map(name => [name, new Set()]))
    const plan = (count: number) => shuffle(Object.keys(classes).flatMap(name => Array.from({ length: count }, () => name)), random).map(name => ({ name, bytes: classes[name]!() }))
    for (const { bytes } of plan(Math.ceil(samples * WARM_UP))) await send(bytes)
    for (const { name, bytes } of plan(samples)) {
      const { reply, took } = await send(bytes)
      times.get(name)!.push(took * 1000)
      replies.get(name)!.add(withoutDate(reply))
    }
    return { samples, replies, comparisons: PAIRS.map(pair => compare(pair, times, random)) }
  } finally {
    await lane.close()
    service.process.kill('SIGTERM')
    await service.ended
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

function compare ([a, b, control]: readonly [string, string, string], times: ReadonlyMap<string, readonly number[]>, random: Random): Comparison {
  const [first, second] = [times.get(a)!, times.get(b)!]
  const noise = times.get(control)!
  const half = auc(noise.filter((_, i) => i % 2 === 0), noise.filter((_, i) => i % 2 === 1))
  const band = Math.max(SMALLEST, 3 * Math.abs(half - 0.5))
  const probability = auc(first, second)
  const middle = (values: readonly number[]) => median(Float64Array.from(values).sort())
  return { a, b, medians: [middle(first), middle(second)], difference: medianDifference(first, second, random), auc: probability, control: half, band, indistinguishable: Math.abs(probability - 0.5) <= band }
}

/** A reply as it came, but for the time. */
function withoutDate ({ head, body }: Reply): string {
  return head.replace(/^date: .*\r\n/im, '') + body
}
