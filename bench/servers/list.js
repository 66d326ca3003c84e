/**
 * The servers that are compared: what each is called, the file that builds it, and what it does not do, as the documents print it.
 * `rows`: whether it leaves a row per request. `ours`: its work is checked exactly, and it has targets.
 */

/**
 * @typedef {object} Candidate
 * @property {string} id for `--only`
 * @property {string} title
 * @property {string} file in this folder
 * @property {Record<string, unknown>} [settings] given to its `build`
 * @property {string} lacks what it does not do, compared with the suite
 * @property {boolean} [ours]
 * @property {'redis-server'} [program] that has to be on the PATH
 * @property {boolean} [peer] needs the dependencies of this folder
 * @property {{ W1: number, W2: number, W3: number }} [targets] least ratio to bare Fastify
 */

const LIBRARY = 'No list or limit of a user\'s sessions, no reason for a refusal, no retention of the rows; the token is stored in clear.'
const WRITES = 'Every write on the event loop: a lock held elsewhere stops the server.'

/** @type {Candidate[]} */
export const candidates = [
  { id: 'bare', title: 'bare Fastify', file: 'bare.js', lacks: 'No session, nothing is stored.' },
  {
    id: 'bare-batching',
    title: 'bare Fastify with `replyBatching` alone',
    file: 'bare.js',
    settings: { batching: true },
    lacks: 'The same: for what batching replies gains by itself.'
  },
  {
    id: 'ours',
    title: 'fastify-doorman, `queued` (default)',
    file: 'doorman.js',
    settings: { durability: 'queued' },
    ours: true,
    targets: { W1: 0.70, W2: 0.90, W3: 0.50 },
    lacks: 'A row may reach the file some milliseconds after its reply.'
  },
  {
    id: 'committed',
    title: 'fastify-doorman, `committed`',
    file: 'doorman.js',
    settings: { durability: 'committed' },
    ours: true,
    targets: { W1: 0.55, W2: 0.75, W3: 0.50 },
    lacks: '–'
  },
  {
    id: 'one-by-one',
    title: 'fastify-doorman, `queued`, without `replyBatching`',
    file: 'doorman.js',
    settings: { durability: 'queued', replyBatching: false },
    lacks: 'For what batching replies gains.'
  },
  {
    id: 'port',
    title: 'straight port of the original repair: a connection per operation',
    file: 'straight-port.js',
    lacks: `${WRITES} No retention.`
  },
  {
    id: 'better-auth',
    title: 'better-auth on better-sqlite3, and a row',
    file: 'better-auth.js',
    peer: true,
    lacks: `${WRITES} No retention of the rows; the token is stored in clear. It does more elsewhere: accounts, passwords, OAuth.`
  },
  {
    id: 'express-session',
    title: 'express-session on better-sqlite3-session-store, and a row',
    file: 'express-session.js',
    peer: true,
    lacks: `${WRITES} ${LIBRARY}`
  },
  {
    id: 'session-sqlite',
    title: '@fastify/session on better-sqlite3-session-store, and a row',
    file: 'fastify-session-sqlite.js',
    peer: true,
    lacks: `${WRITES} ${LIBRARY}`
  },
  {
    id: 'session-memory',
    title: '@fastify/session in memory, and a row',
    file: 'fastify-session-memory.js',
    settings: { rows: true },
    peer: true,
    lacks: `Sessions end with the process and are never removed from memory. ${WRITES} ${LIBRARY}`
  },
  {
    id: 'session-memory-no-row',
    title: '@fastify/session in memory, without the row',
    file: 'fastify-session-memory.js',
    settings: { rows: false },
    peer: true,
    lacks: 'The same, and no log of requests.'
  },
  {
    id: 'session-redis',
    title: '@fastify/session on Redis, and a row',
    file: 'fastify-session-redis.js',
    settings: { rows: true },
    peer: true,
    program: 'redis-server',
    lacks: `A second service to run. The rows are written on the event loop. ${LIBRARY} It does more elsewhere: sessions shared by machines.`
  },
  {
    id: 'session-redis-no-row',
    title: '@fastify/session on Redis, without the row',
    file: 'fastify-session-redis.js',
    settings: { rows: false },
    peer: true,
    program: 'redis-server',
    lacks: 'The same, and no log of requests.'
  },
  {
    id: 'engineer',
    title: 'a good engineer: one shared connection, prepared statements, INSERT and UPDATE per request',
    file: 'good-engineer.js',
    lacks: `${WRITES} No reason for a refusal, no limit per user, no retention.`
  },
  {
    id: 'secure-session',
    title: '@fastify/secure-session (stateless), without the row',
    file: 'secure-session.js',
    peer: true,
    lacks: 'Nothing is stored: no revocation, no list, no log of requests; a stolen cookie works until it expires.'
  }
]
