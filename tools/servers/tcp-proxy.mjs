// A proxy in front of a server of this machine. It forwards nothing by itself: `serve` says how bytes pass.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** @typedef {import('node:net').Socket} Socket */

export class TcpProxy {
  #target
  #server
  /** @type {Set<Socket>} */
  #sockets = new Set()

  /** @param {number} target a port of this machine */
  constructor(target) {
    this.#target = target
    this.#server = createServer((client) => this.serve(client))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get port() {
    return /** @type {import('node:net').AddressInfo} */ (this.#server.address()).port
  }

  /**
   * Called with each new connection.
   *
   * @param {Socket} client
   */
  serve(client) {
    client.destroy()
  }

  /**
   * A connection to the target for this client. Either ends with the other.
   *
   * @param {Socket} client
   */
  connected(client) {
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
    return server
  }

  /** Ends all connections, whatever is on its way. */
  cut() {
    for (const socket of this.#sockets) socket.destroy()
  }

  close() {
    this.cut()
    this.#server.close()
  }
}
