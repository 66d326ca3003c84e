/**
 * Schema of the log file: append-only rows, stored densely, with views under the names of the contract.
 *
 * - A row's id is its time: `at * 1024 + n`. So the primary key is also the index by time: no column and no index for it, retention
 *   is one range of the key, and pages fill completely. Should one millisecond hold more than 1024 rows, the surplus takes ids of the
 *   following ones, and `at_offset` (no bytes while it is 0) keeps the time exact.
 * - An IPv4 address is its 32-bit integer (4 bytes), everything else text.
 * - `ip_source` holds the trusted hops as well (source-code.ts).
 * - Texts that repeat (paths, routes, user agents, referers, users, sessions) are stored once in `texts` and referenced.
 */
import { IP_LOG_OUTCOMES, IP_SOURCES } from '../../lib/vocabulary.js'
import type { Migration } from './migrate.js'
import { hopsSql, sourceSql } from './source-code.js'
import { ID_DIGITS } from './text-dictionary.js'

/** Ids per millisecond: 2^53 is reached in the year 2248. */
export const IDS_PER_MS = 1024
export const IDS_PER_HOUR = IDS_PER_MS * 3_600_000

/** By what rows are found quickly; see log-index.ts. */
export const LOG_INDEXES = ['ip', 'user', 'session'] as const
export type LogIndexName = typeof LOG_INDEXES[number]

const words = (column: string, list: readonly string[]) => `CASE ${column} ${list.map((word, i) => `WHEN ${i} THEN '${word}'`).join(' ')} END`

/** SQL for the text of an address column. */
export const addressSql = (column: string) =>
  `CASE typeof(${column}) WHEN 'integer' THEN format('%d.%d.%d.%d', (${column} >> 24) & 255, (${column} >> 16) & 255, (${column} >> 8) & 255, ${column} & 255) ELSE ${column} END`

/** SQL for the time of a row. */
export const AT_SQL = '(r.id / 1024 + r.at_offset)'

/** Columns from `ip_log_rows AS r`. @param source SQL for the number of the source */
const columns = (source: string) => `r.id, ${AT_SQL} AS at, ${addressSql('r.ip')} AS ip, ${words(source, IP_SOURCES)} AS ip_source,
  ${addressSql('r.peer_ip')} AS peer_ip, r.peer_port, r.method,
  (SELECT text FROM texts WHERE id = r.path_ref) AS path,
  (SELECT text FROM texts WHERE id = r.route_ref) AS route,
  r.status, r.duration_us,
  (SELECT text FROM texts WHERE id = r.user_agent_ref) AS user_agent,
  (SELECT text FROM texts WHERE id = r.referer_ref) AS referer,
  (SELECT text FROM texts WHERE id = r.session_ref) AS session_id,
  (SELECT text FROM texts WHERE id = r.user_ref) AS user_id,
  r.request_id, ${words('r.outcome', IP_LOG_OUTCOMES)} AS outcome`

/** SQL for `textKey` of a session's id (text-dictionary.ts). */
const SESSION_KEY = Array.from({ length: 12 }, (_, i) => `((instr('${ID_DIGITS}', substr(text, ${i + 3}, 1)) - 1) << ${5 * (11 - i)})`).join(' + ')

/** The columns of the contract. */
export const IP_LOG_COLUMNS = `${columns(sourceSql('r.ip_source'))}, ${hopsSql('r.ip_source')} AS trusted_hops`

export const logMigrations: readonly Migration[] = [{
  name: 'request log, activity',
  sql: `
CREATE TABLE ip_log_rows (
  id INTEGER PRIMARY KEY,
  at_offset INTEGER NOT NULL DEFAULT 0,
  ip ANY,
  ip_source INTEGER NOT NULL,
  peer_ip ANY,
  peer_port INTEGER,
  method TEXT NOT NULL CHECK (length(method) <= 64),
  path_ref INTEGER NOT NULL,
  route_ref INTEGER,
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 999),
  duration_us INTEGER NOT NULL CHECK (duration_us >= 0),
  user_agent_ref INTEGER,
  referer_ref INTEGER,
  session_ref INTEGER,
  user_ref INTEGER,
  request_id TEXT,
  outcome INTEGER NOT NULL
) STRICT;
CREATE INDEX ip_log_rows_by_ip ON ip_log_rows (ip);
CREATE INDEX ip_log_rows_by_user ON ip_log_rows (user_ref) WHERE user_ref IS NOT NULL;
CREATE INDEX ip_log_rows_by_session ON ip_log_rows (session_ref) WHERE session_ref IS NOT NULL;

-- last_day: the last day (since the epoch) on which a row referred to it; the sweep removes what no row can refer to any more.
-- kind: 0 anything, 1 a user, 2 a session: those are erased with the user, so they are not shared with other columns.
-- hash: 48 bits of SHA-256, so that the index need not hold the texts a second time.
CREATE TABLE texts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind INTEGER NOT NULL,
  hash INTEGER NOT NULL,
  last_day INTEGER NOT NULL,
  text TEXT NOT NULL
) STRICT;
CREATE INDEX texts_by_hash ON texts (hash);
CREATE INDEX texts_by_day ON texts (last_day);

-- Writers remember numbers of texts; every removal, by whichever process, tells them to forget.
CREATE TABLE log_counters (
  name TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO log_counters (name, value) VALUES ('texts_removed', 0);
CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN
  UPDATE log_counters SET value = value + 1 WHERE name = 'texts_removed';
END;

CREATE VIEW ip_logs AS SELECT ${columns('r.ip_source')} FROM ip_log_rows AS r;

CREATE TABLE user_activity (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  user_id TEXT NOT NULL,
  session_id TEXT,
  action TEXT NOT NULL,
  ip TEXT,
  detail TEXT CHECK (detail IS NULL OR json_valid(detail))
) STRICT;
CREATE INDEX user_activity_by_user ON user_activity (user_id, at);
CREATE INDEX user_activity_by_time ON user_activity (at);

-- Rows that a constraint refused, with the reason, instead of the batch around them.
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  user_id TEXT,
  reason TEXT NOT NULL,
  content TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_time ON dead_letters (at);

-- Last batch stored per process: a batch sent again after a lost answer is recognised.
CREATE TABLE log_sources (
  source TEXT NOT NULL PRIMARY KEY,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Idempotency keys of rows reported by other services.
CREATE TABLE ingested (
  key TEXT NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ingested_by_time ON ingested (at);
`
}, {
  name: 'trusted hops',
  sql: `
DROP VIEW ip_logs;
CREATE VIEW ip_logs AS SELECT ${IP_LOG_COLUMNS} FROM ip_log_rows AS r;
`
}, {
  name: 'indexes in tables of their own',
  // rest: what is added to `hour * 3686400000` to have the id of the row, which makes it shorter by two to four bytes.
  sql: `
DROP INDEX ip_log_rows_by_ip;
DROP INDEX ip_log_rows_by_user;
DROP INDEX ip_log_rows_by_session;
${LOG_INDEXES.map(name => `CREATE TABLE ip_log_by_${name} (hour INTEGER NOT NULL, key ${name === 'ip' ? 'ANY' : 'INTEGER'} NOT NULL, rest INTEGER NOT NULL, PRIMARY KEY (hour, key, rest)) STRICT, WITHOUT ROWID;`).join('\n')}
INSERT INTO log_counters (name, value) VALUES ('indexed_until', 0), ('index_announced', 0), ('index_claim', 0);
`
}, {
  name: 'ids of sessions are found by their time',
  sql: `
UPDATE texts SET hash = ${SESSION_KEY}
WHERE kind = 2 AND text GLOB 's_0[0-7]${'[0-9a-hjkmnp-tv-z]'.repeat(10)}*';
`
}]
