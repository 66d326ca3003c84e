/** Addresses as stored in the log: IPv4 as a signed 32-bit integer, anything else (IPv6, anonymised forms) as text. */
import { isIPv4 } from 'node:net'

export function encodeAddress (address: string | null): string | bigint | null {
  if (address === null || !isIPv4(address)) return address
  const [a, b, c, d] = address.split('.') as [string, string, string, string]
  // Signed, because SQLite needs six bytes for an unsigned one above 2^31; a bigint, because the driver binds numbers as REAL, which
  // a column of type ANY keeps as it is.
  return BigInt((Number(a) << 24) | (Number(b) << 16) | (Number(c) << 8) | Number(d))
}
