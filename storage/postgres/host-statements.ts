/** The host's own statements (`fastify.database.batch`, `get`, `all`): checked, then run in a transaction of their own. */
import { doormanError } from '../../errors.js'
import type { SqlResult, SqlRow, SqlStatement } from '../storage.js'
import type { Pool, Queryable } from './pool-types.js'

/** Transactions are the pool's, and settings are the connection's, which others use next. */
const FORBIDDEN = /^(?:[\s;]|--[^\n]*\n|\/\*[^]*?\*\/)*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE|EXECUTE|DEALLOCATE|SET|RESET|DISCARD|LISTEN|UNLISTEN|COPY|ATTACH|DETACH|PRAGMA|VACUUM)\b/i

/** @throws DOORMAN_SQL_NOT_ALLOWED, DOORMAN_SQL_INVALID for named parameters */
function assertAllowed (statements: readonly SqlStatement[]): void {
  for (const { sql, params } of statements) {
    const word = FORBIDDEN.exec(sql)?.[1]
    if (word !== undefined) throw doormanError('DOORMAN_SQL_NOT_ALLOWED', [word.toUpperCase()])
    if (params !== undefined && !Array.isArray(params)) throw doormanError('DOORMAN_SQL_INVALID', ['PostgreSQL has no named parameters: write $1, $2 and give an array'])
  }
}

/** In the extended protocol, which takes one statement at a time: what follows a semicolon is an error, not another statement. */
function query (client: Queryable, { sql, params = [] }: SqlStatement) {
  return client.query<SqlRow>({ text: sql, queryMode: 'extended' }, params as unknown[])
}

/** All or none. Not repeated where it may have been stored: whether that would do harm only the host can know. */
export async function runBatch (pool: Pool, statements: readonly SqlStatement[]): Promise<SqlResult[]> {
  assertAllowed(statements)
  return pool.transaction({ lane: 'interactive', rows: statements.length, repeatable: false }, async client => {
    const results: SqlResult[] = []
    for (const statement of statements) results.push({ changes: (await query(client, statement)).rowCount, lastInsertRowid: 0 })
    return results
  })
}

export async function allRows (pool: Pool, statement: SqlStatement): Promise<SqlRow[]> {
  assertAllowed([statement])
  return pool.transaction({ lane: 'interactive', readOnly: true }, async client => (await query(client, statement)).rows)
}
