/** docs/privacy.md against the schema: every column of every table is either in the inventory or said to be about nobody. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { newDatabase, openTestStorage } from '../engine.js'

t.test('every column is in docs/privacy.md, and no other', async t => {
  const database = await newDatabase(t)
  await openTestStorage(t, database.url)
  const columns: string[] = []
  for (const part of ['main', 'log'] as const) {
    const rows = await database.look<{ name: string }>(`SELECT s.name || '.' || c.name AS name FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
      WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite_%'`, part)
    columns.push(...rows.map(({ name }) => name))
  }
  const page = readFileSync('docs/privacy.md', 'utf8')
  const inventory = page.slice(page.indexOf('## Inventory'), page.indexOf('## Modes'))
  const listed = [...inventory.matchAll(/`(\w+\.\w+)`/g)].map(([, name]) => name!)
  t.strictSame([...new Set(listed)].sort(), [...new Set(columns)].sort())
  t.equal(new Set(listed).size, listed.length, 'each once')
})
