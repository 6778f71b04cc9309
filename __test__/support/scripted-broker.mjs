// A broker that a test controls: it can send invalid bytes, refuse, or stay silent. It records every packet it receives.

import { once } from 'node:events'
import { createServer } from 'node:net'

const CONNECT = 1
const SUBSCRIBE = 8
const UNSUBSCRIBE = 10
const PINGREQ = 12
const TYPES = {
  1: 'CONNECT',
  3: 'PUBLISH',
  4: 'PUBACK',
  5: 'PUBREC',
  7: 'PUBCOMP',
  8: 'SUBSCRIBE',
  10: 'UNSUBSCRIBE',
  12: 'PINGREQ',
  14: 'DISCONNECT',
}

/**
 * `connect` and `subscribe` are what it answers: a return code, or nothing with `null`, or a function that says so for the
 * number of a connection, the first being 1, and for the body of its CONNECT. `present` says that it knows the session; `properties` are the bytes of
 * those of CONNACK, in MQTT 5. `maxFilters` is how many filters it takes in one SUBSCRIBE or UNSUBSCRIBE: on more it closes the
 * connection, or with `refuses` refuses them all. It speaks the version of MQTT that it is spoken to, and ends when the test ends.
 *
 * @param {any} t
 * @param {{ connect?: any, subscribe?: any, present?: boolean, properties?: number[], maxFilters?: number, refuses?: boolean }} [answers]
 */
export async function startScriptedBroker(
  t,
  { connect = 0, subscribe = 1, present = false, properties = [], maxFilters = Infinity, refuses = false } = {},
) {
  const broker = new ScriptedBroker({ connect, subscribe, present, properties, maxFilters, refuses })
  await broker.listen()
  t.after(() => broker.close())
  return broker
}

class ScriptedBroker {
  /** Every packet received: its name, what follows the fixed header, and the number of its connection. */
  packets = []
  connections = 0

  #answers
  #server
  /** By the number of the connection. */
  #sockets = new Map()
  #silent = new WeakSet()
  #versions = new WeakMap()

  constructor(answers) {
    this.#answers = answers
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

  /** The connected clients stay connected and receive nothing more. */
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

  /** The numbers of the connections that subscribed to what routes ask for, rather than to find out which broker this is. */
  get members() {
    const subscribed = this.packets.filter(({ type, body }) => type === 'SUBSCRIBE' && !/\$(SYS|MQT)/.test(body.toString('latin1')))
    return [...new Set(subscribed.map(({ connection }) => connection))].sort((a, b) => a - b)
  }

  #chosen(connection) {
    return [...this.#sockets].filter(([number]) => number === (connection ?? number)).map(([, socket]) => socket)
  }

  /** From now on nothing is read from the connected clients. */
  stopReading() {
    for (const socket of this.#sockets.values()) socket.pause()
  }

  /** Sends the same `times` times, or until the connection ends, without piling up what is not taken. */
  async flood(bytes, times = Infinity) {
    const [socket] = this.#sockets.values()
    for (let i = 0; i < times && !socket.destroyed; i++) {
      if (socket.write(bytes)) continue
      await new Promise((resolve) => socket.once('drain', resolve).once('close', resolve))
    }
  }

  /** The bodies of the packets of one type, in the order in which they came. */
  bodies(wanted) {
    return this.packets.filter(({ type }) => type === wanted).map(({ body }) => body)
  }

  /** The packet ids that were acknowledged, in the order in which that came. */
  get acknowledged() {
    return this.bodies('PUBACK').map((body) => body.readUInt16BE(0))
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
      typeof answer === 'function' ? answer(connection, type === CONNECT ? body : undefined) : answer,
    )
    // Behind the protocol's name, `MQTT`, is its version.
    if (type === CONNECT) this.#versions.set(socket, body[6])
    const isV5 = this.#versions.get(socket) === 5
    const noProperties = isV5 ? [0] : []
    if (type === CONNECT && connect !== null) {
      const { present, properties } = this.#answers
      const told = isV5 ? [properties.length, ...properties] : []
      socket.write(packet(0x20, [connect === 0 && present ? 1 : 0, connect, ...told]))
    }
    if (type === SUBSCRIBE && subscribe !== null) {
      const filters = filtersOf(body, isV5, 1).length
      const isTooMany = filters > this.#answers.maxFilters
      if (isTooMany && !this.#answers.refuses) return socket.destroy()
      const grant = isTooMany ? 0x80 : subscribe
      socket.write(packet(0x90, [body[0], body[1], ...noProperties, ...Array(filters).fill(grant)]))
    }
    if (type === UNSUBSCRIBE) {
      const filters = filtersOf(body, isV5, 0).length
      if (filters > this.#answers.maxFilters) return socket.destroy()
      socket.write(packet(0xb0, [body[0], body[1], ...(isV5 ? [0, ...Array(filters).fill(0)] : [])]))
    }
    if (type === PINGREQ) socket.write(Buffer.from([0xd0, 0]))
  }
}

/**
 * A PUBLISH at QoS 1, unless `qos` says otherwise. With `properties`, which may be empty, it is one of MQTT 5.
 *
 * @param {string | Buffer} topic
 * @param {string | Buffer} payload
 * @param {{ id?: number, dup?: boolean, qos?: number, properties?: number[] }} options
 */
export function publishPacket(topic, payload, { id = 0, dup = false, qos = 1, properties }) {
  const name = Buffer.from(topic)
  return packet(0x30 | (dup ? 8 : 0) | (qos << 1), [
    ...uint16(name.length),
    ...name,
    ...(qos > 0 ? uint16(id) : []),
    ...(properties ? [...varint(properties.length), ...properties] : []),
    ...Buffer.from(payload),
  ])
}

/** A packet from its first byte and what follows its length. */
export function packet(first, body) {
  return Buffer.from([first, ...varint(body.length), ...body])
}

/**
 * The first packet of these bytes, if all of it is there.
 *
 * @param {Buffer} buffer
 */
export function firstPacket(buffer) {
  let length = 0
  for (let i = 1; i < Math.min(buffer.length, 5); i++) {
    length += (buffer[i] & 127) * 128 ** (i - 1)
    if (buffer[i] < 128) {
      const end = i + 1 + length
      return buffer.length < end ? undefined : { type: buffer[0] >> 4, body: buffer.subarray(i + 1, end), end }
    }
  }
}

/**
 * The filters of a SUBSCRIBE, with a byte of `options` behind each, or of an UNSUBSCRIBE without.
 *
 * @param {Buffer} body
 * @param {boolean} isV5
 * @param {0 | 1} options
 */
export function filtersOf(body, isV5, options) {
  const filters = []
  for (let at = isV5 ? 3 + body[2] : 2; at < body.length; ) {
    const end = at + 2 + body.readUInt16BE(at)
    filters.push(body.toString('utf8', at + 2, end))
    at = end + options
  }
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
