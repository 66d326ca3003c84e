import t from 'tap'
import type { FastifyError } from 'fastify'
import { refusedByFramework } from '../../routes/errors.js'

const refused = (code: string, statusCode: number) =>
  refusedByFramework(Object.assign(new Error('\'/?token=SECRET\' is wrong'), { code, statusCode, name: 'FastifyError' }) as FastifyError)

t.test('what Fastify refuses is told in words of our own, with its status', async t => {
  for (const [code, status, message] of [['FST_ERR_BAD_URL', 400, 'The URL cannot be decoded'], ['FST_ERR_MAX_PARAM_LENGTH', 414, 'A part of the URL is too long']] as const) {
    const error = refused(code, status)
    t.match(error, { code: 'DOORMAN_REQUEST_REFUSED', statusCode: status, message })
    t.equal(error.cause, undefined, 'its text has the URL')
  }
})

t.test('a fault of the server keeps its cause for the log, but not its text', async t => {
  const error = refused('FST_ERR_ASYNC_CONSTRAINT', 500)
  t.match(error, { code: 'DOORMAN_REQUEST_REFUSED', statusCode: 500, message: 'The request cannot be routed' })
  t.match(error.cause, { code: 'FST_ERR_ASYNC_CONSTRAINT' })
})
