/** A storage of the cleanup's needs in memory: rows by kind and time, free pages, the lease, the history. */
import { SWEEP_TARGETS, type CleanupRun, type LeaseParams, type MaintainParams, type SweepParams, type SweepTarget } from '../../storage/storage.js'

export function fakeLeases () {
  let held: { holder: string | null, until: number, lastRunAt: number | null } = { holder: null, until: 0, lastRunAt: null }
  return {
    calls: 0,
    async acquireLease ({ holder, now, until, lastRunBefore }: LeaseParams) {
      this.calls++
      const free = held.until <= now && (held.lastRunAt === null || held.lastRunAt <= lastRunBefore)
      if (held.holder !== holder && !free) return false
      held = { ...held, holder, until }
      return true
    },
    async releaseLease (name: string, holder: string, completedAt: number | null) {
      if (held.holder === holder) held = { holder: null, until: 0, lastRunAt: completedAt ?? held.lastRunAt }
    }
  }
}

export function fakeStorage () {
  const rows = Object.fromEntries(SWEEP_TARGETS.map(target => [target, [] as number[]])) as Record<SweepTarget, number[]>
  const old = (target: SweepTarget, before: number) => rows[target].filter(at => target === 'blocks' || target === 'sessionsExpired' ? at <= before : at < before)
  return {
    ...fakeLeases(),
    rows,
    freePages: 0,
    history: [] as CleanupRun[],
    log: [] as string[],
    async sweep ({ target, before, limit }: SweepParams) {
      const gone = old(target, before).slice(0, limit)
      rows[target] = rows[target].filter(at => !gone.includes(at))
      this.log.push(`${target} ${gone.length}`)
      return gone.length
    },
    async countSweepable (cutoffs: Record<SweepTarget, number>, _now: number) {
      return Object.fromEntries(SWEEP_TARGETS.map(target => [target, old(target, cutoffs[target]).length])) as Record<SweepTarget, number>
    },
    async maintain ({ pages, optimize }: MaintainParams) {
      const freedPages = Math.min(pages, this.freePages)
      this.freePages -= freedPages
      this.log.push(`maintain ${freedPages}${optimize ? ' optimize' : ''}`)
      return { freedPages, remainingPages: this.freePages }
    },
    async addCleanupRun (run: CleanupRun) { this.history.push(run) }
  }
}
