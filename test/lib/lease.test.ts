/** One process at a time; who died or stood still for too long loses it. */
import t from 'tap'
import { createLease } from '../../lib/lease.js'
import { fakeLeases } from './sweep-fixture.js'

function setup () {
  const time = { now: 1_000_000 }
  const storage = fakeLeases()
  const make = (holder: string) => createLease({ storage, name: 'job', holder, ttl: 3000, clock: () => time.now })
  return { time, storage, a: make('a'), b: make('b') }
}

t.test('held by one, free after the release', async t => {
  const { a, b } = setup()
  t.ok(await a.acquire(0))
  t.notOk(await b.acquire(0))
  await a.release(false)
  t.ok(await b.acquire(0))
})

t.test('a completed run counts for the others, one that was not completed does not', async t => {
  const { a, b, time } = setup()
  await a.acquire(1000)
  await a.release(false)
  t.ok(await b.acquire(1000))
  await b.release(true)
  time.now += 999
  t.notOk(await a.acquire(1000))
  time.now += 1
  t.ok(await a.acquire(1000))
})

t.test('waitFor asks until it is free, whenever the last run was', async t => {
  const { a, b } = setup()
  t.ok(await a.waitFor(0, () => true))
  const waiting = b.waitFor(10_000, () => true)
  await a.release(true)
  t.ok(await waiting)
})

t.test('waitFor gives up after the wait, or when told to', async t => {
  const { a, b } = setup()
  await a.acquire(0)
  t.notOk(await b.waitFor(100, () => true))
  let asked = 0
  t.notOk(await b.waitFor(60_000, () => ++asked < 2))
  const { storage, a: unasked } = setup()
  t.notOk(await unasked.waitFor(60_000, () => false))
  t.equal(storage.calls, 0, 'it does not ask once more')
})

t.test('keep renews it in time; a lost one is an error', async t => {
  const { a, b, time, storage } = setup()
  await a.acquire(0)
  time.now += 999
  await a.keep()
  t.equal(storage.calls, 1, 'not before a third of its time')
  time.now += 1
  await a.keep()
  t.equal(storage.calls, 2)
  time.now += 2999
  t.notOk(await b.acquire(0), 'still held')
  time.now += 1
  t.ok(await b.acquire(0), 'the holder stood still for too long')
  await t.rejects(a.keep(), { code: 'DOORMAN_CLEANUP_RUNNING' })
})
