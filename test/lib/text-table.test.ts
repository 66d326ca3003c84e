/** Tables of text. */
import t from 'tap'
import { textTable } from '../../lib/text-table.js'

t.test('columns are aligned: text to the left, numbers to the right', async t => {
  t.equal(textTable(['name', 'rows'], [['a', 5], ['longer', 1234]]), 'name    rows\na          5\nlonger  1234')
  t.equal(textTable(['name', 'rows'], []), 'name  rows')
})

t.test('what is missing is a dash', async t => {
  t.equal(textTable(['a', 'b'], [[null, 'x']]), 'a  b\n-  x')
})

t.test('nothing in a cell steers the terminal', async t => {
  t.equal(textTable(['path'], [['/\u001b[2J\r\n\u202etxt']]), 'path\n/\ufffd[2J\ufffd\ufffd\ufffdtxt')
})
