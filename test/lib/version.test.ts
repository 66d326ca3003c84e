/** The version that is told. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { VERSION } from '../../lib/version.js'

t.test('the version is that of package.json', async t => {
  t.equal(VERSION, JSON.parse(readFileSync('package.json', 'utf8')).version)
})
