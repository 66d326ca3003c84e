/** PostgreSQL keeps the contract. */
import t from 'tap'
import { openStorage } from '../../../storage/open.js'
import { recordingLogger } from '../../helper.js'
import { freshDatabase } from '../../postgres/database.js'
import { storageContract } from '../contract.js'

storageContract(t, async t => {
  const storage = await openStorage({ url: await freshDatabase(), logUrl: null, busyTimeout: 5000, maxPending: 1000, log: recordingLogger() })
  t.teardown(() => storage.close(1000))
  return storage
})
