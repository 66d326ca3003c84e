/** The servers the benchmark compares: `bare` Fastify, and the same with the suite's defaults. Started by smoke.js as a child process. */
import Fastify from 'fastify'

const [kind, url] = process.argv.slice(2)
const app = Fastify()
if (kind === 'doorman') {
  const { doorman } = await import('../dist/index.js')
  await app.register(doorman, { database: { url }, metrics: false })
}
app.get('/anonymous', () => ({ hello: 'world' }))
app.get('/authenticated', { config: { session: 'required' } }, () => ({ hello: 'world' }))
app.post('/login', async () => app.sessions === undefined ? { token: 'none' } : await app.sessions.create({ userId: 'bench' }))
const address = await app.listen({ port: 0, host: '127.0.0.1' })
process.send({ address })
process.on('message', async message => {
  if (message === 'count') {
    await app.database.flush()
    const { rows } = (await app.database.stats()).storage.files.log
    const sessions = (await app.database.get('SELECT count(*) AS n FROM sessions')).n
    process.send({ rows, sessions })
  } else {
    await app.close()
    process.disconnect()
  }
})
