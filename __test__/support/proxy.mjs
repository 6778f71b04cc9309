// A TCP proxy before ClickHouse or a broker, to play what networks do, and to count what is asked: answers that are lost, connections
// that end halfway.

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
  /** How many INSERTs were attempted so far. */
  inserts = 0

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

  /** The answers to the next `count` INSERTs are lost: the server did what it was asked, and the connection ends. */
  loseAnswers(count) {
    this.#toLose = count
  }

  /** Ends all connections, whatever is on its way. */
  cut() {
    for (const socket of this.#sockets) socket.destroy()
  }

  close() {
    this.cut()
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
    let isInsert = false
    client.on('data', (data) => {
      const request = /^POST \S+/.exec(data.toString('latin1'))
      if (request) isInsert = /query=INSERT/.test(request[0])
      if (request && isInsert) this.inserts++
    })
    client.pipe(server)
    server.on('data', (data) => {
      if (isInsert && this.#toLose > 0) {
        this.#toLose--
        this.lost++
        client.destroy()
      } else {
        client.write(data)
      }
    })
  }
}
