/** Options of the session service: names, defaults, ranges, and which combinations make no sense. */
import { doormanError } from '../errors.js'
import { formatDuration } from './duration.js'
import { option, resolveOptions, type Resolved } from './options.js'
import { PRESET_LIMITS, PRESETS, type PresetLimits, type SessionPreset } from './session-presets.js'

const SECOND = 1000
const DAY = 86_400_000

const presetNames: readonly unknown[] = [null, ...PRESETS]

export const sessionOptionSpecs = {
  preset: option.custom<SessionPreset | null>(null, `one of ${PRESETS.join(', ')}, or null`, value => presetNames.includes(value)),
  idleTimeout: option.duration(DAY, { min: SECOND, max: 400 * DAY }),
  absoluteTimeout: option.duration(30 * DAY, { min: SECOND, max: 400 * DAY }),
  touchInterval: option.duration(60 * SECOND),
  maxPerUser: option.integer(null, { min: 1 }),
  limitPolicy: option.oneOf('evict-oldest', ['evict-oldest', 'evict-idle', 'reject']),
  renewAfter: option.duration(null, { min: SECOND }),
  renewGrace: option.duration(30 * SECOND, { max: 3_600_000 }),
  tokenReuse: option.oneOf('report', ['report', 'end']),
  freshness: option.duration(15 * 60 * SECOND, { min: SECOND }),
  clientChange: option.oneOf('flag', ['off', 'flag', 'revoke']),
  devices: option.boolean(true),
  dataLimit: option.integer(16_384, { min: 2, max: 1_048_576 }),
  userAgentLimit: option.integer(500, { min: 16, max: 4096 })
}

/** Durations are milliseconds, or text such as '24h'. */
export interface SessionOptions {
  /**
   * Timeouts and freshness as an assurance level of NIST SP 800-63B-4 has them at most; options beside it may be stricter, not looser. Default
   * null: those named here.
   */
  preset?: SessionPreset | null
  /** A session unused for this long is refused; every use moves it. 1 s to 400 days. Default '24h'. */
  idleTimeout?: number | string
  /** A session this old is refused, used or not. At least `idleTimeout`, at most 400 days. Default '30d'. */
  absoluteTimeout?: number | string
  /** A use is written at most this often. Below `idleTimeout`. Default '60s', or a tenth of a shorter `idleTimeout`. */
  touchInterval?: number | string
  /** Most live sessions per user; null: no limit. Default null. */
  maxPerUser?: number | null
  /** What happens at the limit: the oldest or the longest unused session ends, or DOORMAN_SESSION_LIMIT. Default 'evict-oldest'. */
  limitPolicy?: 'evict-oldest' | 'evict-idle' | 'reject'
  /** A cookie session gets a new token when its token is this old; null: never by itself. Default null. */
  renewAfter?: number | string | null
  /** How long the old token still works after such a renewal, for requests under way. Below `renewAfter`, at most '1h'. Default '30s'. */
  renewGrace?: number | string
  /**
   * When a token that was replaced comes back after its grace, and later than `renewGrace` (at least 10 s) after that: it is reported, or it also
   * ends the session, since somebody has the token who should not. Default 'report'.
   */
  tokenReuse?: 'report' | 'end'
  /** How long a login counts as fresh where no other age is asked for. Default '15m'. */
  freshness?: number | string
  /** When a session is used from another network (/24, /64) or another browser or system: nothing, a flag, or its end. Default 'flag'. */
  clientChange?: 'off' | 'flag' | 'revoke'
  /** Whether a login's device and network are remembered, so that `session_new_device` tells of new ones. Default true. */
  devices?: boolean
  /** Most bytes of a session's `data` as JSON. Default 16384. */
  dataLimit?: number
  /** Most code points kept of a user agent. 16 to 4096. Default 500. */
  userAgentLimit?: number
}

export type ResolvedSessionOptions = Resolved<typeof sessionOptionSpecs>

/**
 * Checks session options.
 * @throws DOORMAN_OPTION_UNKNOWN, DOORMAN_OPTION_INVALID
 */
export function resolveSessionOptions (given: unknown, owner = 'sessions'): ResolvedSessionOptions {
  const refuse = (name: string, expected: string, ms: number) => {
    throw doormanError('DOORMAN_OPTION_INVALID', [`${owner}.${name}`, expected, formatDuration(ms)])
  }
  const plain = resolveOptions(owner, given, sessionOptionSpecs)
  const read = { ...plain, ...plain.preset === null ? {} : withinPreset(plain.preset, plain, given as SessionOptions, refuse) }
  // The default follows a short idle timeout; a value that was given is never adjusted, only refused.
  const touchGiven = (given as SessionOptions | undefined)?.touchInterval !== undefined
  const touchInterval = touchGiven ? read.touchInterval : Math.min(read.touchInterval, Math.floor(read.idleTimeout / 10))
  if (read.absoluteTimeout < read.idleTimeout) {
    refuse('absoluteTimeout', `at least idleTimeout (${formatDuration(read.idleTimeout)})`, read.absoluteTimeout)
  }
  if (touchInterval >= read.idleTimeout) {
    refuse('touchInterval', `shorter than idleTimeout (${formatDuration(read.idleTimeout)}), or sessions in use would count as idle`, touchInterval)
  }
  if (read.renewAfter !== null && read.renewAfter >= read.absoluteTimeout) {
    refuse('renewAfter', `shorter than absoluteTimeout (${formatDuration(read.absoluteTimeout)})`, read.renewAfter)
  }
  if (read.renewAfter !== null && read.renewGrace >= read.renewAfter) {
    refuse('renewGrace', `shorter than renewAfter (${formatDuration(read.renewAfter)})`, read.renewGrace)
  }
  return Object.freeze({ ...read, touchInterval })
}

/** What was not given is what the level allows; what was given may not go beyond, or the session would not be what the preset says. */
function withinPreset (preset: SessionPreset, read: PresetLimits, given: SessionOptions, refuse: (name: string, expected: string, ms: number) => void): PresetLimits {
  const limits = PRESET_LIMITS[preset]
  const within = (name: keyof PresetLimits) => {
    if (read[name] > limits[name] && given[name] !== undefined) refuse(name, `at most ${formatDuration(limits[name])} with preset "${preset}"`, read[name])
    return Math.min(read[name], limits[name])
  }
  return { idleTimeout: within('idleTimeout'), absoluteTimeout: within('absoluteTimeout'), freshness: within('freshness') }
}
