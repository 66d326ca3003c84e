/** Access logs in the combined format: one from a file, or one made up that looks like a small site's. */
import { readFileSync } from 'node:fs'

const LINE = /^(\S+) \S+ \S+ \[[^\]]*\] "(\S+) (\S+) [^"]*" (\d{3}) \S+(?: "([^"]*)" "([^"]*)")?/

/** @returns {{ requests: { ip: string, method: string, path: string, referer: string, agent: string }[], bytes: number, name: string, skipped: number }} */
export function readLog (file) {
  const text = readFileSync(file, 'utf8')
  return { ...parse(text), name: file.split('/').at(-1) }
}

function parse (text) {
  const requests = []
  let bytes = 0
  let skipped = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [found, ip, method, path, , referer = '-', agent = '-'] = LINE.exec(line) ?? []
    // A line that is no HTTP request is neither sent nor counted.
    if (found === undefined || !path.startsWith('/')) {
      skipped++
      continue
    }
    requests.push({ ip, method, path, referer, agent })
    bytes += Buffer.byteLength(line) + 1
  }
  return { requests, bytes, skipped }
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function generator (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Some visitors and pages are frequent, most are rare, as in real logs. */
export function madeUpLog (lines) {
  const random = generator(20_151_123)
  const often = number => Math.floor(number * random() ** 3)
  const at = new Date(Date.UTC(2026, 10, 1))
  const text = Array.from({ length: lines }, () => {
    const visitor = often(1800)
    const path = random() < 0.6 ? `/assets/${['images', 'styles', 'scripts'][visitor % 3]}/${often(300)}.${['png', 'css', 'js'][visitor % 3]}` : `/articles/${2010 + often(16)}/an-article-about-topic-${often(900)}`
    const agent = `Mozilla/5.0 (${['Windows NT 10.0; Win64; x64', 'X11; Linux x86_64', 'Macintosh; Intel Mac OS X 10_15_7'][visitor % 3]}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${100 + visitor % 45}.0.0.0 Safari/537.36`
    const ip = `${20 + visitor % 180}.${visitor % 251}.${visitor % 241}.${visitor % 239}`
    const referer = random() < 0.4 ? '-' : `https://site-${often(60)}.example/page-${often(500)}`
    at.setSeconds(at.getSeconds() + often(60))
    return `${ip} - - [${at.toISOString()}] "GET ${path} HTTP/1.1" 200 ${often(90_000)} "${referer}" "${agent}"`
  }).join('\n')
  return { ...parse(text), name: 'a log made up by the benchmark' }
}
