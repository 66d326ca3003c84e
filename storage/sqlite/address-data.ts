/** What is held with an address: told, erased, or truncated at an age. Finds in the reader thread, changes in the writer, in steps that keep nobody waiting. */
import { AddressTiers, eraseHolders, findHolders, holders, type AddressScan, type ScanPosition } from '../address-scan.js'
import type { AddressErased, AddressExport, DeadLetter, IpLogFilter, Page, PageParams, SessionRecord, StoredActivity, StoredIpLog, SweepParams, AddressTarget } from '../storage.js'
import { passFile } from './address-scan.js'
import { findRequests, type Run } from './user-data.js'
import { operationName } from './write-operations.js'

export interface AddressDataOptions {
  /** Asks the reader thread. */
  read: Run
  /** Asks the second reader, for what may take long. */
  inspect: Run
  /** Asks the writer thread. */
  write: Run
  listIpLogs (filter: IpLogFilter, page: PageParams): Promise<Page<StoredIpLog>>
}

export class AddressData {
  #options: AddressDataOptions
  #scan: AddressScan<ScanPosition>
  #tiers: AddressTiers<ScanPosition>

  constructor (options: AddressDataOptions) {
    const { read, write } = this.#options = options
    this.#scan = {
      look: params => read('lookForAddresses', params),
      truncate: (pass, rows, before) => write(operationName('truncateAddresses', passFile(pass)), { pass, rows, before }),
      erase: (pass, rows, address) => write(operationName('eraseAddresses', passFile(pass)), { pass, rows, address }),
      marker: pass => read('addressMarker', { pass }),
      setMarker: (pass, at) => write(operationName('setAddressMarker', passFile(pass)), { pass, at })
    }
    this.#tiers = new AddressTiers(this.#scan)
  }

  sweep (target: AddressTarget, params: SweepParams): Promise<number> {
    return this.#tiers.sweep(target, params)
  }

  async export (ip: string, limit: number): Promise<AddressExport> {
    const { read, listIpLogs } = this.#options
    const at = async <T> (name: string, pass: 'sessionsByCreation' | 'activity' | 'deadLetters') => read<T[]>(name, await findHolders(this.#scan, pass, ip, limit))
    const [sessions, activity, deadLetters, ipLogs] = [
      await at<SessionRecord>('sessionsAt', 'sessionsByCreation'), await at<StoredActivity>('activityAt', 'activity'), await at<DeadLetter>('deadLettersAt', 'deadLetters'),
      await listIpLogs({ ip }, { limit })
    ]
    let relayed = 0
    for await (const rows of holders(this.#scan, 'ipLogs', ip)) relayed += rows.length
    const truncated = ipLogs.next !== null || [sessions, activity, deadLetters].some(({ length }) => length === limit)
    return { sessions, activity, ipLogs: ipLogs.items, deadLetters, relayed, truncated }
  }

  async erase (ip: string): Promise<AddressErased> {
    const erase = (pass: 'sessionsByCreation' | 'activity' | 'deadLetters' | 'ipLogs') => eraseHolders(this.#scan, pass, ip)
    const sessions = await erase('sessionsByCreation')
    const ipLogs = await this.#eraseRequests(ip)
    return { sessions, ipLogs, relayed: await erase('ipLogs'), activity: await erase('activity'), deadLetters: await erase('deadLetters') }
  }

  async #eraseRequests (address: string): Promise<number> {
    const { inspect, write } = this.#options
    let erased = 0
    for (;;) {
      const ids = await findRequests(inspect, { address })
      erased += await write<number>('eraseRequestsLog', { address, ids })
      if (ids.length === 0) return erased
    }
  }
}
