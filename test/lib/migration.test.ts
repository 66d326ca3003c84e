/** The copying of one storage into another, on storages that fail on purpose. */
import t, { type Test } from 'tap'
import { migrationText } from '../../lib/migration-report.js'
import { MAX_PASSES, runMigration, type MigrationOptions } from '../../lib/migration.js'
import { BATCH_ROWS } from '../../lib/migration-range.js'
import { compareKeys, MIGRATED_TABLES, rangeOf, rowText, type MigratedRow, type MigratedTable, type MigratedTableName } from '../../lib/migration-tables.js'
import type { MigrationSource, MigrationTarget, RangeRecord, TargetChange } from '../../lib/migration-types.js'

const BLOCKS = MIGRATED_TABLES.find(table => table.name === 'ip_blocks')!
const LOGS = MIGRATED_TABLES.find(table => table.name === 'user_activity')!
const SESSIONS = MIGRATED_TABLES.find(table => table.name === 'sessions')!

type Tables = Map<MigratedTableName, Map<string, MigratedRow>>
const keyOf = (table: MigratedTable, row: MigratedRow) => rowText(row.slice(0, table.key))
const emptyTables = (): Tables => new Map(MIGRATED_TABLES.map(({ name }) => [name, new Map()]))

function pick (tables: Tables, table: MigratedTable, from: number, to: number, limit: number, after: MigratedRow | null): MigratedRow[] {
  return [...tables.get(table.name)!.values()].filter(row => rangeOf(table, row) >= from && rangeOf(table, row) < to && (after === null || compareKeys(table, row, after) > 0))
    .sort((a, b) => compareKeys(table, a, b)).slice(0, limit)
}

/** A source in memory. */
class Source implements MigrationSource {
  identity = 'one'
  tables = emptyTables()
  /** Called before rows are read. */
  onRead: (table: MigratedTable) => void = () => {}

  put (table: MigratedTable, ...rows: MigratedRow[]) {
    for (const row of rows) this.tables.get(table.name)!.set(keyOf(table, row), row)
  }

  * ranges (table: MigratedTable) {
    const rows = [...this.tables.get(table.name)!.values()]
    for (const range of [...new Set(rows.map(row => rangeOf(table, row)))].sort((a, b) => a - b)) {
      const inside = rows.filter(row => rangeOf(table, row) === range)
      yield { range, rows: inside.length, fingerprint: table.split === 'time' ? inside.map(row => row[1]).join() : null }
    }
  }

  rows (table: MigratedTable, range: number, limit: number, after: MigratedRow | null) {
    this.onRead(table)
    return pick(this.tables, table, range, range + 1, limit, after)
  }

  count ({ name }: MigratedTable) {
    return this.tables.get(name)!.size
  }

  close () {}
}

/** A target in memory. */
class Target implements MigrationTarget {
  tables = emptyTables()
  records = new Map<MigratedTableName, Map<number, RangeRecord>>(MIGRATED_TABLES.map(({ name }) => [name, new Map()]))
  isNew = true
  finished = false
  changes: { name: MigratedTableName, change: TargetChange }[] = []
  /** What becomes of a row on its way. */
  alter = (row: MigratedRow) => row
  onStore: (name: MigratedTableName, change: TargetChange) => void = () => {}

  async begin () {
    const { isNew } = this
    this.isNew = false
    return isNew
  }

  async ranges ({ name }: MigratedTable) {
    return [...this.records.get(name)!.values()].sort((a, b) => a.range - b.range).map(record => ({ ...record }))
  }

  async rows (table: MigratedTable, from: number, to: number, limit: number, after: MigratedRow | null) {
    return pick(this.tables, table, from, to, limit, after)
  }

  async count ({ name }: MigratedTable) {
    return this.tables.get(name)!.size
  }

  async store (table: MigratedTable, change: TargetChange) {
    this.onStore(table.name, change)
    this.changes.push({ name: table.name, change })
    const rows = this.tables.get(table.name)!
    for (const row of change.remove) if (!rows.delete(keyOf(table, row))) throw new Error('nothing to remove')
    for (const row of change.add) {
      if (rows.has(keyOf(table, row))) throw new Error('there already')
      rows.set(keyOf(table, row), this.alter(row))
    }
    for (const record of change.complete) this.records.get(table.name)!.set(record.range, record)
    for (const range of change.gone) this.records.get(table.name)!.delete(range)
  }

  async mark ({ name }: MigratedTable, ranges: readonly number[], verified: boolean) {
    for (const range of ranges) {
      const record = this.records.get(name)!.get(range)!
      this.records.get(name)!.set(range, { ...record, verified, ...verified ? {} : { fingerprint: '' } })
    }
  }

  async finish () {
    this.finished = true
  }

  async close () {}
}

const activity = (id: number, at = 60_000 * id, user = 'alice'): MigratedRow => [at, id, user, null, 'login', null, null]
const session = (n: number, lastActiveAt = 1): MigratedRow => [Buffer.alloc(32, n), `s${n}`, 'alice', 1, lastActiveAt, 1, 1, 2, null, null, null, null, null, false, '{}']
const run = (source: Source, target: Target, mode: MigrationOptions['mode'] = 'copy', more: Partial<MigrationOptions> = {}) => runMigration({ source, target, mode, ...more })
const text = (tables: Tables) => JSON.stringify([...tables].map(([name, rows]) => [name, [...rows.values()].map(rowText).sort()]))
const same = (t: Test, source: Source, target: Target) => t.equal(text(target.tables), text(source.tables))

t.test('everything is copied, compared, and looked at again only where it has changed', async t => {
  const source = new Source()
  const target = new Target()
  source.put(LOGS, activity(1), activity(2), activity(3))
  source.put(SESSIONS, session(1), session(255))
  const progress: string[] = []
  const first = await run(source, target, 'copy', { onProgress: ({ step, pass, table, done, total }) => { progress.push(`${step} ${pass} ${table} ${done}/${total}`) } })
  t.match(first, { mode: 'copy', passes: 2, added: 5, removed: 0, lastPass: 0, verified: 5, same: true, finished: false })
  t.strictSame(first.tables.find(({ table }) => table === 'user_activity')?.rows, 3)
  t.match(progress, ['copy 1 user_activity 1/5', 'copy 1 user_activity 2/5', 'copy 1 user_activity 3/5', 'copy 1 sessions 4/5', 'copy 1 sessions 5/5'])
  t.equal(progress.at(-1), 'verify 2 sessions 5/5')
  same(t, source, target)

  // Changed in place, come, gone, a range that is gone entirely.
  source.put(SESSIONS, session(1, 7), session(2))
  source.tables.get('sessions')!.delete(keyOf(SESSIONS, session(255)))
  source.tables.get('user_activity')!.delete(keyOf(LOGS, activity(1)))
  source.put(LOGS, activity(4, 121_000))
  target.changes = []
  const second = await run(source, target, 'final')
  t.match(second, { passes: 1, added: 3, removed: 3, same: true, finished: true })
  t.equal(second.verified, 4, 'the range that has not changed is not read again')
  t.equal(target.finished, true)
  same(t, source, target)
  t.strictSame(target.changes.map(({ name, change }) => [name, change.add.length, change.remove.length, change.gone]), [['user_activity', 1, 1, [1]], ['sessions', 2, 2, [255]]])
  t.match(await run(source, target, 'verify'), { passes: 0, added: 0, verified: 5, same: true, finished: false })
})

t.test('a range with more rows than one transaction takes, in the order of keys, and whatever the target had in it', async t => {
  const source = new Source()
  const target = new Target()
  const many = Array.from({ length: 2 * BATCH_ROWS + 10 }, (_, i) => activity(i, 5))
  source.put(LOGS, ...many)
  // A run that ended in the middle, after which rows were removed in the source, and one was tampered with in the target.
  target.onStore = (_, { complete }) => { if (complete.some(({ rows }) => rows > 0)) throw new Error('interrupted') }
  await t.rejects(run(source, target), { message: 'interrupted' })
  t.equal(target.tables.get('user_activity')!.size, 2 * BATCH_ROWS)
  t.strictSame(target.records.get('user_activity')!.get(0), { range: 0, rows: 0, checksum: '', fingerprint: '', verified: false }, 'it is known that there are rows')
  target.onStore = () => {}
  for (const row of many.slice(100, 200)) source.tables.get('user_activity')!.delete(keyOf(LOGS, row))
  target.tables.get('user_activity')!.set(keyOf(LOGS, activity(7, 5)), activity(7, 5, 'mallory'))
  const report = await run(source, target)
  t.match(report, { added: 11, removed: 101, same: true })
  same(t, source, target)

  source.tables.get('user_activity')!.clear()
  t.match(await run(source, target), { added: 0, removed: 2 * BATCH_ROWS - 90, same: true })
  same(t, source, target)
})

t.test('many small ranges share a transaction', async t => {
  const source = new Source()
  const target = new Target()
  source.put(LOGS, ...Array.from({ length: 1200 }, (_, i) => activity(i)))
  await run(source, target)
  t.strictSame(target.changes.map(({ change }) => change.complete.length), [500, 500, 200])
  same(t, source, target)
})

t.test('a source that is written to: passes until they get no shorter', async t => {
  const source = new Source()
  const target = new Target()
  let id = 1
  source.put(LOGS, ...Array.from({ length: 100 }, () => activity(id++)))
  source.put(SESSIONS, session(1))
  // With every pass ten rows come in: in ranges that have been read, are being read, and are new.
  source.onRead = ({ name }) => { if (name === 'sessions') source.put(LOGS, ...Array.from({ length: 10 }, (_, i) => activity(id++, 61_000 * i))) }
  t.match(await run(source, target), { passes: 3, added: 121, lastPass: 10, same: true }, 'it is the same as what was read')
  source.onRead = () => {}
  t.match(await run(source, target, 'final'), { passes: 1, added: 10, same: true, finished: true })
  same(t, source, target)
})

t.test('passes that get shorter and shorter come to an end all the same', async t => {
  const source = new Source()
  const target = new Target()
  let id = 0
  let more = 2 ** (MAX_PASSES + 1)
  const add = () => { source.put(LOGS, ...Array.from({ length: more }, () => activity(++id, 5))) }
  add()
  source.put(SESSIONS, session(1))
  source.onRead = ({ name }) => {
    if (name !== 'sessions') return
    more /= 2
    add()
  }
  t.match(await run(source, target), { passes: MAX_PASSES, lastPass: 4, same: true })
})

t.test('a row that was changed on its way, or afterwards, is noticed, and repaired by the next run', async t => {
  const source = new Source()
  const target = new Target()
  source.put(LOGS, activity(1), activity(2))
  source.put(SESSIONS, session(1))
  target.alter = row => row[1] === 2 ? activity(2, 120_000, 'mallory') : row
  const wrong = await run(source, target, 'final')
  t.match(wrong, { same: false, finished: false })
  t.equal(target.finished, false)
  t.strictSame(wrong.tables.filter(table => !table.same).map(({ table, rows, targetRows }) => [table, rows, targetRows]), [['user_activity', 2, 2]])
  target.alter = row => row
  t.match(await run(source, target), { added: 1, removed: 1, same: true })
  same(t, source, target)

  target.tables.get('user_activity')!.set(keyOf(LOGS, activity(1)), activity(1, 60_000, 'mallory'))
  t.match(await run(source, target, 'verify'), { same: false, added: 0 })
  t.match(await run(source, target), { same: true, added: 1, removed: 1 })
  target.tables.get('sessions')!.clear()
  t.match(await run(source, target, 'verify'), { same: false })
  target.records.get('sessions')!.clear()
  target.tables.get('sessions')!.set('', session(9))
  const surplus = await run(source, target, 'verify')
  t.match(surplus.tables.at(-1), { table: 'sessions', rows: 0, targetRows: 1, same: false }, 'also a row nobody has read')
})

t.test('a row of the source that no range has is missed, and the final run says so', async t => {
  const source = new Source()
  const target = new Target()
  source.put(LOGS, activity(1))
  source.count = ({ name }) => source.tables.get(name)!.size + (name === 'user_activity' ? 1 : 0)
  t.match(await run(source, target), { same: true }, 'while it is in use, nobody can tell')
  t.match(await run(source, target, 'final'), { same: false, finished: false })
})

t.test('keys are compared as they are sorted', async t => {
  // By UTF-8: U+FF5E comes before U+1F600, though its UTF-16 does not.
  t.ok(compareKeys(BLOCKS, ['\uff5e'], ['\u{1f600}']) < 0)
  t.ok(compareKeys(LOGS, [1, 10], [1, 9]) > 0)
  t.ok(compareKeys(SESSIONS, [Buffer.of(1)], [Buffer.of(0, 255)]) > 0)
  t.equal(compareKeys(SESSIONS, [Buffer.of(1)], [Buffer.of(1)]), 0)
})

t.test('the report, in words', async t => {
  const source = new Source()
  const target = new Target()
  source.put(LOGS, activity(1))
  source.put(BLOCKS, ['b2', '192.0.2.0/24', null, null, 1], ['b1', '192.0.2.0/24', null, null, 1])
  const copied = await run(source, target)
  t.match(migrationText(copied), /^table +rows read +checksum +rows in target +checksum\n(.*\n)*user_activity +1 +[0-9a-f]{12} +1 +[0-9a-f]{12} +same\n/)
  t.match(migrationText(copied), '3 rows written, 0 replaced or removed, in 2 passes.\n3 rows read back and compared.\nThe last pass still found 0 changes;')
  t.match(migrationText(await run(source, target, 'final')), 'in 1 pass.\n0 rows read back and compared.\nEverything is there.')
  t.match(migrationText(await run(source, target, 'verify')), /same\n3 rows read back and compared\.\nThe target is what was read\.$/)
  target.tables.get('user_activity')!.clear()
  t.match(migrationText(await run(source, target, 'verify')), /user_activity .* 0 .* DIFFERENT\n[^]*The target is not what was read\./)
})
