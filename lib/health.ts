/** One form for the condition of every part: fine, or not, and why. */
import type { Health } from '../storage/storage.js'

export function asHealth (reasons: string[]): Health {
  return reasons.length === 0 ? { status: 'ok' } : { status: 'degraded', reasons }
}
