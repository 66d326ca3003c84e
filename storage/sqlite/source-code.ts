/**
 * Where an address came from, as the log file has it: the source in the low three bits of `ip_source`, above them the trusted hops. So the hops need no
 * column, and rows of before there were any read as 0.
 */
import { IP_SOURCES, type IpSource } from '../../lib/vocabulary.js'
import { MAX_TRUSTED_HOPS, type IpLogRow } from '../storage.js'

const SOURCE_BITS = 3
const SOURCE_MASK = 2 ** SOURCE_BITS - 1

export const isHops = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= MAX_TRUSTED_HOPS

/** The number that is stored. Of hops that are none it is NaN, which arrives as NULL, and the table refuses it. */
export function encodeSource ({ ipSource, trustedHops }: Pick<IpLogRow, 'ipSource' | 'trustedHops'>): number {
  return isHops(trustedHops) ? (IP_SOURCES.indexOf(ipSource) & SOURCE_MASK) | (trustedHops << SOURCE_BITS) : NaN
}

export const sourceOf = (code: number): IpSource => IP_SOURCES[code & SOURCE_MASK]!
export const hopsOf = (code: number): number => code >> SOURCE_BITS

/** SQL for either, of a column. */
export const sourceSql = (column: string) => `(${column} & ${SOURCE_MASK})`
export const hopsSql = (column: string) => `(${column} >> ${SOURCE_BITS})`
