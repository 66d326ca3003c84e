/** Blocked addresses, and the counters by which other processes notice a change. */
import type { BlockRecord } from '../storage.js'
import type { Pool, Statement } from './pool-types.js'

/** In the statement of the change: who sees the number sees the change. */
const COUNTED = 'UPDATE doorman_counters SET value = value + 1 WHERE name = \'blocks\' AND EXISTS (SELECT FROM changed)'
const ADD: Statement = {
  name: 'doorman_add_block',
  text: `WITH changed AS (INSERT INTO ip_blocks (id, cidr, until, reason, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id) ${COUNTED}`
}
const ADDED: Statement = { name: 'doorman_block_added', text: 'SELECT FROM ip_blocks WHERE id = $1 AND cidr = $2 AND created_at = $3' }
const REMOVE: Statement = {
  name: 'doorman_remove_block',
  text: `WITH changed AS (DELETE FROM ip_blocks WHERE id = $1 RETURNING id), announced AS (${COUNTED}) SELECT FROM changed`
}
const LIST: Statement = {
  name: 'doorman_list_blocks',
  text: 'SELECT id, cidr, until, reason, created_at AS "createdAt" FROM ip_blocks WHERE until IS NULL OR until > $1 ORDER BY created_at, id'
}
const COUNTER: Statement = { name: 'doorman_counter', text: 'SELECT sum(value)::bigint AS value FROM doorman_counters WHERE name = $1' }

export async function listBlocks (pool: Pool, now: number): Promise<BlockRecord[]> {
  return (await pool.run({ lane: 'interactive', readOnly: true }, client => client.query<BlockRecord>(LIST, [now]))).rows
}

export function addBlock (pool: Pool, { id, cidr, until, reason, createdAt }: BlockRecord): Promise<void> {
  return pool.run({ lane: 'interactive', rows: 1 }, async (client, attempt) => {
    if (attempt.uncertain && (await client.query(ADDED, [id, cidr, createdAt])).rowCount === 1) return
    await client.query(ADD, [id, cidr, until, reason, createdAt])
  })
}

/** Where an answer was lost and the block is gone now, this one has removed it, or wanted to. */
export function removeBlock (pool: Pool, id: string): Promise<boolean> {
  return pool.run({ lane: 'interactive', rows: 1 }, async (client, attempt) => (await client.query(REMOVE, [id])).rowCount === 1 || attempt.uncertain)
}

/** @param wait how long it may take, ms */
export async function changeCounter (pool: Pool, name: 'blocks' | 'sessions', wait: number): Promise<number> {
  const { rows } = await pool.run({ lane: 'interactive', uncounted: true, readOnly: true, wait }, client => client.query<{ value: number }>(COUNTER, [name]))
  return rows[0]!.value
}
