/** A program that imports the standalone API alone: with it come the types of what the plugins add to Fastify's own. Never run. */
import { buildApp, loadConfig, type Access, type DoormanOptions } from 'fastify-doorman/app'

const app = await buildApp(loadConfig())
const access: Access = 'session'
app.get('/mine', { config: { access, session: { fresh: '15m' }, ipTracking: { durability: 'committed' } } }, request => {
  request.recordActivity('looked', { at: request.clientAddress })
  return [request.session?.userId, app.ipTracking.stats().open]
})
// @ts-expect-error nobody in particular
app.get('/theirs', { config: { access: 'everybody' } }, () => null)
export const parts: DoormanOptions = { cleanup: false }
export default [await app.sessions.removeAll('ada'), app.database.health().status, app.cleanup.options, await app.metrics.render()]
