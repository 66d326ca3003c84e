/** Rows that are past the age of full addresses already when they are stored: the cleanup looks for those that came of age since its last run. */
import type { LogRow } from '../storage/storage.js'
import { truncateAddress } from './anonymizer.js'

const truncated = (address: string | null) => address === null ? null : truncateAddress(address)

/** The rows, those from before `before` without the host of their addresses and without ports. The rows given stay as they are. */
export function truncateOld (rows: readonly LogRow[], before: number): LogRow[] {
  return rows.map(row => {
    if (row.at >= before) return row
    return row.kind === 'activity' ? { ...row, ip: truncated(row.ip) } : { ...row, ip: truncated(row.ip), peerIp: truncated(row.peerIp), peerPort: null }
  })
}
