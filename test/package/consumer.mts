/** A program that uses the package as published: checked against the emitted declarations, with those of its dependencies. Never run. */
import Fastify from 'fastify'
import { database, describeEnd, doorman, errorCatalogue, frameworkErrors, isDoormanError, sessions, type AbuseEvent, type DoormanErrorCode, type SessionView, type Validation } from 'fastify-doorman'
import { buildApp, loadConfig, type Access, type Config, type DoormanOptions } from 'fastify-doorman/app'

const app = Fastify({ frameworkErrors })
await app.register(doorman, { database: { url: 'file:./app.db', busyTimeout: '10s' }, sessions: { maxPerUser: 5, preset: 'aal2', trustedOrigins: ['https://app.example'], cookie: { clearSiteData: ['cache'] } }, abuse: { block: { for: '30m' } }, metrics: false })
// @ts-expect-error a part that does not exist
await app.register(doorman, { databse: {} })
// @ts-expect-error a value of the wrong type
await app.register(sessions, { maxPerUser: 'five' })
await app.register(database, { url: 'file:./other.db' })

app.get('/me', { config: { session: { fresh: '15m' }, ipTracking: { durability: 'committed' } } }, request => {
  const session: SessionView | null = request.session
  request.recordActivity('looked', { at: request.clientAddress })
  return session?.data ?? null
})
app.post('/login', async (request, reply) => {
  const client = { ip: request.clientAddress, userAgent: request.headers['user-agent'] }
  const { token, session } = await app.sessions.create({ userId: 'ada', ...client })
  app.setSessionCookie(reply, token, session)
  const validation: Validation = await app.sessions.validate(token)
  return validation.valid ? validation.session.id : validation.reason
})
app.get('/events', { config: { session: 'required', crossSite: 'allow' } }, (request, reply) => {
  const stop: () => void = request.onSessionEnd(({ reason, at }) => { request.log.info({ at }, describeEnd(reason)) })
  reply.hijack()
  reply.endWithSession()
  reply.raw.once('close', stop)
})
app.get('/why', request => request.sessionEnd?.reason ?? null)
app.abuse.on('*', (event: AbuseEvent) => app.log.warn(event))
app.get('/find', { config: { abuse: false } }, () => app.abuse.stats().signals.malicious_excess_404)
// @ts-expect-error a signal that does not exist
app.abuse.on('excess_404', () => {})
app.ipTracking.onRequestEnd((status, duration, request) => app.log.info({ status, duration, from: request.clientAddress }))
app.addHook('onRequest', app.requireSession)
const rows = await app.ipTracking.list({ status: 404 }, { limit: 10 })
const run = await app.cleanup.run({ dryRun: true })
const code: DoormanErrorCode = 'DOORMAN_STORAGE_BUSY'
const config: Config = loadConfig()
const api = await buildApp(config)
const access: Access = 'session'
const parts: DoormanOptions = { cleanup: false }
api.get('/mine', { config: { access } }, request => request.session?.userId)
// @ts-expect-error nobody in particular
api.get('/theirs', { config: { access: 'everybody' } }, () => parts)
export default [rows.items[0]?.ip, run?.removed.ipLogs, errorCatalogue[code][0], isDoormanError(null), api.database.health().status]
