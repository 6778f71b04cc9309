// A broker that does what a test tells it to, where a real one would never: it sends bytes that are no MQTT, refuses, or
// says nothing at all. It keeps every packet it received.

import { once } from 'node:events'
import { createServer } from 'node:net'

const CONNECT = 1
const SUBSCRIBE = 8
const PINGREQ = 12
const TYPES = {
  1: 'CONNECT',
  3: 'PUBLISH',
  4: 'PUBACK',
  8: 'SUBSCRIBE',
  10: 'UNSUBSCRIBE',
  12: 'PINGREQ',
  14: 'DISCONNECT',
}

/**
 * `connect` and `subscribe` are what it answers: a return code, or nothing with `null`. Its MQTT is 3.1.1.
 * It ends when the test ends.
 */
export async function startScriptedBroker(t, { connect = 0, subscribe = 1 } = {}) {
  const broker = new ScriptedBroker(connect, subscribe)
  await broker.listen()
  t.after(() => broker.close())
  return broker
}

class ScriptedBroker {
  /** Every packet received: its name and what follows the fixed header. */
  packets = []
  connections = 0

  #answers
  #server
  #sockets = new Set()
  #silent = new WeakSet()

  constructor(connect, subscribe) {
    this.#answers = { connect, subscribe }
    this.#server = createServer((socket) => this.#serve(socket))
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.url = `mqtt://127.0.0.1:${this.#server.address().port}`
  }

  async close() {
    this.hangUp()
    this.#server.close()
  }

  hangUp() {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Whoever is connected now hears nothing any more, and stays connected. */
  fallSilent() {
    for (const socket of this.#sockets) this.#silent.add(socket)
  }

  send(bytes) {
    for (const socket of this.#sockets) socket.write(bytes)
  }

  /** The packet ids that were acknowledged, in the order in which that came. */
  get acknowledged() {
    return this.packets.filter(({ type }) => type === 'PUBACK').map(({ body }) => body.readUInt16BE(0))
  }

  #serve(socket) {
    this.connections++
    this.#sockets.add(socket)
    let buffer = Buffer.alloc(0)
    socket.on('data', (data) => {
      buffer = Buffer.concat([buffer, data])
      for (;;) {
        const packet = firstPacket(buffer)
        if (!packet) return
        buffer = buffer.subarray(packet.end)
        this.packets.push({ type: TYPES[packet.type] ?? `type ${packet.type}`, body: packet.body })
        this.#answer(socket, packet)
      }
    })
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
  }

  #answer(socket, { type, body }) {
    if (this.#silent.has(socket)) return
    const { connect, subscribe } = this.#answers
    if (type === CONNECT && connect !== null) socket.write(Buffer.from([0x20, 2, 0, connect]))
    if (type === SUBSCRIBE && subscribe !== null) {
      const filters = countFilters(body)
      socket.write(Buffer.from([0x90, 2 + filters, body[0], body[1], ...Array(filters).fill(subscribe)]))
    }
    if (type === PINGREQ) socket.write(Buffer.from([0xd0, 0]))
  }
}

/**
 * A PUBLISH of MQTT 3.1.1, at QoS 1.
 *
 * @param {string | Buffer} topic
 */
export function publishPacket(topic, payload, { id, dup = false }) {
  const name = Buffer.from(topic)
  const body = Buffer.concat([uint16(name.length), name, uint16(id), Buffer.from(payload)])
  return Buffer.concat([Buffer.from([0x32 | (dup ? 8 : 0), ...varint(body.length)]), body])
}

function firstPacket(buffer) {
  let length = 0
  for (let i = 1; i < Math.min(buffer.length, 5); i++) {
    length += (buffer[i] & 127) * 128 ** (i - 1)
    if (buffer[i] < 128) {
      const end = i + 1 + length
      return buffer.length < end ? undefined : { type: buffer[0] >> 4, body: buffer.subarray(i + 1, end), end }
    }
  }
}

function countFilters(body) {
  let filters = 0
  for (let at = 2; at < body.length; at += 3 + body.readUInt16BE(at)) filters++
  return filters
}

function uint16(n) {
  return Buffer.from([n >> 8, n & 255])
}

function varint(n) {
  const bytes = []
  do {
    bytes.push((n & 127) | (n > 127 ? 128 : 0))
    n >>= 7
  } while (n > 0)
  return bytes
}
