/** What is held of a user: told, or erased. Finds in the reader threads, changes in the writer, in steps that keep nobody waiting. */
import type { ActivityFilter, IpLogFilter, Page, PageParams, StoredActivity, StoredIpLog, UserErased, UserExport } from '../storage.js'
import type { LogErasure, LogErasureStep, Requester } from './log-erasure.js'

/** Rows per step when requests are erased. */
export const ERASE_STEP = 1000

export type Run = <T>(name: string, params: unknown) => Promise<T>

export interface UserDataOptions {
  /** Asks the reader thread. */
  read: Run
  /** Asks the second reader, for what may take long. */
  inspect: Run
  /** Asks the writer thread. */
  write: Run
  listActivity (filter: ActivityFilter, page: PageParams): Promise<Page<StoredActivity>>
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>>
}

export class UserData {
  #options: UserDataOptions

  constructor (options: UserDataOptions) {
    this.#options = options
  }

  async export (userId: string, limit: number): Promise<UserExport> {
    const { read, listActivity, listIpLogs } = this.#options
    const [held, deadLetters, activity, ipLogs] = await Promise.all([
      read<Pick<UserExport, 'sessions' | 'endedSessions' | 'devices'>>('exportSessions', { userId, limit }),
      read<UserExport['deadLetters']>('deadLettersOf', { userId, limit }),
      listActivity({ userId }, { limit }),
      listIpLogs({ userId }, { limit })
    ])
    const truncated = activity.next !== null || ipLogs.next !== null || [held.sessions, held.endedSessions, held.devices, deadLetters].some(({ length }) => length === limit)
    return { ...held, activity: activity.items, ipLogs: ipLogs.items, deadLetters, truncated }
  }

  async erase (userId: string): Promise<UserErased> {
    const { inspect, write } = this.#options
    const sessions = await write<Pick<UserErased, 'sessions' | 'endedSessions' | 'devices'>>('eraseSessions', { userId })
    const erased: UserErased = { ...sessions, activity: 0, ipLogs: 0, deadLetters: 0 }
    for (;;) {
      const ids = await findRequests(inspect, { userId })
      const step = await write<LogErasure>('eraseLog', { userId, ids, limit: ERASE_STEP } satisfies LogErasureStep)
      erased.activity += step.activity
      erased.ipLogs += step.ipLogs
      erased.deadLetters += step.deadLetters
      if (ids.length + step.activity + step.deadLetters === 0) return erased
    }
  }
}

/** The ids of the next rows to be erased; none when all are. */
export function findRequests (inspect: Run, requester: Requester): Promise<number[]> {
  return inspect('requestsOf', { requester, limit: ERASE_STEP })
}
