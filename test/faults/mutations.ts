/**
 * Each scenario fails when the mechanism it tests is switched off: here is which line, and what breaks. `npm run test:faults -- --mutations`
 * does it: changes the compiled line in a copy, performs the scenario's short form, and wants the named result to fail.
 */
export interface Mutation {
  scenario: number
  /** Compiled file, relative to the root of the build. */
  file: string
  /** Occurs exactly once in it. */
  from: string
  to: string
  /** What this switches off. */
  why: string
  /** Beginning of the result that fails then. */
  breaks: string
}

export const mutations: readonly Mutation[] = [
  {
    scenario: 1,
    file: 'storage/sqlite/file-writer.js',
    from: 'this.#expire(now, this.#lockWaitSince);',
    to: 'this.#expire(Infinity, this.#lockWaitSince);',
    why: 'nobody waits for the lock: what meets it fails at once',
    breaks: 'both locked: failed requests up to the deadline'
  },
  {
    scenario: 1,
    file: 'storage/sqlite/connection.js',
    from: "timeout: role === 'reader' && !exclusive ? READER_BUSY_TIMEOUT : 0 });",
    to: "timeout: role === 'reader' && !exclusive ? READER_BUSY_TIMEOUT : 30000 });",
    why: "the writer waits with SQLite's own blocking sleep, past every deadline of its own",
    breaks: 'both locked past the deadline: writes refused'
  },
  {
    scenario: 1,
    file: 'storage/sqlite/engine.js',
    from: 'return readHereOrThere(read, () => this.#ask(name, params));',
    to: "return name === 'findSession' ? this.#writer.run('removeBlock', { id: '' }).then(read) : read();",
    why: 'sessions are looked up behind the writer, which waits for the lock',
    breaks: 'both locked past the deadline: GETs that failed'
  },
  {
    scenario: 1,
    file: 'lib/row-queue.js',
    from: 'await retrier.run(() => commit(batch.rows, number), tellWaiters);',
    to: 'await commit(batch.rows, number).catch(() => {});',
    why: 'a batch that could not be stored is dropped instead of sent again',
    breaks: 'both: IP rows missing afterwards'
  },
  {
    scenario: 2,
    file: 'storage/sqlite/checkpoint.js',
    from: 'const { log, checkpointed } = ',
    to: "connection.db.pragma('busy_timeout = 2000'); connection.db.pragma('wal_checkpoint(RESTART)'); const { log, checkpointed } = ",
    why: 'a checkpoint waits for readers, while it holds the write lock',
    breaks: 'leaves when nothing is written: seconds in which a file had no commit'
  },
  {
    scenario: 2,
    file: 'storage/sqlite/wal-watch.js',
    from: ' : backlog >= this.#limit)',
    to: ' : false)',
    why: 'nobody is told that a reader holds the WAL',
    breaks: 'leaves when nothing is written: one warning per file, which names the cause'
  },
  {
    scenario: 2,
    file: 'storage/sqlite/wal-watch.js',
    from: '&& cutWal(this.#options.connection))',
    to: '&& false)',
    why: 'the WAL is copied back after the reader has left, and not cut',
    breaks: 'leaves when nothing is written: the main WAL shrinks afterwards'
  },
  {
    scenario: 3,
    file: 'storage/sqlite/file-writer.js',
    from: "this.connection.run('BEGIN IMMEDIATE');",
    to: "this.connection.run('BEGIN');",
    why: 'the write lock is asked for in the middle of a transaction, where nobody can wait for it',
    breaks: '3 processes: sessions that could not be created'
  },
  {
    scenario: 3,
    file: 'storage/sqlite/file-writer.js',
    from: 'setTimeout(this.#turn, this.#options.random() < 0.5 ? 1 : 2);',
    to: 'this.pause = Math.min(4000, 4 * (this.pause ?? 1)); setTimeout(this.#turn, this.pause);',
    why: 'who waits for the lock asks for it less and less often',
    breaks: '3 processes: commits of the slowest / the fastest'
  },
  {
    scenario: 3,
    file: 'lib/lease.js',
    from: 'acquire: since => take(clock() - since)',
    to: 'acquire: async () => true',
    why: 'each process cleans up on its own',
    breaks: '3 processes: shortest time from one cleanup to the next'
  },
  {
    scenario: 3,
    file: 'storage/sqlite/session-cache.js',
    from: 'entry.counter === this.#counter && ',
    to: '',
    why: 'sessions that were looked up lately are taken for live without a look at the counter of changes',
    breaks: '3 processes: ended sessions that another process accepted after the reply'
  },
  {
    scenario: 4,
    file: 'storage/sqlite/file-writer.js',
    from: "this.connection.run('COMMIT');",
    to: "this.#options.reply(replies.splice(0)); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, this.connection.file === 'log' ? 300 : 0); this.connection.run('COMMIT');",
    why: 'acknowledges before COMMIT, which then takes 300 ms',
    breaks: 'committed: answered requests without a row'
  },
  {
    scenario: 4,
    file: 'lib/sessions.js',
    from: 'await storage.createSession(',
    to: '(params => { setTimeout(() => storage.createSession(params), 300); return { created: true, evicted: [], known: null }; })(',
    why: 'answers a login before its session is stored',
    breaks: 'committed: acknowledged sessions lost'
  },
  {
    scenario: 4,
    file: 'lib/row-queue.js',
    from: 'setTimeout(afterLinger, linger)',
    to: 'setTimeout(afterLinger, linger + 5000)',
    why: 'rows wait for company far longer than the linger',
    breaks: 'queued: rows lost of requests answered more than 1 s before the kill'
  },
  {
    scenario: 5,
    file: 'lib/row-queue.js',
    from: 'setTimeout(end, deadlineMs)',
    to: 'setTimeout(end, 0)',
    why: 'closing does not drain the queue',
    breaks: 'lock for 1 s: queued rows not stored'
  },
  {
    scenario: 5,
    file: 'lib/row-queue.js',
    from: 'while (queued > 0 && due) {',
    to: 'while (queued > 0 && closing === null) {',
    why: 'closing sends nothing more after the batch under way',
    breaks: 'lock for 1 s: queued rows not stored'
  },
  {
    scenario: 5,
    file: 'server.js',
    from: 'setTimeout(() => app.server.closeAllConnections(), closeTimeout / 2).unref();',
    to: '',
    why: 'requests that wait for ever are not cut off, so there is no time left to count',
    breaks: 'lock for ever: rows not stored, as its log says'
  },
  {
    scenario: 5,
    file: 'app.js',
    from: 'if (closing)',
    to: 'if (false)',
    why: 'replies while closing keep their connections, and the close waits for those',
    breaks: 'lock for 1 s: from its end to the end of the process'
  },
  {
    scenario: 11,
    file: 'lib/sweep-run.js',
    from: 'const limit = pace.size;',
    to: 'const limit = 1e6;',
    why: 'all rows of a kind go in one transaction',
    breaks: 'largest part of the expired rows that went at once'
  },
  {
    scenario: 11,
    file: 'lib/sweep-run.js',
    from: 'pages: pace.size,',
    to: 'pages: 1e6,',
    why: 'all free pages are given back in one step',
    breaks: 'most pages given back within 5 ms'
  },
  {
    scenario: 11,
    file: 'storage/sqlite/retention-writes.js',
    from: "plan('log', 'texts', 'last_day < ?', before => dayOf(before))",
    to: "plan('log', 'texts', 'last_day < ?', before => dayOf(before) + 100)",
    why: 'texts go without a look at when they were last used',
    breaks: 'rows to keep that are gone or incomplete'
  },
  {
    scenario: 11,
    file: 'lib/sweep-run.js',
    from: 'ipLogs: now - retention.ipLogs,\n',
    to: 'ipLogs: now - retention.ipLogs + 5 * 86400000,\n',
    why: 'rows go five days too early',
    breaks: 'rows to keep that are gone or incomplete'
  },
  {
    scenario: 6,
    file: 'lib/row-queue.js',
    from: 'const hasRoom = () => queued + rowsInFlight() + reserved < limit;',
    to: 'const hasRoom = () => true;',
    why: 'the queue takes whatever comes',
    breaks: 'max_page_count, queued: rows held in memory'
  },
  {
    scenario: 6,
    file: 'lib/row-queue.js',
    from: 'await retrier.run(() => commit(batch.rows, number), tellWaiters);',
    to: 'await commit(batch.rows, number).catch(() => {});',
    why: 'a batch that could not be stored is dropped instead of sent again',
    breaks: 'max_page_count, queued: requests without a row'
  },
  {
    scenario: 6,
    file: 'lib/request-tracker.js',
    from: 'await queue.pushCommitted(row);',
    to: 'queue.push(row);',
    why: 'replies do not wait for their row, in the mode that promises it',
    breaks: 'input/output error, committed: requests whose row cannot be stored'
  },
  {
    scenario: 7,
    file: 'storage/sqlite/thread-client.js',
    from: 'this.#rejectAll(error, id => !unsent.has(id));',
    to: '',
    why: 'what waited in the dead thread is told nothing',
    breaks: 'throw: logins and logouts that waited'
  },
  {
    scenario: 7,
    file: 'lib/row-queue.js',
    from: 'await retrier.run(() => commit(batch.rows, number), tellWaiters);',
    to: 'await commit(batch.rows, number).catch(() => {});',
    why: 'the next thread is not sent what the dead one had not stored',
    breaks: 'deaths: IP rows missing'
  },
  {
    scenario: 7,
    file: 'storage/sqlite/thread-client.js',
    from: 'deaths >= MAX_DEATHS',
    to: 'deaths >= Infinity',
    why: 'a thread that keeps dying is started again for ever',
    breaks: 'a host whose writer keeps dying: deaths within a minute'
  },
  {
    scenario: 8,
    file: 'storage/sqlite/errors.js',
    from: "return code.startsWith('SQLITE_CONSTRAINT') || ",
    to: 'return ',
    why: 'a row that breaks a constraint takes its batch with it',
    breaks: 'committed, a unique index: the batch'
  },
  {
    scenario: 8,
    file: 'storage/sqlite/write-operations.js',
    from: 'again: () => appender.again()',
    to: 'again: () => false',
    why: 'a batch with a row that ends the transaction is given back as it is',
    breaks: 'committed, a trigger, RAISE(ROLLBACK): the batch'
  },
  {
    scenario: 9,
    file: 'lib/sweeper.js',
    from: "const jump = trigger === 'schedule' ? clockJump() : null;",
    to: 'const jump = null;',
    why: 'a scheduled cleanup believes any clock',
    breaks: 'a day forward: sessions and rows that the cleanup removed'
  },
  {
    scenario: 9,
    file: 'storage/sqlite/retention-writes.js',
    from: 'until <= @now OR until > @latest',
    to: 'until <= @now',
    why: 'a lease of the future keeps everybody away',
    breaks: 'an hour back: the lease and the last run lie in the future, and the schedule goes on'
  },
  {
    scenario: 9,
    file: 'lib/request-tracker.js',
    from: 'duration: performance.now() - visit.started,',
    to: 'duration: clock() - visit.at,',
    why: 'requests are timed by a clock that can be set',
    breaks: 'durations of requests that are negative, or hold a jump'
  },
  {
    scenario: 10,
    file: 'storage/sqlite/open-file.js',
    from: 'inspect(path, file, migrations);',
    to: ';',
    why: 'a file with a WAL is opened for writing before it was looked at',
    breaks: 'a newer schema, in a WAL: files that are not as they were'
  },
  {
    scenario: 10,
    file: 'storage/sqlite/errors.js',
    from: "['SQLITE_CORRUPT', 'DOORMAN_STORAGE_CORRUPT']",
    to: "['SQLITE_DAMAGED', 'DOORMAN_STORAGE_CORRUPT']",
    why: 'damage is not told from other failures',
    breaks: 'damaged pages, running: a login is refused'
  },
  {
    scenario: 10,
    file: 'storage/sqlite/file-identity.js',
    from: 'if (present === undefined || ',
    to: 'if (false && ',
    why: 'nobody looks whether the files are still there',
    breaks: 'a WAL deleted while running: the process ends'
  },
  {
    scenario: 12,
    file: 'lib/text.js',
    from: 'const wanted = text.replace(UNWANTED, \'\');',
    to: 'const wanted = text;',
    why: 'texts are stored as clients sent them',
    breaks: 'stored texts with control characters'
  },
  {
    scenario: 12,
    file: 'lib/server-watch.js',
    from: 'tracker.unparsed(',
    to: '(() => {})(',
    why: 'what the parser refuses leaves no row',
    breaks: 'one row for each request that was answered or refused'
  },
  {
    scenario: 12,
    file: 'routes/errors.js',
    from: 'return status !== undefined && status >= 400 && ',
    to: 'return status !== undefined && status >= 600 && ',
    why: 'bad requests are answered as faults of the server',
    breaks: 'replies 5xx'
  },
  {
    scenario: 13,
    file: 'storage/postgres/connections.js',
    from: 'circuit.failed(error);',
    to: '{ circuit.failed(error); this.#pause = setTimeout(() => {}, 0); return; }',
    why: 'one attempt to connect again, and no other',
    breaks: '5 kills: the service works again each time'
  },
  {
    scenario: 14,
    file: 'storage/postgres/connect.js',
    from: 'this.onDead();',
    to: '',
    why: 'a connection that broke off keeps its place',
    breaks: 'the service works afterwards'
  },
  {
    scenario: 15,
    file: 'lib/row-queue.js',
    from: 'await retrier.run(() => commit(batch.rows, number), tellWaiters);',
    to: 'await commit(batch.rows, number).catch(() => {});',
    why: 'a batch that met the lock past its deadline is dropped instead of sent again',
    breaks: 'past the deadline: answered requests without a row'
  },
  {
    scenario: 16,
    file: 'storage/postgres/errors.js',
    from: '(53100|53400)',
    to: '(53400)',
    why: 'a full disk is told as any failure',
    breaks: 'logins are refused with DOORMAN_STORAGE_FULL'
  },
  {
    scenario: 17,
    file: 'storage/postgres/connect.js',
    from: 'of hosts) {',
    to: 'of hosts.slice(0, 1)) {',
    why: 'only the first of the hosts is asked',
    breaks: 'failover 1: the service goes on with the new primary'
  }
]
