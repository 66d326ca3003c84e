/** Rows arrive in the writer as they were, in their order, whatever is in them. */
import fc from 'fast-check'
import t from 'tap'
import { countRows, packRows, textsOf, unpackRows } from '../../../storage/sqlite/log-wire.js'
import type { LogRow } from '../../../storage/storage.js'
import { IP_LOG_OUTCOMES, IP_SOURCES } from '../../../lib/vocabulary.js'
import { activityRow, ipRow } from '../contract.js'

const cross = (rows: LogRow[]) => unpackRows(structuredClone(packRows(rows)))

t.test('any rows', async t => {
  const text = fc.option(fc.string(), { nil: null })
  const request = fc.record({
    kind: fc.constant('ip' as const),
    at: fc.maxSafeInteger(),
    ip: text,
    ipSource: fc.constantFrom(...IP_SOURCES),
    peerIp: text,
    peerPort: fc.option(fc.nat(65535), { nil: null }),
    trustedHops: fc.nat(255),
    method: fc.string(),
    path: fc.constantFrom('/', '/a', '/b'),
    route: text,
    status: fc.nat(999),
    durationUs: fc.nat(),
    userAgent: text,
    referer: text,
    sessionId: text,
    userId: text,
    requestId: text,
    outcome: fc.constantFrom(...IP_LOG_OUTCOMES)
  })
  const reported = fc.tuple(request, fc.string()).map(([row, idempotencyKey]) => ({ ...row, idempotencyKey }))
  const activity = fc.record({ kind: fc.constant('activity' as const), at: fc.maxSafeInteger(), userId: fc.string(), sessionId: text, action: fc.string(), ip: text, detail: text })
  fc.assert(fc.property(fc.array(fc.oneof({ weight: 3, arbitrary: request }, reported, activity)), rows => {
    t.same(cross(rows), rows)
    t.equal(countRows(packRows(rows)), rows.length)
  }))
})

t.test('rows that are not what they should be reach the database as they are, which refuses them', async t => {
  const wrong = [ipRow({ at: 1.5 }), ipRow({ status: NaN }), ipRow({ durationUs: 'long' as never }), ipRow({ peerPort: -1 }), ipRow({ trustedHops: 256 }), ipRow({ path: null as never }), ipRow({ method: 5 as never })]
  t.same(cross([activityRow(), ...wrong, ipRow()]), [activityRow(), ...wrong, ipRow()])
})

t.test('a text that many rows share crosses once', async t => {
  const packed = packRows(Array.from({ length: 100 }, (_, i) => ipRow({ requestId: `req-${i}` })))
  t.type(packed.texts, 'string')
  t.ok(textsOf(packed).length < 110, `${textsOf(packed).length}`)
})
