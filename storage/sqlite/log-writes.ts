/** Appends to the log. Runs inside the writer's transaction. */
import { escapeJson } from '../../lib/text.js'
import { IP_LOG_OUTCOMES } from '../../lib/vocabulary.js'
import type { IpLogRow, LogAppendResult, LogRow } from '../storage.js'
import { encodeAddress } from './address-code.js'
import type { Connection } from './connection.js'
import { isRowFault, sqliteCode } from './errors.js'
import { BulkInsert, INSERT_ONE } from './log-bulk.js'
import { addEntries, indexState } from './log-index.js'
import { countRows, unpackRows, type PackedBatch, type PackedRows } from './log-wire.js'
import { offsetOf, RowIds } from './row-ids.js'
import { encodeSource } from './source-code.js'
import { dayOf, TextDictionary, type TextKind } from './text-dictionary.js'

const INSERT_ACTIVITY = 'INSERT INTO user_activity (at, user_id, session_id, action, ip, detail) VALUES (?, ?, ?, ?, ?, ?)'

/** Writes batches of log rows; keeps what the next batch can use again (texts, the last id). */
export class LogAppender {
  /** Rows put into dead_letters since the start. */
  deadLetters = 0
  /** Rows stored since the start, about: what is undone later is counted, too. */
  stored = 0
  #connection: Connection
  #texts: TextDictionary
  #ids: RowIds
  #bulk: BulkInsert
  #removals = 0
  /** Rows up to this id are added to the tables of log-index.ts at once. */
  #announced = 0
  /** Rows that ended the transaction they were in (a trigger that says ROLLBACK), with the reason, by their place in the batch that comes again. */
  #endings = { batch: '', rows: new Map<number, string>() }
  #learned = false

  constructor (connection: Connection) {
    this.#connection = connection
    this.#texts = new TextDictionary(connection)
    this.#ids = new RowIds(connection)
    this.#bulk = new BulkInsert(connection, this.#texts, this.#ids)
  }

  /** A batch that is stored already (its answer was lost) is recognised by source and seq, and changes nothing. */
  append (batch: PackedBatch): LogAppendResult {
    const stored = this.#connection.get<{ seq: number }>('SELECT seq FROM log_sources WHERE source = ?', batch.source)
    if (stored !== undefined && stored.seq >= batch.seq) return { deadLetters: 0, duplicates: 0 }
    this.#noticeRemovals()
    this.#announced = indexState(this.#connection).announced
    this.#ids.begin()
    const result = this.#insertAll(batch)
    this.#connection.run('INSERT INTO log_sources (source, seq, at) VALUES (?, ?, ?) ON CONFLICT (source) DO UPDATE SET seq = excluded.seq, at = excluded.at', batch.source, batch.seq, batch.at)
    this.deadLetters += result.deadLetters
    this.stored += countRows(batch.rows)
    return result
  }

  /** After an append that ended the transaction: true when it has learned from which row, or to look for it; then the batch may come again. */
  again (): boolean {
    const learned = this.#learned
    this.#learned = false
    return learned
  }

  /** To be called after a rollback: what is remembered may not have been stored. */
  forgetTexts (): void {
    this.#texts.forget()
  }

  /** We hold the write lock, so nobody removes a text between this look and the rows that refer to it. */
  #noticeRemovals (): void {
    const { value } = this.#connection.get<{ value: number }>('SELECT value FROM log_counters WHERE name = \'texts_removed\'')!
    if (value !== this.#removals) this.#texts.forget()
    this.#removals = value
  }

  /** Many rows per statement and none with a savepoint of its own, which is the usual case; when one is refused, once more, row by row. */
  #insertAll (batch: PackedBatch): LogAppendResult {
    const { rows, at } = batch
    const db = this.#connection
    const name = `${batch.source} ${batch.seq}`
    const endings = this.#endings.batch === name ? this.#endings.rows : undefined
    if (endings === undefined) {
      db.run('SAVEPOINT batch')
      try {
        const duplicates = this.#insertAtOnce(rows, at)
        db.run('RELEASE batch')
        return { deadLetters: 0, duplicates }
      } catch (error) {
        if (!isRowFault(error)) throw error
        this.#undo('batch', error, () => { this.#endings = { batch: name, rows: new Map() } })
        db.run('RELEASE batch')
      }
    }
    const result = { deadLetters: 0, duplicates: 0 }
    for (const [index, row] of unpackRows(rows).entries()) {
      let reason = endings?.get(index)
      if (reason === undefined) {
        db.run('SAVEPOINT one_row')
        try {
          result.duplicates += this.#insertRows([row], at)
        } catch (error) {
          if (!isRowFault(error)) throw error
          const fault = reason = `${sqliteCode(error) ?? 'INVALID_VALUE'}: ${(error as Error).message}`
          this.#undo('one_row', error, () => { this.#endings = { batch: name, rows: new Map(endings).set(index, fault) } })
        }
        db.run('RELEASE one_row')
      }
      if (reason === undefined) continue
      this.#bury(row, reason, at)
      result.deadLetters++
    }
    return result
  }

  #insertAtOnce (rows: PackedRows, now: number): number {
    // Requests of one millisecond keep their order.
    if (rows.others.some(({ kind }) => kind === 'ip')) return this.#insertRows(unpackRows(rows), now)
    this.#bulk.insert(rows, dayOf(now), this.#announced)
    return this.#insertRows(rows.others, now)
  }

  /** Undoes what a refused row did. Where it has undone the whole transaction itself, that is learned, and thrown. */
  #undo (savepoint: string, error: unknown, learn: () => void): void {
    this.#texts.forget()
    if (this.#connection.db.inTransaction) {
      this.#connection.run(`ROLLBACK TO ${savepoint}`)
      return
    }
    learn()
    this.#learned = true
    throw error
  }

  /** @returns how many were left out as duplicates */
  #insertRows (rows: LogRow[], now: number): number {
    let duplicates = 0
    for (const row of rows) {
      if (row.kind === 'activity') this.#connection.run(INSERT_ACTIVITY, row.at, row.userId, row.sessionId, row.action, row.ip, row.detail)
      else if (row.idempotencyKey !== undefined && this.#connection.run('INSERT OR IGNORE INTO ingested (key, at) VALUES (?, ?)', row.idempotencyKey, now).changes === 0) duplicates++
      else this.#insertIpLog(row, dayOf(now))
    }
    return duplicates
  }

  #insertIpLog (row: IpLogRow, day: number): void {
    const texts = this.#texts
    const ref = (text: string | null, kind: TextKind = 'shared') => text === null ? null : texts.ref(kind, text, day)
    const id = this.#ids.next(row.at)
    const ip = encodeAddress(row.ip)
    const session = ref(row.sessionId, 'session')
    const user = ref(row.userId, 'user')
    this.#connection.run(INSERT_ONE, id, offsetOf(id, row.at), ip, encodeSource(row), encodeAddress(row.peerIp), row.peerPort,
      row.method, texts.ref('shared', row.path, day), ref(row.route), row.status, row.durationUs, ref(row.userAgent), ref(row.referer), session, user,
      row.requestId, IP_LOG_OUTCOMES.indexOf(row.outcome))
    if (id <= this.#announced) addEntries(this.#connection, [{ id, ip, user_ref: user, session_ref: session }])
  }

  #bury (row: LogRow, reason: string, now: number): void {
    const userId = typeof row.userId === 'string' ? row.userId : null
    this.#connection.run('INSERT INTO dead_letters (at, kind, user_id, reason, content) VALUES (?, ?, ?, ?, ?)', now, row.kind, userId, reason, escapeJson(JSON.stringify(row, printable)))
  }
}

/** A dead letter must be storable whatever the row held. */
function printable (_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
