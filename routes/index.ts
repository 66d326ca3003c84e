/** All routes of the standalone API. */
import type { FastifyPluginCallback } from 'fastify'
import { abuseRoutes } from './abuse.js'
import { activityRoutes } from './activity.js'
import { addressesRoutes } from './addresses.js'
import { adminSessionsRoutes } from './admin-sessions.js'
import { blocksRoutes } from './blocks.js'
import { cleanupRoutes } from './cleanup.js'
import { healthRoutes } from './health.js'
import { ipLogsRoutes } from './ip-logs.js'
import { metricsRoutes } from './metrics.js'
import { sessionRoutes } from './session.js'
import { sessionsRoutes, type SessionsRoutesOptions } from './sessions.js'
import { usersRoutes } from './users.js'

export type RoutesOptions = SessionsRoutesOptions

export const routes: FastifyPluginCallback<RoutesOptions> = (app, options, done) => {
  app.register(sessionRoutes)
  app.register(sessionsRoutes, options)
  app.register(adminSessionsRoutes)
  app.register(ipLogsRoutes)
  app.register(activityRoutes)
  app.register(blocksRoutes)
  app.register(abuseRoutes)
  app.register(cleanupRoutes)
  app.register(usersRoutes)
  app.register(addressesRoutes)
  app.register(healthRoutes)
  app.register(metricsRoutes)
  done()
}
