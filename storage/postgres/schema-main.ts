/**
 * Schema of what must be exact: sessions, blocks, the cleanup. Numbers and names of the steps are those of SQLite's main file. Times are
 * bigint milliseconds since the epoch; what is compared and ordered has the collation "C": by bytes, as SQLite does. Only what every engine of PostgreSQL's protocol has: no triggers, no functions, no extensions.
 */
import type { Migration } from './migrate.js'

/** Rows over which logins are spread that have to count the user's sessions: two users with the same slot wait for each other. */
export const LOGIN_SLOTS = 256
/** Rows over which the counter of session changes is spread, so that ends of sessions do not queue for one row. */
export const COUNTER_SHARDS = 16

export const mainMigrations: readonly Migration[] = [{
  name: 'sessions, blocks, cleanup',
  statements: [
    // Live sessions only: ending one moves it to session_tombstones. The key is the hash of the token, so that the table shards by it and
    // every check of a session goes to one shard; for the same reason the index of ids is no constraint: ids are random, and a creation looks for its own.
    `CREATE TABLE sessions (
      token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
      id text COLLATE "C" NOT NULL,
      user_id text COLLATE "C" NOT NULL,
      created_at bigint NOT NULL,
      last_active_at bigint NOT NULL,
      authenticated_at bigint NOT NULL,
      rotated_at bigint NOT NULL,
      expires_at bigint NOT NULL,
      ip text,
      last_ip text COLLATE "C",
      user_agent text,
      last_user_agent text,
      device text,
      flagged boolean NOT NULL DEFAULT false,
      data text NOT NULL DEFAULT '{}' CHECK (data::json IS NOT NULL),
      PRIMARY KEY (token_hash)
    )`,
    'CREATE INDEX sessions_by_id ON sessions (id)',
    'CREATE INDEX sessions_by_user ON sessions (user_id, created_at)',
    'CREATE INDEX sessions_by_creation ON sessions (created_at, id)',
    'CREATE INDEX sessions_by_activity ON sessions (last_active_at)',
    'CREATE INDEX sessions_by_expiry ON sessions (expires_at)',
    'CREATE INDEX sessions_by_ip ON sessions (last_ip, created_at)',

    // Tokens that are no longer valid, so that a refusal knows why. grace_until: until when a rotated token still works.
    `CREATE TABLE session_tombstones (
      token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
      session_id text COLLATE "C" NOT NULL,
      user_id text COLLATE "C" NOT NULL,
      reason text NOT NULL,
      ended_at bigint NOT NULL,
      grace_until bigint NOT NULL DEFAULT 0,
      PRIMARY KEY (token_hash)
    )`,
    'CREATE INDEX session_tombstones_by_end ON session_tombstones (ended_at)',
    'CREATE INDEX session_tombstones_by_user ON session_tombstones (user_id)',
    'CREATE INDEX session_tombstones_by_session ON session_tombstones (session_id)',

    `CREATE TABLE ip_blocks (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      cidr text NOT NULL,
      until bigint,
      reason text,
      created_at bigint NOT NULL
    )`,

    `CREATE TABLE cleanup_runs (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      started_at bigint NOT NULL,
      duration_ms bigint NOT NULL,
      dry_run boolean NOT NULL,
      trigger text NOT NULL,
      complete boolean NOT NULL,
      removed text NOT NULL CHECK (removed::json IS NOT NULL),
      freed_pages bigint NOT NULL,
      error text
    )`,
    'CREATE INDEX cleanup_runs_by_start ON cleanup_runs (started_at, id)',

    // Which process may run a job, until when; last_run_at: when one was last completed.
    `CREATE TABLE leases (
      name text NOT NULL PRIMARY KEY,
      holder text,
      until bigint NOT NULL,
      last_run_at bigint
    )`,

    // Logins of one user with a limit are made one after the other: each takes the row of the user's slot first (see session-writes.ts).
    `CREATE TABLE session_slots (
      slot integer NOT NULL PRIMARY KEY
    )`,

    // Rise with every change that other processes must notice ('sessions', 'blocks'): the sum over the shards.
    `CREATE TABLE doorman_counters (
      name text NOT NULL,
      shard integer NOT NULL,
      value bigint NOT NULL,
      PRIMARY KEY (name, shard)
    )`
  ]
}, {
  name: 'changes of sessions and blocks are counted',
  statements: [
    `INSERT INTO doorman_counters (name, shard, value) VALUES ('blocks', 0, 0), ${Array.from({ length: COUNTER_SHARDS }, (_, shard) => `('sessions', ${shard}, 0)`).join(', ')}`,
    `INSERT INTO session_slots (slot) VALUES ${Array.from({ length: LOGIN_SLOTS }, (_, slot) => `(${slot})`).join(', ')}`
  ]
}, {
  name: 'devices of users',
  statements: [
    // Nothing refers to it, so that it outlives the sessions. Unknown is '': a key holds no null, and two unknowns are the same.
    `CREATE TABLE session_devices (
      user_id text COLLATE "C" NOT NULL,
      device text COLLATE "C" NOT NULL,
      network text COLLATE "C" NOT NULL,
      first_seen_at bigint NOT NULL,
      last_seen_at bigint NOT NULL,
      sessions bigint NOT NULL,
      PRIMARY KEY (user_id, device, network)
    )`,
    'CREATE INDEX session_devices_by_use ON session_devices (last_seen_at)'
  ]
}, {
  // Here they are: a table is a heap.
  name: 'sessions in the order they began',
  statements: []
}]
