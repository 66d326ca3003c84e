/** What the fuzzer knows of the service: sessions that live and that ended, ids and cursors it was given. So that requests reach what is deep inside. */
import type { Random } from './random.js'
import type { Request } from './request.js'
import type { Secrets } from './secrets.js'
import { header, type Reply } from './wire.js'

export interface Session { token: string, id: string, userId: string }

/** Bounds of what is remembered. */
const MOST = 500
/** Users that sessions are opened for: few, so that each has several. */
const USERS = 40
/** Fewer live sessions than this, and some are opened. */
const FEW = 40

/** In front of every user id in a reported request: so an erasure of another user removes only rows of requests that were really made, and they can be counted. */
export const REPORTED = 'reported '

const TOKEN = /dm_[A-Za-z0-9_-]{49}/

export class World {
  readonly live: Session[] = []
  readonly ended: string[] = []
  readonly blocks: string[] = []
  readonly cursors: { path: string, cursor: string }[] = []
  /** Rows of requests that were erased on demand. */
  erased = 0
  /** The same, where rows of reported requests may be among them: erased by something else than their user. */
  erasedAmongOthers = 0

  constructor (readonly secrets: Secrets) {}

  get needsSessions (): boolean {
    return this.live.length < FEW
  }

  user (random: Random): string {
    return `user-${random.below(USERS)}`
  }

  /**
   * Learns from a reply.
   * @returns the tokens that this reply, and no other, may show
   */
  learn (request: Request, reply: Reply): string[] {
    const { label, session } = request
    if (session !== null && (reply.status === 401 || (label === 'DELETE /session' && reply.status === 204))) this.#end(session)
    if (reply.status >= 300 || reply.body[0] !== '{') return this.#rotated(request, reply, undefined)
    const body = JSON.parse(reply.body) as Record<string, unknown>
    if (typeof body['nextCursor'] === 'string') remember(this.cursors, { path: request.path, cursor: body['nextCursor'] })
    if (label === 'POST /admin/blocks') remember(this.blocks, body['id'] as string)
    if (label === 'DELETE /admin/users/{userId}') this.erased += body['ipLogs'] as number
    else if (label.startsWith('DELETE ') && typeof body['ipLogs'] === 'number') this.erasedAmongOthers += body['ipLogs']
    if (label === 'POST /sessions') {
      const { id, userId } = body['session'] as { id: string, userId: string }
      const token = body['token'] as string
      this.secrets.addToken(token)
      remember(this.live, { token, id, userId })
      return [token]
    }
    return this.#rotated(request, reply, body)
  }

  #rotated ({ label, session }: Request, reply: Reply, body: Record<string, unknown> | undefined): string[] {
    if (label !== 'POST /session/rotate' || reply.status !== 200) return []
    const token = body?.['token'] as string | undefined ?? TOKEN.exec(header(reply, 'set-cookie') ?? '')?.[0]
    if (token === undefined) return []
    this.secrets.addToken(token)
    if (session !== null) {
      this.#end(session)
      remember(this.live, { ...session, token })
    }
    return [token]
  }

  #end (session: Session): void {
    const at = this.live.indexOf(session)
    if (at === -1) return
    this.live.splice(at, 1)
    remember(this.ended, session.token)
  }
}

function remember<T> (list: T[], item: T): void {
  if (list.push(item) > MOST) list.shift()
}
