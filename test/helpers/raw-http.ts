/** HTTP by hand: what no client library sends. */
import { once } from 'node:events'
import net from 'node:net'

export interface RawConnection {
  socket: net.Socket
  /** Everything received so far. */
  text (): string
  write (data: string | Buffer): void
  /** Resolves when the text received matches. */
  until (pattern: RegExp): Promise<string>
  /** Resolves with everything received when the server has closed the connection. */
  closed (): Promise<string>
}

export async function connect (port: number, host = '127.0.0.1'): Promise<RawConnection> {
  const socket = net.connect({ port, host, noDelay: true })
  let received = ''
  socket.on('data', data => { received += data.toString('latin1') })
  socket.on('error', () => {}) // a reset is an end like any other here
  await once(socket, 'connect')
  return {
    socket,
    text: () => received,
    write (data) { socket.write(data) },
    until: pattern => new Promise((resolve, reject) => {
      const look = () => {
        if (!pattern.test(received)) return
        socket.off('data', look)
        resolve(received)
      }
      socket.on('data', look)
      socket.once('close', () => reject(new Error(`closed before ${pattern} came: ${received}`)))
      look()
    }),
    closed: () => new Promise(resolve => {
      if (socket.destroyed) resolve(received)
      else socket.once('close', () => resolve(received))
    })
  }
}
