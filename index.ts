/**
 * What `fastify-doorman` exports: each plugin by name, all of them as `doorman`, the error catalogue and the types. The
 * standalone API is `fastify-doorman/app`.
 */
export { default as abuse } from './plugins/abuse.js'
export { default as activity, type ActivityOptions } from './plugins/activity.js'
export { default as cleanup, type Cleanup, type CleanupOptions } from './plugins/cleanup.js'
export { default as database, type DatabaseOptions } from './plugins/database.js'
export { default as doorman, type DoormanOptions } from './plugins/doorman.js'
export { default as ipTracking, frameworkErrors } from './plugins/ip-tracking.js'
export { default as metrics, type Metrics, type MetricsOptions } from './plugins/metrics.js'
export { default as replyBatching } from './plugins/reply-batching.js'
export { default as sessions, type SessionsPluginOptions } from './plugins/sessions.js'

export { describeEnd } from './lib/session-end.js'
export { errorCatalogue, isDoormanError, type DoormanError, type DoormanErrorCode } from './errors.js'

export type { AddressFinding, AddressFindingCode } from './lib/address-check.js'
export type { AbuseBlockOptions, AbuseOptions, AbuseSignal } from './lib/abuse-options.js'
export type { Abuse, AbuseEvent, AbuseListener, AbuseStats } from './lib/abuse.js'
export type { Clock } from './lib/clock.js'
export type { Database, DatabaseStats } from './lib/database.js'
export type { ReportedRequest } from './lib/ip-reports.js'
export type { IpTracking } from './lib/ip-tracking.js'
export type { IpTrackingOptions, RouteTracking } from './lib/ip-tracking-options.js'
export type { EndListener, LiveEnd } from './lib/live-sessions.js'
export type { SessionCookieOptions, SiteData } from './lib/session-cookie.js'
export type { SessionEnd } from './lib/session-end.js'
export type { SessionEvent, SessionEventName, SessionListener } from './lib/session-events.js'
export type { SessionOptions } from './lib/session-options.js'
export type { SessionPreset } from './lib/session-presets.js'
export type { RouteSession } from './lib/session-policy.js'
export type { ClientInfo, CreateSession, IssuedSession, ListSessions, RotateSession, SessionView, Validation } from './lib/session-types.js'
export type { Sessions } from './lib/sessions.js'
export type { EndReason, IpLogOutcome, IpSource, RefusalReason } from './lib/vocabulary.js'
export type {
  AddressErased, AddressExport, BlockRecord, CleanupRun, DeadLetter, IpLogFilter, Page, PageKey, PageParams, SeriesPoint, SessionDevice, SqlResult, SqlRow, SqlStatement, SqlValue, Storage, StorageStats, StoredActivity,
  StoredIpLog, TopEntry, UserErased, UserExport
} from './storage/storage.js'
