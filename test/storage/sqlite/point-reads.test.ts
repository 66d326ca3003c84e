/** Point reads on the main thread never wait: a lock sends them to the reader thread. */
import t from 'tap'
import { readHereOrThere } from '../../../storage/sqlite/point-reads.js'

const failing = (code: string) => () => { throw Object.assign(new Error('x'), { code }) }

t.test('here, there, or a clear error', async t => {
  t.equal(readHereOrThere(() => 1, async () => 2), 1)
  t.equal(await readHereOrThere(failing('SQLITE_BUSY_RECOVERY'), async () => 2), 2)
  t.throws(() => readHereOrThere(failing('SQLITE_IOERR_READ'), async () => 2), { code: 'DOORMAN_STORAGE_IO' })
})
