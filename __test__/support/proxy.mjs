// A TCP proxy before a server, to play what networks do: answers that are lost, connections that end halfway.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Forwards connections to `port` of this machine; ends when the test ends. */
export async function startProxy(t, port) {
  const proxy = new Proxy(port)
  await proxy.listen()
  t.after(() => proxy.close())
  return proxy
}

class Proxy {
  /** How many answers were lost so far. */
  lost = 0

  #target
  #server
  #sockets = new Set()
  #toLose = 0

  constructor(target) {
    this.#target = target
    this.#server = createServer((socket) => this.#serve(socket))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = this.#server.address().port
  }

  /** The next `count` answers are lost: the server did what it was asked, and the connection ends. */
  loseAnswers(count) {
    this.#toLose = count
  }

  close() {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }

  #serve(client) {
    const server = connect(this.#target, '127.0.0.1')
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    client.pipe(server)
    server.on('data', (data) => {
      if (this.#toLose > 0) {
        this.#toLose--
        this.lost++
        client.destroy()
      } else {
        client.write(data)
      }
    })
  }
}
