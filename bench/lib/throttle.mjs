// A proxy before ClickHouse: it passes everything on, passes on a number of bytes a second, or is down.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export class Throttle {
  #target
  #server
  /** @type {Set<import('node:net').Socket>} */
  #sockets = new Set()
  #bytesPerSecond = Infinity
  #isAway = false
  /** When the next byte may pass, on all connections together. */
  #freeAt = 0

  /** @param {number} port of ClickHouse, on this machine */
  constructor(port) {
    this.#target = port
    this.#server = createServer((client) => this.#serve(client))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get url() {
    const { port } = /** @type {import('node:net').AddressInfo} */ (this.#server.address())
    return `http://127.0.0.1:${port}`
  }

  /** @param {number} bytesPerSecond towards ClickHouse */
  pass(bytesPerSecond) {
    this.#isAway = false
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Ends all connections, and every later one. */
  leave() {
    this.#isAway = true
    for (const socket of this.#sockets) socket.destroy()
  }

  close() {
    this.leave()
    this.#server.close()
  }

  /** @param {import('node:net').Socket} client */
  #serve(client) {
    client.on('error', () => {})
    if (this.#isAway) return client.destroy()
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
    server.pipe(client)
    client.on('data', async (/** @type {Buffer} */ chunk) => {
      client.pause()
      for (let at = 0; at < chunk.length && !server.destroyed; ) {
        const part = chunk.subarray(at, at + Math.max(1, Math.min(chunk.length, this.#bytesPerSecond / 50)))
        at += part.length
        const isTaken = server.write(part)
        await this.#wait(part.length)
        if (!isTaken) await hasRoom(server)
      }
      client.resume()
    })
    client.on('end', () => server.end())
  }

  /** @param {number} bytes */
  async #wait(bytes) {
    if (this.#bytesPerSecond === Infinity) return
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + (1000 * bytes) / this.#bytesPerSecond
    await sleep(this.#freeAt - performance.now())
  }
}

/**
 * A socket that is gone never drains.
 *
 * @param {import('node:net').Socket} socket
 */
async function hasRoom(socket) {
  if (socket.destroyed || !socket.writableNeedDrain) return
  await new Promise((resolve) => {
    const end = () => {
      socket.off('drain', end).off('close', end)
      resolve(undefined)
    }
    socket.on('drain', end).on('close', end)
  })
}
