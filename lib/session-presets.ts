/**
 * Timeouts by the authentication assurance levels of NIST SP 800-63B-4. A service that names a level gets what the level allows at most, and
 * may only be stricter.
 */

export const PRESETS = ['aal1', 'aal2', 'aal3'] as const
export type SessionPreset = typeof PRESETS[number]

/** Most that a level allows, ms. */
export interface PresetLimits {
  idleTimeout: number
  absoluteTimeout: number
  freshness: number
}

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/**
 * - Overall and inactivity: SP 800-63B-4, 2.1.3 (30 days; none is demanded, so up to the overall one), 2.2.3 (24 h; 1 h), 2.3.3 (12 h; 15 min).
 * - Freshness: the document has no number for it, ASVS 5.0 7.5.3 only asks for a recent login before what is sensitive. 15 minutes is the
 *   longest silence that the highest level takes for the presence of the user; there itself it has to be shorter than that silence to mean
 *   anything, hence 5.
 */
export const PRESET_LIMITS: Readonly<Record<SessionPreset, Readonly<PresetLimits>>> = {
  aal1: { idleTimeout: 30 * DAY, absoluteTimeout: 30 * DAY, freshness: 15 * MINUTE },
  aal2: { idleTimeout: HOUR, absoluteTimeout: DAY, freshness: 15 * MINUTE },
  aal3: { idleTimeout: 15 * MINUTE, absoluteTimeout: 12 * HOUR, freshness: 5 * MINUTE }
}
