/**
 * Schema of what is appended: the request log, activity, and what goes with them. Numbers and names of the steps are those of SQLite's log
 * file. Times are bigint milliseconds since the epoch.
 *
 * - `ip_logs` and `user_activity` are partitioned by UTC day where the engine can (partitions.ts): retention then drops whole tables, and
 *   the indexes that rows go into are those of one day, however long the log is kept.
 * - Their key begins with the time, so it is also the index for lists by time and for deleting by age.
 * - Columns of fixed width come first, which spares the padding between them. Indexed text has the collation "C": comparing bytes is several
 *   times faster than comparing by the rules of a language, and orders as SQLite does.
 */
import type { Migration } from './migrate.js'

/** The tables that are partitioned by day. */
export const DAILY_TABLES = ['ip_logs', 'user_activity'] as const
export type DailyTable = typeof DAILY_TABLES[number]

/**
 * The steps of the log's schema.
 * @param partitioned whether the engine has declarative partitioning; see `canPartition` in partitions.ts
 */
export function logMigrations (partitioned: boolean): readonly Migration[] {
  const byDay = partitioned ? ' PARTITION BY RANGE (at)' : ''
  return [{
    name: 'request log, activity',
    statements: [
      'CREATE SEQUENCE ip_logs_id',
      `CREATE TABLE ip_logs (
        at bigint NOT NULL,
        id bigint NOT NULL DEFAULT nextval('ip_logs_id'),
        duration_us bigint NOT NULL CHECK (duration_us >= 0),
        peer_port integer,
        status integer NOT NULL CHECK (status BETWEEN 0 AND 999),
        ip text COLLATE "C",
        ip_source text NOT NULL,
        peer_ip text,
        method text NOT NULL CHECK (length(method) <= 64),
        path text NOT NULL,
        route text,
        user_agent text,
        referer text,
        session_id text COLLATE "C",
        user_id text COLLATE "C",
        request_id text,
        outcome text NOT NULL,
        PRIMARY KEY (at, id)
      )${byDay}`,
      'CREATE INDEX ip_logs_by_ip ON ip_logs (ip, at)',
      'CREATE INDEX ip_logs_by_user ON ip_logs (user_id, at) WHERE user_id IS NOT NULL',
      'CREATE INDEX ip_logs_by_session ON ip_logs (session_id, at) WHERE session_id IS NOT NULL',

      'CREATE SEQUENCE user_activity_id',
      `CREATE TABLE user_activity (
        at bigint NOT NULL,
        id bigint NOT NULL DEFAULT nextval('user_activity_id'),
        user_id text COLLATE "C" NOT NULL,
        session_id text,
        action text NOT NULL,
        ip text,
        detail text CHECK (detail IS NULL OR detail::json IS NOT NULL),
        PRIMARY KEY (at, id)
      )${byDay}`,
      'CREATE INDEX user_activity_by_user ON user_activity (user_id, at)',

      // Rows that a constraint refused, with the reason, instead of the batch around them.
      'CREATE SEQUENCE dead_letters_id',
      `CREATE TABLE dead_letters (
        id bigint NOT NULL DEFAULT nextval('dead_letters_id') PRIMARY KEY,
        at bigint NOT NULL,
        kind text NOT NULL,
        user_id text,
        reason text NOT NULL,
        content text NOT NULL
      )`,
      'CREATE INDEX dead_letters_by_time ON dead_letters (at)',
      'CREATE INDEX dead_letters_by_user ON dead_letters (user_id) WHERE user_id IS NOT NULL',

      // Last batch stored per process: a batch sent again after a lost answer is recognised. Half of each page is left free, so that the row,
      // which every batch changes, stays in its page.
      `CREATE TABLE log_sources (
        source text NOT NULL PRIMARY KEY,
        seq bigint NOT NULL,
        at bigint NOT NULL
      )${partitioned ? ' WITH (fillfactor = 50)' : ''}`,

      // Idempotency keys of rows reported by other services. A table of its own: a unique index on the log would need its day as well.
      `CREATE TABLE ingested (
        key text COLLATE "C" NOT NULL PRIMARY KEY,
        at bigint NOT NULL
      )`,
      'CREATE INDEX ingested_by_time ON ingested (at)'
    ]
  }, {
    name: 'trusted hops',
    // No row is written anew: a constant default is kept in the catalogue. The partitions inherit it.
    statements: ['ALTER TABLE ip_logs ADD COLUMN trusted_hops smallint NOT NULL DEFAULT 0']
  }, {
    // Here they stay: those of a day are small, and dropped with it.
    name: 'indexes in tables of their own',
    statements: []
  }, {
    // Texts are in the rows themselves.
    name: 'ids of sessions are found by their time',
    statements: []
  }]
}
