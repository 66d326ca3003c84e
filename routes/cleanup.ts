/** The cleanup: what its runs removed, and a run on demand. */
import { Type, type FastifyPluginCallbackTypebox, type Static } from '@fastify/type-provider-typebox'
import { SWEEP_TARGETS, type CleanupRun } from '../storage/storage.js'
import { API_KEY } from './access.js'
import { iso, Nullable, NullableText, pageParams, PageQuery, pageReply, PageReply, replies, strict, Time } from './schemas.js'

const tags = ['admin: cleanup']
const LIST = 'cleanup'

const RunReply = Type.Object({
  id: Type.String(),
  startedAt: Time,
  durationMs: Type.Integer(),
  dryRun: Type.Boolean(),
  trigger: Type.String({ description: '"schedule" or "manual"' }),
  complete: Type.Boolean({ description: 'False when the time budget ended the run early; the next one goes on' }),
  removed: Type.Record(Type.String(), Type.Integer(), { description: `Rows by kind, removed, or (…Addresses) changed: ${SWEEP_TARGETS.join(', ')}` }),
  freedPages: Type.Integer({ description: 'Pages given back to the file system' }),
  error: NullableText
})

const runReply = (run: CleanupRun): Static<typeof RunReply> => ({ ...run, startedAt: iso(run.startedAt) })

export const cleanupRoutes: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get('/admin/cleanup', {
    config: API_KEY,
    schema: { tags, summary: 'Past runs, newest first', querystring: strict(PageQuery), response: replies({ 200: PageReply(RunReply) }, 401, 429) }
  }, async request => pageReply(LIST, await app.cleanup.history(pageParams(LIST, request.query)), runReply))

  app.post('/admin/cleanup', {
    config: API_KEY,
    schema: {
      tags,
      summary: 'Run now; replies with what was (or, on a dry run, would be) removed',
      body: Nullable(strict({ dryRun: Type.Optional(Type.Boolean()) })),
      response: replies({ 200: RunReply }, 401, 409, 429)
    }
  }, async request => runReply(await app.cleanup.run({ dryRun: request.body?.dryRun ?? false })))
  done()
}
