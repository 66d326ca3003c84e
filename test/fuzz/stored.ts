/** What is in the files afterwards: rows, and texts that a terminal, a log or a spreadsheet could stumble over. */
import { isUtf8 } from 'node:buffer'
import { join } from 'node:path'
import Database from 'better-sqlite3'

/** C0, DEL and C1. */
const CONTROLS = /\p{Cc}/u

export interface Stored {
  /** Of requests that were really made; those that were reported do not count. */
  rows: number
  /** Texts that were looked at. */
  texts: number
  problems: string[]
}

/** @param dir of the database, which nobody has open any more */
export function inspect (dir: string): Stored {
  const problems: string[] = []
  let texts = 0
  let rows = 0
  for (const name of ['doorman.db', 'doorman-log.db']) {
    const db = new Database(join(dir, name), { readonly: true, fileMustExist: true })
    const integrity = db.pragma('integrity_check', { simple: true })
    if (integrity !== 'ok') problems.push(`integrity: ${name}: ${String(integrity)}`)
    const columns = db.prepare<[], { tab: string, col: string }>(`SELECT m.name AS tab, c.name AS col FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
      WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.type IN ('TEXT', 'ANY')`).all()
    for (const { tab, col } of columns) {
      for (const bytes of db.prepare<[], Buffer>(`SELECT CAST(${col} AS BLOB) FROM ${tab} WHERE typeof(${col}) = 'text'`).pluck().iterate()) {
        texts++
        if (!isUtf8(bytes)) problems.push(`a stored text is no UTF-8: ${tab}.${col} ${bytes.toString('latin1').slice(0, 200)}`)
        if (CONTROLS.test(bytes.toString())) problems.push(`a stored text has control characters: ${tab}.${col} ${JSON.stringify(bytes.toString()).slice(0, 200)}`)
      }
    }
    if (name === 'doorman-log.db') {
      rows = db.prepare<[], number>('SELECT count(*) FROM ip_logs WHERE ip_source <> \'reported\'').pluck().get()!
      const buried = db.prepare<[], number>('SELECT count(*) FROM dead_letters').pluck().get()!
      if (buried > 0) problems.push(`dead letters: ${buried}`)
    }
    db.close()
  }
  return { rows, texts, problems }
}
