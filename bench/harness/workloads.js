/** What is asked of the servers, and how clients get their sessions. */

/** A usual browser's, since rows with user agents are what services store. */
export const USER_AGENT = 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'

export const workloads = [
  { id: 'W1', title: 'authenticated GET: session validated, last use kept, row written', method: 'GET', path: '/authenticated', withSession: true },
  { id: 'W2', title: 'anonymous GET, row written', method: 'GET', path: '/anonymous', withSession: false },
  { id: 'W3', title: 'login, durable before the reply', method: 'POST', path: '/login', withSession: false, creates: true }
]

/** Logs in `number` clients, some at a time; resolves to their Cookie headers (none of bare Fastify's). */
export async function logIn (server, number) {
  const cookies = []
  let left = number
  const loop = async () => {
    while (left-- > 0) {
      const response = await fetch(`${server.address}/login`, { method: 'POST', headers: { 'user-agent': USER_AGENT } })
      const text = await response.text()
      if (response.status !== 200) throw new Error(`POST /login: ${response.status} ${text}`)
      const cookie = response.headers.getSetCookie().map(line => line.split(';', 1)[0]).join('; ')
      if (cookie !== '') cookies.push(cookie)
    }
  }
  await Promise.all(Array.from({ length: 10 }, loop))
  return cookies
}
