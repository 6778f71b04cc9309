// A proxy before ClickHouse: it passes everything on, passes on a number of bytes a second, or is down.

import { setTimeout as sleep } from 'node:timers/promises'
import { TcpProxy } from '../../tools/servers/tcp-proxy.mjs'

export class Throttle extends TcpProxy {
  #bytesPerSecond = Infinity
  #isAway = false
  /** When the next byte may pass, on all connections together. */
  #freeAt = 0

  get url() {
    return `http://127.0.0.1:${this.port}`
  }

  /** @param {number} bytesPerSecond towards ClickHouse */
  pass(bytesPerSecond) {
    this.#isAway = false
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Ends all connections, and every later one. */
  leave() {
    this.#isAway = true
    this.cut()
  }

  /** @override @param {import('node:net').Socket} client */
  serve(client) {
    client.on('error', () => {})
    if (this.#isAway) return client.destroy()
    const server = this.connected(client)
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
