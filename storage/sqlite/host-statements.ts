/** The host's own statements (`fastify.database.batch`, `get`, `all`): checked, then run on our connections. */
import { doormanError } from '../../errors.js'
import type { SqlResult, SqlRow, SqlStatement } from '../storage.js'
import type { Binding, Connection } from './connection.js'

/** Transactions are the writer's, and settings are the connection's: a COMMIT here would commit other people's operations. */
const FORBIDDEN = /^(?:[\s;]|--[^\n]*\n|\/\*[^]*?\*\/)*(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|PRAGMA|VACUUM)\b/i

/** @throws DOORMAN_SQL_NOT_ALLOWED */
export function assertAllowed (statements: readonly SqlStatement[]): void {
  for (const { sql } of statements) {
    const word = FORBIDDEN.exec(sql)?.[1]
    if (word !== undefined) throw doormanError('DOORMAN_SQL_NOT_ALLOWED', [word.toUpperCase()])
  }
}

export function runBatch (connection: Connection, { statements }: { statements: readonly SqlStatement[] }): SqlResult[] {
  return statements.map(({ sql, params = [] }) => {
    const statement = connection.statement(sql)
    if (statement.reader) {
      const rows = bind(params, (...values) => statement.all(...values))
      return { changes: rows.length, lastInsertRowid: 0 }
    }
    const { changes, lastInsertRowid } = bind(params, (...values) => statement.run(...values))
    return { changes, lastInsertRowid }
  })
}

export function getRow (connection: Connection, { sql, params = [] }: SqlStatement): SqlRow | undefined {
  return bind(params, (...values) => connection.statement(sql).get(...values)) as SqlRow | undefined
}

export function allRows (connection: Connection, { sql, params = [] }: SqlStatement): SqlRow[] {
  return bind(params, (...values) => connection.statement(sql).all(...values)) as SqlRow[]
}

function bind<T> (params: NonNullable<SqlStatement['params']>, call: (...values: Binding[]) => T): T {
  return Array.isArray(params) ? call(...params as Binding[]) : call(params as unknown as Binding)
}
