// TCP proxies that play network faults. The one before ClickHouse loses answers and counts requests; the one before a broker
// cuts, silences, delays, throttles and splits.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { TcpProxy } from '../../tools/servers/tcp-proxy.mjs'

/** Forwards connections to `port` of this machine; ends when the test ends. */
export async function startProxy(t, port) {
  const proxy = new Proxy(port)
  await proxy.listen()
  t.after(() => proxy.close())
  return proxy
}

class Proxy extends TcpProxy {
  /** How many answers were lost so far. */
  lost = 0
  /** How many INSERTs of rows were attempted so far. */
  inserts = 0
  /** How many INSERTs of no rows were attempted: by a start, and where a refusal must be the fault of the rows. */
  controls = 0

  #toLose = 0
  #isAway = false

  /** The answers to the next `count` INSERTs are lost: the server did what it was asked, and the connection ends. */
  loseAnswers(count) {
    this.#toLose = count
  }

  /** From now on it is as if nothing was behind it. */
  refuse() {
    this.#isAway = true
    this.cut()
  }

  /** Forwards again. */
  accept() {
    this.#isAway = false
  }

  /** @override */
  serve(client) {
    if (this.#isAway) return client.destroy()
    const server = this.connected(client)
    let isInsert = false
    client.on('data', (data) => {
      const request = /^POST \S+/.exec(data.toString('latin1'))
      if (request) isInsert = /query=INSERT/.test(request[0])
      if (!request || !isInsert) return
      if (/insert_deduplication_token=(control|start)-/.test(request[0])) this.controls++
      else this.inserts++
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

/**
 * A network before a broker, with faults to be had; ends when the test ends. Faults last until `mend()`, and concern the
 * connections of the time; `silence`, `halfClose` and `cut` only those that there are when they are called. With
 * `isRecorded` it keeps what it carries to us, for `carried()`.
 */
export async function startNetwork(t, port, { isRecorded = false } = {}) {
  const network = new Network(port, isRecorded)
  await network.listen()
  t.after(() => network.close())
  return network
}

/** The complete MQTT packets in these chunks. */
function packets(chunks) {
  const bytes = Buffer.concat(chunks)
  const found = []
  let at = 0
  while (at + 1 < bytes.length) {
    let length = 0
    let digits = 0
    while (at + 1 + digits < bytes.length) {
      const digit = bytes[at + 1 + digits]
      length += (digit & 127) * 128 ** digits++
      if (digit < 128) break
    }
    const begin = at + 1 + digits
    if (begin + length > bytes.length) break
    found.push({ first: bytes[at], body: bytes.subarray(begin, begin + length) })
    at = begin + length
  }
  return found
}

/** @typedef {'up' | 'down'} Direction `down` is from the broker to us */

class Network {
  /** How many connections were made so far. */
  connections = 0

  #target
  #server
  #links = new Set()
  #delayMs = 0
  #bytesPerSecond = Infinity
  #isSplit = false
  #isRecorded
  /** A link for each connection, with the chunks that it carried in `down` and `up`. */
  #records = []

  constructor(target, isRecorded) {
    this.#target = target
    this.#isRecorded = isRecorded
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.url = `mqtt://127.0.0.1:${this.#server.address().port}`
  }

  close() {
    this.cut()
    this.#server.close()
  }

  /** Ends every connection in the middle of whatever it carries. */
  cut() {
    for (const { client, server } of this.#links) {
      client.destroy()
      server.destroy()
    }
  }

  /** Delays every chunk in this direction. */
  delay(ms) {
    this.#delayMs = ms
  }

  throttle(bytesPerSecond) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Every byte travels alone. */
  split() {
    this.#isSplit = true
  }

  /**
   * Nothing arrives in this direction any more, and neither side notices.
   *
   * @param {Direction} direction
   */
  silence(direction) {
    for (const link of this.#links) link.silent.add(direction)
  }

  /**
   * One side sees the end of the other's stream, and may go on sending itself.
   *
   * @param {Direction} direction
   */
  halfClose(direction) {
    for (const link of this.#links) {
      link.silent.add(direction)
      const receiver = direction === 'down' ? link.client : link.server
      receiver.end()
    }
  }

  mend() {
    this.#delayMs = 0
    this.#bytesPerSecond = Infinity
    this.#isSplit = false
  }

  /**
   * Each PUBLISH of QoS 1 with this text that was carried to us, and whether the PUBACK of its packet id was carried back on the
   * same connection.
   *
   * @param {string} text
   */
  carried(text) {
    return this.#records.flatMap((link, connection) => {
      const acknowledged = new Set()
      for (const { first, body } of packets(link.up)) if (first === 0x40) acknowledged.add(body.readUInt16BE(0))
      return packets(link.down)
        .filter(({ first, body }) => first >> 4 === 3 && (first & 6) === 2 && body.includes(text))
        .map(({ first, body }) => {
          const packetId = body.readUInt16BE(2 + body.readUInt16BE(0))
          return { connection, packetId, isDuplicate: (first & 8) !== 0, isAcknowledged: acknowledged.has(packetId) }
        })
    })
  }

  #serve(client) {
    this.connections++
    const server = connect({ port: this.#target, host: '127.0.0.1', allowHalfOpen: true })
    const link = { client, server, silent: new Set(), down: [], up: [] }
    if (this.#isRecorded) this.#records.push(link)
    this.#links.add(link)
    for (const socket of [client, server]) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#links.delete(link)
        client.destroy()
        server.destroy()
      })
    }
    this.#carry(link, 'up', client, server)
    this.#carry(link, 'down', server, client)
  }

  /** One chunk after the other, so that nothing overtakes. */
  #carry(link, direction, source, sink) {
    let last = Promise.resolve()
    source.on('data', (chunk) => {
      source.pause()
      last = this.#pass(link, direction, chunk, sink).then(() => source.resume())
    })
    source.on('end', () => last.then(() => sink.end()))
  }

  async #pass(link, direction, chunk, sink) {
    if (this.#delayMs > 0) await sleep(this.#delayMs)
    let at = 0
    while (at < chunk.length && !link.silent.has(direction) && sink.writable) {
      const bytes = this.#isSplit ? 1 : Math.min(chunk.length - at, Math.max(1, this.#bytesPerSecond / 20))
      const isTaken = sink.write(chunk.subarray(at, at + bytes))
      if (this.#isRecorded) link[direction].push(chunk.subarray(at, at + bytes))
      at += bytes
      if (this.#isSplit) await new Promise((resolve) => setImmediate(resolve))
      if (this.#bytesPerSecond < Infinity) await sleep((1000 * bytes) / this.#bytesPerSecond)
      // A sink that is gone never drains.
      if (!isTaken) await Promise.race([once(sink, 'drain'), once(sink, 'close')]).catch(() => {})
    }
  }
}
