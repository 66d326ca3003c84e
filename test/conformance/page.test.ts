/** docs/conformance.md and the tests say the same: all 50 requirements in order, and tests by their exact titles. */
import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import ts from 'typescript'

const page = readFileSync('docs/conformance.md', 'utf8')

/** The requirements a title begins with: `R10, R14: …` and `R17, R19 to R21: …` have several. */
function numbersOf (title: string): number[] {
  const [, head] = /^(R\d+(?:(?:, | to )R\d+)*): \S/.exec(title) ?? []
  return (head ?? '').split(', ').flatMap(part => {
    const [first = NaN, last = first] = [...part.matchAll(/\d+/g)].map(([digits]) => Number(digits))
    return Array.from({ length: last - first + 1 || 0 }, (_, i) => first + i)
  })
}

/** Titles of all tests, wherever they are nested. */
function titlesIn (path: string): string[] {
  const titles: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'test') {
      const [title] = node.arguments
      if (title !== undefined && ts.isStringLiteralLike(title)) titles.push(title.text)
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2023, true))
  return titles
}

const files = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts')).map(name => `test/${name}`)
const titles = files.flatMap(titlesIn).filter(title => /^R\d/.test(title))
const rows = [...page.matchAll(/^\| R(\d+) \| (.*) \|$/gm)].map(([, number, rest]) => {
  const cells = rest!.split(' | ')
  const [requirement = '', source = '', how = '', tests = '', deviation = ''] = cells
  return { number: Number(number), cells: cells.length, requirement, source, how, tests: [...tests.matchAll(/`([^`]+)`/g)].map(([, title]) => title!), deviation }
})

t.test('all requirements are on the page, once each and in order', async t => {
  t.strictSame(rows.map(row => row.number), Array.from({ length: 50 }, (_, i) => i + 1))
})

t.test('each says what it asks, where it comes from, how it is met, and by which tests', async t => {
  const SOURCE = /^(ASVS \d+\.\d+\.\d+ \(L[123]\)(, (ASVS )?\d+\.\d+\.\d+ \(L[123]\))*|(SMCS|CTM|LOG) "[^"]+"(, "[^"]+")*|VOC `\w+`( and others)?|NIST \d(\.\d+)+(, \d(\.\d+)+)*|RFC \d+\w*(, \d+| \(.+\))?|GDPR Art\. .+)$/
  for (const { number, cells, requirement, source, how, tests, deviation } of rows) {
    t.equal(cells, 5, `R${number}: columns`)
    for (const text of [requirement, how, deviation]) t.match(text, /\S{2}/, `R${number}`)
    for (const part of source.split('; ')) t.match(part, SOURCE, `R${number}: ${part}`)
    t.ok(tests.length > 0, `R${number} has a test`)
  }
})

t.test('the tests on the page exist, under the numbers they begin with', async t => {
  for (const { number, tests } of rows) {
    for (const title of tests) {
      t.ok(titles.includes(title), `R${number}: ${title}`)
      t.ok(numbersOf(title).includes(number), `${title} is about R${number}`)
    }
  }
})

t.test('the tests that begin with a number are on the page, under each of their numbers', async t => {
  t.ok(titles.length >= 50)
  t.strictSame(titles.filter((title, i) => titles.indexOf(title) !== i), [], 'each title is there once')
  for (const title of titles) {
    const numbers = numbersOf(title)
    t.ok(numbers.length > 0, `${title}: begins with numbers and a colon`)
    for (const number of numbers) t.ok(rows.find(row => row.number === number)?.tests.includes(title), `R${number}: ${title}`)
  }
})

t.test('each requirement has a sharp test of its own in this folder', async t => {
  const own = files.filter(file => file.startsWith('test/conformance/')).flatMap(titlesIn)
  for (const { number } of rows) t.ok(own.some(title => title.startsWith(`R${number}: `)), `R${number}`)
})

t.test('whatever deviates is justified, and nothing else is', async t => {
  const section = page.slice(page.indexOf('\n## Deviations\n'))
  const justified = [...section.matchAll(/^- \*\*(R\d+(?:, R\d+)*)\*\*: \S.{20}/gm)].flatMap(([, numbers]) => numbers!.split(', ').map(number => Number(number.slice(1))))
  t.strictSame(justified.sort((a, b) => a - b), rows.filter(row => row.deviation !== 'none').map(row => row.number))
})
