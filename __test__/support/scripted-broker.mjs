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
 * `connect` and `subscribe` are what it answers: a return code, or nothing with `null`, or a function that says so for the
 * number of a connection, the first being 1. Its MQTT is 3.1.1, or 5 with one filter a SUBSCRIBE.
 * It ends when the test ends.
 *
 * @param {any} t
 * @param {{ connect?: any, subscribe?: any, protocolVersion?: 4 | 5 }} [answers]
 */
export async function startScriptedBroker(t, { connect = 0, subscribe = 1, protocolVersion = 4 } = {}) {
  const broker = new ScriptedBroker(connect, subscribe, protocolVersion)
  await broker.listen()
  t.after(() => broker.close())
  return broker
}

class ScriptedBroker {
  /** Every packet received: its name, what follows the fixed header, and the number of its connection. */
  packets = []
  connections = 0

  #answers
  /** What stands for them in an answer. */
  #properties
  #server
  /** By the number of the connection. */
  #sockets = new Map()
  #silent = new WeakSet()

  constructor(connect, subscribe, protocolVersion) {
    this.#answers = { connect, subscribe }
    this.#properties = protocolVersion === 5 ? [0] : []
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

  /** Ends all connections, or one. */
  hangUp(connection) {
    for (const socket of this.#chosen(connection)) socket.destroy()
  }

  /** Whoever is connected now hears nothing any more, and stays connected. */
  fallSilent() {
    for (const socket of this.#sockets.values()) this.#silent.add(socket)
  }

  /** To all connections, or to one. */
  send(bytes, connection) {
    for (const socket of this.#chosen(connection)) socket.write(bytes)
  }

  /** The numbers of the connections that stand. */
  get standing() {
    return [...this.#sockets.keys()]
  }

  #chosen(connection) {
    return [...this.#sockets].filter(([number]) => number === (connection ?? number)).map(([, socket]) => socket)
  }

  /** The packet ids that were acknowledged, in the order in which that came. */
  get acknowledged() {
    return this.packets.filter(({ type }) => type === 'PUBACK').map(({ body }) => body.readUInt16BE(0))
  }

  #serve(socket) {
    const connection = ++this.connections
    this.#sockets.set(connection, socket)
    let buffer = Buffer.alloc(0)
    socket.on('data', (data) => {
      buffer = Buffer.concat([buffer, data])
      for (;;) {
        const packet = firstPacket(buffer)
        if (!packet) return
        buffer = buffer.subarray(packet.end)
        this.packets.push({ type: TYPES[packet.type] ?? `type ${packet.type}`, body: packet.body, connection })
        this.#answer(socket, connection, packet)
      }
    })
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(connection))
  }

  #answer(socket, connection, { type, body }) {
    if (this.#silent.has(socket)) return
    const [connect, subscribe] = [this.#answers.connect, this.#answers.subscribe].map((answer) =>
      typeof answer === 'function' ? answer(connection) : answer,
    )
    if (type === CONNECT && connect !== null) {
      socket.write(shortPacket(0x20, [0, connect, ...this.#properties]))
    }
    if (type === SUBSCRIBE && subscribe !== null) {
      const grants = this.#properties.length > 0 ? [subscribe] : Array(countFilters(body)).fill(subscribe)
      socket.write(shortPacket(0x90, [body[0], body[1], ...this.#properties, ...grants]))
    }
    if (type === PINGREQ) socket.write(Buffer.from([0xd0, 0]))
  }
}

/**
 * A PUBLISH of MQTT 3.1.1. At QoS 0 it has no `id`.
 *
 * @param {string | Buffer} topic
 * @param {string | Buffer} payload
 * @param {{ id?: number, dup?: boolean, qos?: 0 | 1 }} options
 */
export function publishPacket(topic, payload, { id = 0, dup = false, qos = 1 }) {
  const name = Buffer.from(topic)
  const packetId = qos > 0 ? uint16(id) : Buffer.alloc(0)
  const body = Buffer.concat([uint16(name.length), name, packetId, Buffer.from(payload)])
  return Buffer.concat([Buffer.from([0x30 | (qos << 1) | (dup ? 8 : 0), ...varint(body.length)]), body])
}

function shortPacket(first, body) {
  return Buffer.from([first, body.length, ...body])
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
