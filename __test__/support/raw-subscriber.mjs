// A subscriber of single packets: it shows what a broker sends, whatever a client library would make of it.

import { once } from 'node:events'
import { connect } from 'node:net'
import { waitFor } from '../../tools/servers/index.mjs'
import { firstPacket, packet } from './scripted-broker.mjs'

const [CONNACK, PUBLISH, PUBREL, SUBACK] = [2, 3, 6, 9]

/**
 * Connects, and subscribes at this QoS. It ends when the test ends.
 *
 * @param {any} t
 * @param {number} port
 * @param {{ version?: 4 | 5, clientId: string, clean?: boolean, filters?: string[], qos?: number }} options
 *   no `filters`: those of the session that the broker kept
 */
export async function startRawSubscriber(t, port, { version = 4, clientId, clean = true, filters = [], qos = 1 }) {
  const subscriber = new RawSubscriber(port, version)
  t.after(() => subscriber.cut())
  await subscriber.open(clientId, clean)
  if (filters.length > 0) await subscriber.subscribe(filters, qos)
  return subscriber
}

class RawSubscriber {
  /** The messages that came, in their order. */
  messages = /** @type {{ topic: string, payload: string, id: number, qos: number, dup: boolean, retain: boolean }[]} */ ([])
  /** The packet ids of the PUBRELs that came. */
  released = /** @type {number[]} */ ([])
  /** The reason code of each filter. */
  granted = /** @type {number[]} */ ([])
  isClosed = false

  #socket
  #version
  #isAccepted = false

  constructor(port, version) {
    this.#version = version
    this.#socket = connect(port, '127.0.0.1')
    this.#socket.on('error', () => {})
    this.#socket.on('close', () => (this.isClosed = true))
    let buffer = Buffer.alloc(0)
    this.#socket.on('data', (data) => {
      buffer = Buffer.concat([buffer, data])
      for (let next; (next = firstPacket(buffer)); buffer = buffer.subarray(next.end)) this.#hear(buffer[0], next)
    })
  }

  async open(clientId, clean) {
    await once(this.#socket, 'connect')
    const isV5 = this.#version === 5
    // As millrace does: a receive maximum of 65,535. A session that outlives its connection has an expiry interval of 600 s.
    const all = [0x21, 255, 255, ...(clean ? [] : [0x11, 0, 0, 2, 0x58])]
    const properties = isV5 ? [all.length, ...all] : []
    const id = Buffer.from(clientId)
    const head = [0, 4, ...Buffer.from('MQTT'), this.#version, clean ? 2 : 0, 0, 60]
    this.send(packet(0x10, [...head, ...properties, id.length >> 8, id.length & 255, ...id]))
    await waitFor(() => this.#isAccepted, { message: 'CONNACK' })
  }

  async subscribe(filters, qos) {
    const listed = filters.flatMap((filter) => {
      const name = Buffer.from(filter)
      return [name.length >> 8, name.length & 255, ...name, qos]
    })
    this.send(packet(0x82, [0, 1, ...(this.#version === 5 ? [0] : []), ...listed]))
    await waitFor(() => this.granted.length === filters.length, { message: 'SUBACK' })
  }

  /** @param {number[]} ids */
  acknowledge(ids) {
    this.send(Buffer.concat(ids.map((id) => packet(0x40, [id >> 8, id & 255]))))
  }

  /** @param {Buffer} bytes */
  send(bytes) {
    this.#socket.write(bytes)
  }

  /** Ends the connection without a word. */
  cut() {
    this.#socket.destroy()
  }

  #hear(first, { type, body }) {
    const isV5 = this.#version === 5
    if (type === CONNACK) this.#isAccepted = body[1] === 0
    if (type === SUBACK) this.granted.push(...body.subarray(isV5 ? 3 + body[2] : 2))
    if (type === PUBREL) this.released.push(body.readUInt16BE(0))
    if (type !== PUBLISH) return
    const qos = (first >> 1) & 3
    let at = 2 + body.readUInt16BE(0)
    const topic = body.toString('utf8', 2, at)
    const id = qos > 0 ? body.readUInt16BE(at) : 0
    if (qos > 0) at += 2
    // Shorter than 128 bytes.
    if (isV5) at += 1 + body[at]
    this.messages.push({ topic, payload: body.toString('utf8', at), id, qos, dup: Boolean(first & 8), retain: Boolean(first & 1) })
  }
}
