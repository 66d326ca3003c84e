/** The environment of the standalone API: defaults, what is read, what is refused. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { formatDuration } from '../lib/duration.js'
import { isLoopback, loadConfig, variables } from '../config.js'

const KEY = 'k'.repeat(32)
const load = (env: Record<string, string>) => loadConfig(env, { file: null })
const refused = (t: Test, env: Record<string, string>, message: RegExp) => {
  t.throws(() => load(env), { code: 'DOORMAN_CONFIG_INVALID', message }, JSON.stringify(env))
}

t.test('without any variable every field has its default', async t => {
  t.strictSame(load({}), {
    host: '127.0.0.1',
    port: 3000,
    logLevel: 'info',
    databaseUrl: 'file:./data/doorman.db',
    apiKeys: [],
    trustProxy: false,
    cookieSecure: 'auto',
    sessionPreset: null,
    sessionIdleTimeout: 86_400_000,
    sessionAbsoluteTimeout: 30 * 86_400_000,
    sessionMaxPerUser: null,
    sessionLimitPolicy: 'evict-oldest',
    sessionClientChange: 'flag',
    sessionRevokeFreshness: 900_000,
    abuseBlock: null,
    abuseAllow: [],
    ipLogRetention: 30 * 86_400_000,
    ipTruncateAfter: null,
    activityRetention: 7 * 86_400_000,
    deviceRetention: 180 * 86_400_000,
    cleanupInterval: 3_600_000,
    ipAnonymization: 'none',
    ipLogDurability: 'queued',
    busyTimeout: 30_000,
    closeTimeout: 10_000,
    warnings: []
  })
})

t.test('the result is frozen, lists included', async t => {
  const config = load({ API_KEYS: KEY, TRUST_PROXY: 'loopback' })
  t.ok(Object.isFrozen(config))
  t.ok(Object.isFrozen(config.apiKeys))
  t.ok(Object.isFrozen(config.trustProxy))
  t.ok(Object.isFrozen(config.warnings))
})

t.test('the process\'s own environment is the default', async t => {
  t.intercept(process, 'env', { value: { PORT: '4001' } })
  t.equal(loadConfig(undefined, { file: null }).port, 4001)
})

t.test('good values', async t => {
  const cases: [string, string, string, unknown][] = [
    ['HOST', '::1', 'host', '::1'],
    ['HOST', 'localhost', 'host', 'localhost'],
    ['PORT', '0', 'port', 0],
    ['PORT', ' 65535 ', 'port', 65535],
    ['PORT', '', 'port', 3000],
    ['LOG_LEVEL', 'silent', 'logLevel', 'silent'],
    ['DATABASE_URL', 'file:/var/lib/doorman.db', 'databaseUrl', 'file:/var/lib/doorman.db'],
    ['DATABASE_URL', 'postgres://me:hunter2@one:5432,two/doorman?sslmode=require', 'databaseUrl', 'postgres://me:hunter2@one:5432,two/doorman?sslmode=require'],
    ['DATABASE_URL', 'postgresql:///doorman', 'databaseUrl', 'postgresql:///doorman'],
    ['TRUST_PROXY', 'off', 'trustProxy', false],
    ['COOKIE_SECURE', 'true', 'cookieSecure', true],
    ['COOKIE_SECURE', 'false', 'cookieSecure', false],
    ['SESSION_IDLE_TIMEOUT', '15m', 'sessionIdleTimeout', 900_000],
    ['SESSION_ABSOLUTE_TIMEOUT', '48h', 'sessionAbsoluteTimeout', 172_800_000],
    ['SESSION_MAX_PER_USER', '5', 'sessionMaxPerUser', 5],
    ['SESSION_MAX_PER_USER', 'unlimited', 'sessionMaxPerUser', null],
    ['SESSION_LIMIT_POLICY', 'reject', 'sessionLimitPolicy', 'reject'],
    ['SESSION_CLIENT_CHANGE', 'revoke', 'sessionClientChange', 'revoke'],
    ['SESSION_REVOKE_FRESHNESS', '1h', 'sessionRevokeFreshness', 3_600_000],
    ['SESSION_REVOKE_FRESHNESS', 'off', 'sessionRevokeFreshness', null],
    ['SESSION_PRESET', 'aal2', 'sessionPreset', 'aal2'],
    ['SESSION_PRESET', 'none', 'sessionPreset', null],
    ['ABUSE_BLOCK', 'off', 'abuseBlock', null],
    ['ABUSE_BLOCK', '15m', 'abuseBlock', 900_000],
    ['ABUSE_ALLOW', '192.0.2.7, 2001:db8::/32,', 'abuseAllow', ['192.0.2.7', '2001:db8::/32']],
    ['IP_TRUNCATE_AFTER', '7d', 'ipTruncateAfter', 7 * 86_400_000],
    ['IP_TRUNCATE_AFTER', 'off', 'ipTruncateAfter', null],
    ['IP_LOG_RETENTION', '90d', 'ipLogRetention', 90 * 86_400_000],
    ['ACTIVITY_RETENTION', '1d', 'activityRetention', 86_400_000],
    ['DEVICE_RETENTION', '365d', 'deviceRetention', 365 * 86_400_000],
    ['CLEANUP_INTERVAL', '10m', 'cleanupInterval', 600_000],
    ['IP_ANONYMIZATION', 'hash', 'ipAnonymization', 'hash'],
    ['IP_LOG_DURABILITY', 'committed', 'ipLogDurability', 'committed'],
    ['BUSY_TIMEOUT', '500ms', 'busyTimeout', 500],
    ['CLOSE_TIMEOUT', '1m', 'closeTimeout', 60_000]
  ]
  for (const [name, text, field, value] of cases) t.same(load({ [name]: text })[field as 'host'], value, `${name}=${text}`)
})

t.test('wrong values name the variable, what was expected and what came', async t => {
  refused(t, { HOST: '[::1]:80' }, /^HOST must be a host name or an address without brackets and port; got "\[::1\]:80"$/)
  refused(t, { PORT: '80x' }, /^PORT must be an integer from 0 to 65535; got "80x"$/)
  refused(t, { PORT: '65536' }, /^PORT /)
  refused(t, { PORT: '-1' }, /^PORT /)
  refused(t, { LOG_LEVEL: 'verbose' }, /^LOG_LEVEL must be one of fatal, error, warn, info, debug, trace, silent; got "verbose"$/)
  refused(t, { DATABASE_URL: './data/doorman.db' }, /^DATABASE_URL must be a file URL such as file:\.\/data\/doorman\.db, or postgres:.*; got /)
  for (const url of ['file:x.db?mode=ro', 'file:', 'file::memory:', 'file:./data/']) refused(t, { DATABASE_URL: url }, /^DATABASE_URL /)
  refused(t, { COOKIE_SECURE: 'yes' }, /^COOKIE_SECURE must be one of auto, true, false; got "yes"$/)
  refused(t, { SESSION_PRESET: 'AAL2' }, /^SESSION_PRESET must be none, or one of aal1, aal2, aal3; got "AAL2"$/)
  refused(t, { SESSION_IDLE_TIMEOUT: '24' }, /^SESSION_IDLE_TIMEOUT must be a duration with its unit, such as .* of at least 1s and at most 400d; got "24"$/)
  refused(t, { SESSION_ABSOLUTE_TIMEOUT: '0s' }, /^SESSION_ABSOLUTE_TIMEOUT /)
  refused(t, { SESSION_MAX_PER_USER: '0' }, /^SESSION_MAX_PER_USER must be unlimited, or an integer from 1 to 100000; got "0"$/)
  refused(t, { SESSION_LIMIT_POLICY: 'evict' }, /^SESSION_LIMIT_POLICY must be one of evict-oldest, evict-idle, reject; got "evict"$/)
  refused(t, { SESSION_CLIENT_CHANGE: 'on' }, /^SESSION_CLIENT_CHANGE must be one of off, flag, revoke; got "on"$/)
  refused(t, { SESSION_REVOKE_FRESHNESS: 'on' }, /^SESSION_REVOKE_FRESHNESS must be off, or a duration /)
  refused(t, { ABUSE_BLOCK: '30s' }, /^ABUSE_BLOCK must be off, or a duration .* of at least 1m and at most 1d; got "30s"$/)
  refused(t, { ABUSE_ALLOW: '192.0.2.7, office' }, /^ABUSE_ALLOW must be a comma-separated list of addresses and CIDRs; got "office"$/)
  refused(t, { IP_LOG_RETENTION: '30 days' }, /^IP_LOG_RETENTION /)
  refused(t, { IP_TRUNCATE_AFTER: '10m' }, /^IP_TRUNCATE_AFTER must be off, or a duration .* of at least 1h/)
  refused(t, { IP_TRUNCATE_AFTER: '30d' }, /^IP_TRUNCATE_AFTER must be shorter than IP_LOG_RETENTION \(30d\); got 30d/)
  refused(t, { ACTIVITY_RETENTION: '1ms' }, /^ACTIVITY_RETENTION /)
  refused(t, { CLEANUP_INTERVAL: '8d' }, /^CLEANUP_INTERVAL .* at most 7d; got "8d"$/)
  refused(t, { IP_ANONYMIZATION: 'Hash' }, /^IP_ANONYMIZATION must be one of none, truncate, hash; got "Hash"$/)
  refused(t, { IP_LOG_DURABILITY: 'sync' }, /^IP_LOG_DURABILITY must be one of queued, committed; got "sync"$/)
  refused(t, { BUSY_TIMEOUT: '30' }, /^BUSY_TIMEOUT /)
  refused(t, { CLOSE_TIMEOUT: '1h' }, /^CLOSE_TIMEOUT /)
})

t.test('the absolute timeout is at least the idle timeout', async t => {
  refused(t, { SESSION_ABSOLUTE_TIMEOUT: '12h' }, /^SESSION_ABSOLUTE_TIMEOUT must be at least SESSION_IDLE_TIMEOUT \(1d\); got 12h$/)
})

t.test('R16: SESSION_PRESET gives timeouts what is not set, and refuses what goes beyond', async t => {
  const timeouts = (env: Record<string, string>) => {
    const { sessionAbsoluteTimeout, sessionIdleTimeout, sessionRevokeFreshness } = load(env)
    return [sessionAbsoluteTimeout, sessionIdleTimeout, sessionRevokeFreshness].map(ms => ms === null ? 'off' : formatDuration(ms))
  }
  t.strictSame(timeouts({ SESSION_PRESET: 'aal1' }), ['30d', '1d', '15m'])
  t.strictSame(timeouts({ SESSION_PRESET: 'aal2', SESSION_IDLE_TIMEOUT: ' ' }), ['1d', '1h', '15m'])
  t.strictSame(timeouts({ SESSION_PRESET: 'aal3' }), ['12h', '15m', '5m'])
  t.strictSame(timeouts({ SESSION_PRESET: 'aal3', SESSION_IDLE_TIMEOUT: '5m', SESSION_ABSOLUTE_TIMEOUT: '8h', SESSION_REVOKE_FRESHNESS: 'off' }), ['8h', '5m', 'off'])
  refused(t, { SESSION_PRESET: 'aal2', SESSION_IDLE_TIMEOUT: '24h' }, /^SESSION_IDLE_TIMEOUT must be at most 1h with SESSION_PRESET=aal2, or left out; got 1d$/)
  refused(t, { SESSION_PRESET: 'aal3', SESSION_ABSOLUTE_TIMEOUT: '1d' }, /^SESSION_ABSOLUTE_TIMEOUT must be at most 12h with SESSION_PRESET=aal3, or left out; got 1d$/)
  refused(t, { SESSION_PRESET: 'aal2', SESSION_ABSOLUTE_TIMEOUT: '30m' }, /^SESSION_ABSOLUTE_TIMEOUT must be at least SESSION_IDLE_TIMEOUT \(1h\); got 30m$/)
})

t.test('the password of a database URL is not repeated', async t => {
  refused(t, { DATABASE_URL: 'mysql://me:hunter2@host/db' }, /got "mysql:\/\/\*\*\*@host\/db"$/)
  refused(t, { DATABASE_URL: 'mysql://me:hunt@er/2@host/db' }, /got "mysql:\/\/\*\*\*@host\/db"$/)
})

t.test('TRUST_PROXY', async t => {
  t.strictSame(load({ TRUST_PROXY: 'loopback, 10.0.0.0/8,192.0.2.7,2001:db8::/32,uniquelocal,linklocal,::1' }).trustProxy,
    ['loopback', '10.0.0.0/8', '192.0.2.7', '2001:db8::/32', 'uniquelocal', 'linklocal', '::1'])
  refused(t, { TRUST_PROXY: '1' }, /^TRUST_PROXY must be off, or a comma-separated list .*Fastify ignores one since 5\.12\.1.*; got "1"$/)
  refused(t, { TRUST_PROXY: 'true' }, /left-most X-Forwarded-For entry.*; got "true"$/)
  refused(t, { TRUST_PROXY: '0.0.0.0/0' }, /a network of everybody.*; got "0\.0\.0\.0\/0"$/)
  refused(t, { TRUST_PROXY: 'loopback,::/0' }, /a network of everybody.*; got "::\/0"$/)
  for (const entry of ['localnet', '10.0.0.0/33', '::1/129', '10.0.0.0/8/8', '10.0.0.0/x', '10.0.0', 'loopback,', '']) {
    if (entry !== '') refused(t, { TRUST_PROXY: entry }, /^TRUST_PROXY must be .*; got ".*"$/)
  }
})

t.test('API_KEYS: checked without ever being shown', async t => {
  t.strictSame(load({ API_KEYS: `${KEY}, ${KEY}x,,${KEY}` }).apiKeys, [KEY, `${KEY}x`], 'trimmed, without doubles')
  refused(t, { API_KEYS: `${KEY},secret` }, /^API_KEYS must be a comma-separated list of keys of at least 32 visible ASCII characters each; got 6 characters as key 2$/)
  refused(t, { API_KEYS: `${KEY}ü` }, /got other characters in key 1$/)
})

t.test('without keys only a loopback address may be listened on', async t => {
  refused(t, { HOST: '0.0.0.0' }, /^API_KEYS must be set when HOST is not a loopback address \(it is "0\.0\.0\.0"\).*; got none$/)
  t.equal(load({ HOST: '0.0.0.0', API_KEYS: KEY }).host, '0.0.0.0')
  t.ok(['localhost', '::1', '127.0.0.1', '127.8.8.8'].every(isLoopback))
  t.notOk(['::', '0.0.0.0', '128.0.0.1', '127.example.org'].some(isLoopback))
})

t.test('the .env file is read, and the environment wins', async t => {
  const dir = t.testdir({ '.env': 'PORT=4000\nLOG_LEVEL="warn" # quiet\n' })
  const config = loadConfig({ PORT: '5000' }, { file: join(dir, '.env') })
  t.equal(config.port, 5000)
  t.equal(config.logLevel, 'warn')
  for (const empty of ['', '  ']) t.equal(loadConfig({ PORT: empty }, { file: join(dir, '.env') }).port, 4000, 'an empty variable hides nothing')
  t.equal(loadConfig({}, { file: join(dir, 'none') }).port, 3000, 'a missing file is no error')
  mkdirSync(join(dir, 'folder'))
  t.throws(() => loadConfig({}, { file: join(dir, 'folder') }), { code: 'DOORMAN_CONFIG_INVALID', message: /folder must be a file that can be read; got EISDIR$/ })
})

t.test('names that look misspelt are pointed out', async t => {
  t.strictSame(load({ SESSION_IDLE_TIMEOUTS: '1h', IP_LOG_RETENTON: '1d', SESSION_MANAGER: 'x', SHELL: 'sh', HOSTS: 'a' }).warnings, [
    'SESSION_IDLE_TIMEOUTS is not a variable of fastify-doorman; did you mean SESSION_IDLE_TIMEOUT?',
    'IP_LOG_RETENTON is not a variable of fastify-doorman; did you mean IP_LOG_RETENTION?'
  ])
  const dir = t.testdir({ '.env': 'APIKEYS=x\nUNRELATED=y\n' })
  t.strictSame(loadConfig({}, { file: join(dir, '.env') }).warnings, ['APIKEYS is not a variable of fastify-doorman; did you mean API_KEYS?'])
})

t.test('.env.example lists every variable with its default', async t => {
  const expected = Object.values(variables).map(({ name, fallback, description }) =>
    `${wrap(description.replaceAll('`', '')).map(line => `# ${line}\n`).join('')}${name}=${fallback}\n`)
  t.equal(readFileSync('.env.example', 'utf8'),
    ['# Copy to .env and change what you need. Every line shows the default.\n', ...expected].join('\n'))
  t.strictSame(loadConfig({}, { file: '.env.example' }), load({}))
})

t.test('docs/configuration.md has the same table', async t => {
  const rows = Object.values(variables).map(({ name, fallback, description }) =>
    `| \`${name}\` | ${fallback === '' ? 'none' : `\`${fallback}\``} | ${description} |`)
  const page = readFileSync('docs/configuration.md', 'utf8')
  t.ok(page.includes(['| Variable | Default | What it does |', '| --- | --- | --- |', ...rows, ''].join('\n')))
})

function wrap (text: string): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line.length + word.length > 100) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines
}
