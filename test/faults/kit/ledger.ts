/**
 * What the client knows: every request it sent and how that ended, every session it was given and every one it ended. Compared
 * afterwards with what is in the files.
 */
import Database from 'better-sqlite3'

export type Kind = 'me' | 'anonymous' | 'login' | 'logout'

export interface Entry {
  /** In the path, so that the row in the log can be found. */
  id: string
  kind: Kind
  /** When it was to be sent, ms of performance.now(). */
  at: number
  /** From then to the end of the reply, ms. */
  latency: number
  /** 0 while it is under way, and when the connection broke. */
  status: number
  /** Code of the error in the reply. */
  code: string | undefined
  retryAfter: string | undefined
}

export interface HeldSession { id: string, token: string }

export class Ledger {
  readonly entries: Entry[] = []
  /** Acknowledged, and not asked to be ended. */
  readonly live: HeldSession[] = []
  /** The end was acknowledged. */
  readonly ended: HeldSession[] = []
  /** Asked to be ended, without an answer: may be either. */
  readonly unknown: HeldSession[] = []

  get answered (): Entry[] {
    return this.entries.filter(entry => entry.status > 0)
  }

  /** Entries sent in a time (ms of performance.now()), of one kind if given. */
  between (from: number, to: number, kind?: Kind): Entry[] {
    return this.entries.filter(entry => entry.at >= from && entry.at < to && (kind === undefined || entry.kind === kind))
  }
}

export interface RowReport {
  /** Answered requests without a row. */
  missing: number
  /** Requests with more than one. */
  doubled: number
  /** Rows of requests under test in all. */
  rows: number
}

/** Compares the log with the ledger. For when nobody writes any more. */
export function compareRows (logFile: string, ledger: Ledger): RowReport {
  const counts = new Map(look<{ path: string, n: number }>(logFile, 'SELECT path, count(*) AS n FROM ip_logs GROUP BY path').map(({ path, n }) => [path, n]))
  const report: RowReport = { missing: 0, doubled: 0, rows: 0 }
  for (const { kind, id, status } of ledger.entries) {
    const n = counts.get(`/${kind}/${id}`) ?? 0
    report.rows += n
    if (n === 0 && status > 0) report.missing++
    if (n > 1) report.doubled++
  }
  return report
}

/** Those of the requests that have no row in the log. */
export function withoutRow (logFile: string, entries: readonly Entry[]): Entry[] {
  const paths = new Set(look<{ path: string }>(logFile, 'SELECT DISTINCT path FROM ip_logs').map(({ path }) => path))
  return entries.filter(({ kind, id }) => !paths.has(`/${kind}/${id}`))
}

export interface SessionReport {
  /** Acknowledged, yet not there. */
  lost: number
  /** Ended, yet still there. */
  undead: number
}

/** Compares the sessions with the ledger. */
export function compareSessions (mainFile: string, ledger: Ledger): SessionReport {
  const live = new Set(look<{ id: string }>(mainFile, 'SELECT id FROM sessions').map(({ id }) => id))
  return {
    lost: ledger.live.filter(({ id }) => !live.has(id)).length,
    undead: ledger.ended.filter(({ id }) => live.has(id)).length
  }
}

/** Reads a file as anybody else does who opens it. */
export function look<Row> (file: string, sql: string): Row[] {
  const db = new Database(file, { readonly: true, fileMustExist: true })
  try {
    return db.prepare(sql).all() as Row[]
  } finally {
    db.close()
  }
}

/** 'ok', or what is wrong with a file. */
export function integrity (file: string): string {
  return look<{ integrity_check: string }>(file, 'PRAGMA integrity_check').map(row => row.integrity_check).join('; ')
}

/** The value below which that part of the numbers lies, such as 0.99. NaN when there are none. */
export function percentile (numbers: readonly number[], part: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? NaN
}
