'use strict'

// A broker for tests: MQTT 3.1.1 and 5 over TCP, enough for one pipeline and its publishers. It keeps
// no sessions and no retained messages; a publisher is answered when every subscriber has acknowledged.
//
// A packet (MQTT section 2): type and flags in one byte, the length of the rest in one to four, then the rest. A text is its
// length in two bytes and UTF-8.

const { once } = require('node:events')
const { createServer } = require('node:net')

const CONNECT = 1
const CONNACK = 2
const PUBLISH = 3
const PUBACK = 4
const PUBREC = 5
const PUBREL = 6
const PUBCOMP = 7
const SUBSCRIBE = 8
const SUBACK = 9
const UNSUBSCRIBE = 10
const UNSUBACK = 11
const PINGREQ = 12
const PINGRESP = 13
const DISCONNECT = 14

const USER_PROPERTY = 0x26
const MAX_PACKET_ID = 65_535

class Broker {
  /** @type {Set<Connection>} */
  #connections = new Set()
  #server = createServer((socket) => this.#connections.add(new Connection(socket, this)))
  url = ''

  async listen() {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#server.unref()
    this.url = `mqtt://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (this.#server.address()).port}`
  }

  async close() {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const connection of this.#connections) connection.end()
    await closed
  }

  /** @param {Connection} connection */
  forget(connection) {
    this.#connections.delete(connection)
  }

  /**
   * Resolves to the number of subscribers when each has acknowledged.
   *
   * @param {{ topic: string, payload: Buffer, qos: number, retain: boolean, userProperties: [string, string][] }} message
   * @returns {Promise<number>}
   */
  async publish(message) {
    /** @type {[Connection, number][]} */
    const subscribers = []
    const groups = new Set()
    for (const connection of this.#connections) {
      const granted = connection.grantedFor(message.topic, groups)
      if (granted !== undefined) subscribers.push([connection, granted])
    }
    await Promise.all(subscribers.map(([connection, granted]) => connection.send(message, Math.min(granted, message.qos))))
    return subscribers.length
  }
}

class Connection {
  #socket
  #broker
  #isV5 = false
  /** The QoS that was granted for each filter. @type {Map<string, number>} */
  #filters = new Map()
  /** By packet id: what to do when it is acknowledged. @type {Map<number, { resolve(): void, reject(error: Error): void }>} */
  #waiting = new Map()
  /** Packet ids of QoS 2 messages that came and were not released yet. @type {Set<number>} */
  #received = new Set()
  #nextId = 0
  /** Bytes that came and end before the end of a packet. @type {Buffer} */
  #rest = Buffer.alloc(0)

  /** @param {import('node:net').Socket} socket @param {Broker} broker */
  constructor(socket, broker) {
    this.#socket = socket
    this.#broker = broker
    socket.setNoDelay(true)
    socket.unref()
    socket.on('data', (data) => this.#read(/** @type {Buffer} */ (data)))
    socket.on('error', () => {})
    socket.on('close', () => {
      broker.forget(this)
      for (const { reject } of this.#waiting.values()) reject(new Error('the connection ended before the message was acknowledged'))
      this.#waiting.clear()
    })
  }

  end() {
    this.#socket.destroy()
  }

  /**
   * @param {string} topic
   * @param {Set<string>} groups shared subscriptions that have the message already; this one is added
   * @returns {number | undefined} the highest QoS of the filters that match
   */
  grantedFor(topic, groups) {
    let granted
    for (const [filter, qos] of this.#filters) {
      const shared = /^\$share\/[^/]+\/(.+)$/.exec(filter)
      if (!matches(shared ? shared[1] : filter, topic)) continue
      if (shared) {
        if (groups.has(filter)) continue
        groups.add(filter)
      }
      granted = Math.max(granted ?? 0, qos)
    }
    return granted
  }

  /**
   * @param {{ topic: string, payload: Buffer, retain: boolean, userProperties: [string, string][] }} message
   * @param {number} qos
   * @returns {Promise<void>}
   */
  send({ topic, payload, retain, userProperties }, qos) {
    const id = qos === 0 ? undefined : this.#packetId()
    const properties = Buffer.concat(userProperties.map((pair) => Buffer.concat([Buffer.of(USER_PROPERTY), text(pair[0]), text(pair[1])])))
    const head = [text(topic), ...(id === undefined ? [] : [uint16(id)]), ...(this.#isV5 ? [varint(properties.length), properties] : [])]
    this.#write(PUBLISH, (qos << 1) | (retain ? 1 : 0), ...head, payload)
    if (id === undefined) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve: () => resolve(), reject }))
  }

  #packetId() {
    do this.#nextId = (this.#nextId % MAX_PACKET_ID) + 1
    while (this.#waiting.has(this.#nextId))
    return this.#nextId
  }

  /** @param {Buffer} data */
  #read(data) {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, data]) : data
    for (;;) {
      const length = readVarint(this.#rest, 1)
      if (length === undefined || this.#rest.length < length.end + length.value) return
      const first = this.#rest[0]
      const body = this.#rest.subarray(length.end, length.end + length.value)
      this.#rest = this.#rest.subarray(length.end + length.value)
      try {
        this.#packet(first >> 4, first & 0x0f, body)
      } catch {
        // Bytes that are not MQTT.
        this.end()
        return
      }
    }
  }

  /** @param {number} type @param {number} flags @param {Buffer} body */
  #packet(type, flags, body) {
    switch (type) {
      case CONNECT:
        // The name of the protocol, which is a text, and then its version.
        this.#isV5 = body[2 + body.readUInt16BE(0)] === 5
        return this.#write(CONNACK, 0, Buffer.from(this.#isV5 ? [0, 0, 0] : [0, 0]))
      case SUBSCRIBE:
        return this.#write(SUBACK, 0, body.subarray(0, 2), this.#noProperties(), Buffer.from(this.#subscribe(body)))
      case UNSUBSCRIBE: {
        const filters = this.#texts(body, 0)
        for (const { value } of filters) this.#filters.delete(value)
        return this.#write(UNSUBACK, 0, body.subarray(0, 2), this.#noProperties(), Buffer.alloc(this.#isV5 ? filters.length : 0))
      }
      case PINGREQ:
        return this.#write(PINGRESP, 0)
      case PUBLISH:
        return this.#published(flags, body)
      case PUBREC:
        // Refused, or known as received; only the latter is released.
        if (this.#isV5 && body.length > 2 && body[2] >= 0x80) return this.#acknowledged(body.readUInt16BE(0))
        return this.#write(PUBREL, 2, body.subarray(0, 2))
      case PUBREL:
        this.#received.delete(body.readUInt16BE(0))
        return this.#write(PUBCOMP, 0, body.subarray(0, 2))
      case PUBACK:
      case PUBCOMP:
        return this.#acknowledged(body.readUInt16BE(0))
      case DISCONNECT:
        return this.#socket.end()
      default:
        return this.end()
    }
  }

  /** @param {number} id */
  #acknowledged(id) {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    waiting?.resolve()
  }

  /** @param {Buffer} body @returns {number[]} what is granted */
  #subscribe(body) {
    return this.#texts(body, 1).map(({ value, end }) => {
      const qos = body[end] & 0x03
      this.#filters.set(value, qos)
      return qos
    })
  }

  /**
   * The bytes after the packet id and the properties.
   *
   * @param {Buffer} body
   * @param {number} options bytes after each text
   */
  #texts(body, options) {
    const found = []
    for (let at = this.#afterProperties(body, 2); at < body.length; ) {
      const end = at + 2 + body.readUInt16BE(at)
      found.push({ value: body.toString('utf8', at + 2, end), end })
      at = end + options
    }
    return found
  }

  /** @param {number} flags @param {Buffer} body */
  #published(flags, body) {
    const qos = (flags >> 1) & 0x03
    const end = 2 + body.readUInt16BE(0)
    const topic = body.toString('utf8', 2, end)
    const afterId = qos === 0 ? end : end + 2
    const id = qos === 0 ? 0 : body.readUInt16BE(end)
    const start = this.#afterProperties(body, afterId)
    const isNew = qos < 2 || !this.#received.has(id)
    if (qos === 2) this.#received.add(id)
    const answer = () => qos > 0 && this.#write(qos === 1 ? PUBACK : PUBREC, 0, uint16(id))
    if (!isNew) return void answer()
    const userProperties = this.#isV5 ? readUserProperties(body.subarray(afterId, start)) : []
    // As a broker answers: it has the message, whether or not a subscriber gets it.
    answer()
    this.#broker.publish({ topic, payload: Buffer.from(body.subarray(start)), qos, retain: false, userProperties }).catch(() => {})
  }

  /** @param {Buffer} body @param {number} at */
  #afterProperties(body, at) {
    if (!this.#isV5) return at
    const length = readVarint(body, at)
    if (!length) throw new Error('properties are cut off')
    return length.end + length.value
  }

  #noProperties() {
    return Buffer.alloc(this.#isV5 ? 1 : 0)
  }

  /** @param {number} type @param {number} flags @param {Buffer[]} parts */
  #write(type, flags, ...parts) {
    const body = Buffer.concat(parts)
    this.#socket.write(Buffer.concat([Buffer.of((type << 4) | flags), varint(body.length), body]))
  }
}

/** MQTT section 4.7. @param {string} filter @param {string} topic */
function matches(filter, topic) {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  if (topic.startsWith('$') && !filter.startsWith('$')) return false
  for (const [i, level] of wanted.entries()) {
    if (level === '#') return true
    if (i >= levels.length || (level !== '+' && level !== levels[i])) return false
  }
  return wanted.length === levels.length
}

/** The user properties that our own publish and mqtt.js send; others are passed over. @param {Buffer} bytes with their length */
function readUserProperties(bytes) {
  /** @type {[string, string][]} */
  const found = []
  const length = readVarint(bytes, 0)
  let at = length ? length.end : bytes.length
  const readText = () => {
    const end = at + 2 + bytes.readUInt16BE(at)
    const value = bytes.toString('utf8', at + 2, end)
    at = end
    return value
  }
  // MQTT 5 section 2.2.2.2: how long each property of a PUBLISH is.
  while (at < bytes.length) {
    const property = bytes[at++]
    if (property === USER_PROPERTY) found.push([readText(), readText()])
    else if (property === 0x01) at += 1
    else if (property === 0x02) at += 4
    else if (property === 0x23) at += 2
    else if (property === 0x03 || property === 0x08 || property === 0x09) readText()
    else if (property === 0x0b) at = readVarint(bytes, at)?.end ?? bytes.length
    else break
  }
  return found
}

/** @param {Buffer} bytes @param {number} at @returns {{ value: number, end: number } | undefined} undefined: there is more to come */
function readVarint(bytes, at) {
  let value = 0
  for (let i = 0; i < 4; i++) {
    if (at + i >= bytes.length) return undefined
    value += (bytes[at + i] & 0x7f) * 128 ** i
    if (bytes[at + i] < 0x80) return { value, end: at + i + 1 }
  }
  throw new Error('a length is malformed')
}

/** @param {number} value */
function varint(value) {
  const bytes = []
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0))
    value >>= 7
  } while (value > 0)
  return Buffer.from(bytes)
}

/** @param {number} value */
const uint16 = (value) => Buffer.of(value >> 8, value & 0xff)

/** @param {string} value */
function text(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint16(bytes.length), bytes])
}

module.exports = { Broker, matches }
