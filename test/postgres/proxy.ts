/**
 * Stands between a storage and its server, and does to their connections what networks do: cuts them, keeps answers back, goes silent.
 */
import type { Test } from 'tap'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Proxy {
  /** The database's URL, by way of the proxy. */
  readonly url: string
  /** Connections since the start. */
  readonly connections: number
  /** The next bytes to the server that hold this text are delivered; the connection is cut when the answer comes, which is lost. */
  loseAnswer (text: string): void
  /** Nothing goes through in either direction, and nobody is told; until `resume`. */
  freeze (): void
  resume (): void
  /** Cuts every connection, and refuses new ones until `open`. */
  cut (): void
  open (): void
}

export async function startProxy (t: Test, target: string): Promise<Proxy> {
  const { hostname, port } = new URL(target)
  const pairs = new Set<[client: Socket, server: Socket]>()
  let wanted: string | undefined
  let frozen = false
  let refusing = false
  let connections = 0

  const proxy = createServer(client => {
    connections++
    const server = connect(Number(port), hostname)
    const pair: [Socket, Socket] = [client, server]
    pairs.add(pair)
    let losing = false
    client.on('data', chunk => {
      if (wanted !== undefined && chunk.includes(wanted)) {
        wanted = undefined
        losing = true
      }
      server.write(chunk)
    })
    server.on('data', chunk => {
      if (losing) client.destroy()
      else client.write(chunk)
    })
    for (const [one, other] of [pair, [server, client]] as const) {
      one.on('error', () => {})
      one.on('close', () => {
        other.destroy()
        pairs.delete(pair)
      })
    }
    if (refusing) client.destroy()
    if (frozen) for (const socket of pair) socket.pause()
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    for (const [client] of pairs) client.destroy()
    proxy.close()
  })
  const url = new URL(target)
  url.port = String((proxy.address() as AddressInfo).port)
  return {
    url: url.href,
    get connections () { return connections },
    loseAnswer (text) { wanted = text },
    freeze () {
      frozen = true
      for (const socket of [...pairs].flat()) socket.pause()
    },
    resume () {
      frozen = false
      for (const socket of [...pairs].flat()) socket.resume()
    },
    cut () {
      refusing = true
      for (const [client] of pairs) client.destroy()
    },
    open () { refusing = false }
  }
}
