/** What a migration has done, in words for a person. */
import type { MigrationReport } from './migration.js'
import { count } from './progress.js'
import { textTable } from './text-table.js'

/** Enough of a checksum to see that two are alike. */
const SHOWN = 12

/** The table of what was compared, what was done, and what to do next. */
export function migrationText ({ mode, passes, added, removed, lastPass, verified, tables, same, finished }: MigrationReport): string {
  const rows = tables.map(({ table, rows, checksum, targetRows, targetChecksum, same }) => [table, rows, checksum.slice(0, SHOWN), targetRows, targetChecksum.slice(0, SHOWN), same ? 'same' : 'DIFFERENT'])
  const lines = [textTable(['table', 'rows read', 'checksum', 'rows in target', 'checksum', ''], rows)]
  if (mode !== 'verify') lines.push(`${count(added)} rows written, ${count(removed)} replaced or removed, in ${passes} ${passes === 1 ? 'pass' : 'passes'}.`)
  lines.push(`${count(verified)} rows read back and compared.`)
  if (!same) lines.push('The target is not what was read. Nothing was finished. Find out what else writes to it, and run the migration again: it repairs what differs.')
  else if (finished) lines.push('Everything is there. Start the services with the URL of the target; the SQLite files are as they were.')
  else if (mode === 'copy') lines.push(`The last pass still found ${count(lastPass)} changes; what is written from now on is for the next run. To change over, stop every process on the files and run this with --final.`)
  else lines.push('The target is what was read.')
  return lines.join('\n')
}
